import { buildForGuest, type GuestBuild } from "../support/guest-build.js";
import { describeNeeding } from "../support/needs.js";
import { expectUmlSuccess, runInUml, UML_NEEDS } from "../support/uml.js";

describeNeeding([...UML_NEEDS, "setpriv"], "protection from memory reclaim", () => {
  let build: GuestBuild;

  beforeAll(async () => {
    build = await buildForGuest(["test/kernel/guest"]);
  });

  afterAll(() => build.remove());

  it("marks every thread, locks the program and lowers the OOM score, in the same process", async () => {
    const result = await runInUml({
      script: `node $BUILD/test/kernel/guest/launcher.js --flag 'a b'`,
      env: { BUILD: build.folder },
    });
    expectUmlSuccess(result);
    const report = JSON.parse(result.output) as { lockedKib: number };
    expect(report).toMatchObject({
      flusher: { isProtected: true, reason: "" },
      isFlusher: true,
      isSameProcess: true,
      threadsMarked: true,
      program: { isProtected: true, reason: "" },
      oom: { isProtected: true, reason: "" },
      oomScore: "-900",
      args: ["--flag", "a b"],
    });
    expect(report.lockedKib).toBeGreaterThan(10_000);
  }, 60_000);

  it("goes on without what it is refused, and says why", async () => {
    const result = await runInUml({
      script: `setpriv --bounding-set -sys_resource,-ipc_lock --inh-caps -sys_resource,-ipc_lock \\
  sh -c 'ulimit -l 64; exec node $BUILD/test/kernel/guest/launcher.js'`,
      env: { BUILD: build.folder },
    });
    expectUmlSuccess(result);
    expect(JSON.parse(result.output)).toMatchObject({
      flusher: { isProtected: false, reason: expect.stringContaining("CAP_SYS_RESOURCE") as string },
      isFlusher: false,
      program: { isProtected: false, reason: expect.stringContaining("CAP_IPC_LOCK") as string },
      oom: { isProtected: false },
      oomScore: "0",
    });
  }, 60_000);
});
