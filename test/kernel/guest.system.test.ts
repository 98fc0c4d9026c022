import { lioStart, lioTarget } from "../support/lio.js";
import { describeNeeding } from "../support/needs.js";
import { expectUmlSuccess, runInUml, UML_NEEDS } from "../support/uml.js";

describeNeeding([...UML_NEEDS], "the User-Mode Linux guest", () => {
  it("runs a script with nbd, passes variables in and files out", async () => {
    const result = await runInUml({
      script: `modprobe nbd; test -b /dev/nbd0; echo "it says $GREETING" > $RESULTS/greeting; echo done`,
      env: { GREETING: 'it\'s "moored"' },
    });
    expectUmlSuccess(result);
    expect(result.output).toBe("done\n");
    expect(result.files).toEqual({ greeting: `it says it's "moored"\n` });
  }, 60_000);

  it("reports the exit code of a script that fails, and stops at the first failing line", async () => {
    const result = await runInUml({ script: "echo before; false; echo after" });
    expect(result).toMatchObject({ exitCode: 1, output: "before\n" });
    expect(() => expectUmlSuccess(result)).toThrow(/ended with 1/);
  }, 60_000);

  it("kills a guest that does not end", async () => {
    const startMs = performance.now();
    const result = await runInUml({ script: "sleep 600", timeoutMs: 4000 });
    expect(result.exitCode).toBeUndefined();
    expect(performance.now() - startMs).toBeLessThan(20_000);
  }, 60_000);

  it("sets up LIO targets with and without CHAP", async () => {
    const result = await runInUml({
      script: `${lioStart()}
${lioTarget({ iqn: "iqn.2026-11.test:open", errorRecoveryLevel: 2, maxConnections: 4, portals: ["127.0.0.1:3260", "[::1]:3260"] })}
${lioTarget({
  iqn: "iqn.2026-11.test:chap",
  port: 3261,
  blockBytes: 4096,
  lunSizesBytes: [16777216, 33554432],
  acl: {
    initiator: "iqn.2026-11.test:host",
    user: "u",
    password: "secretsecret1",
    mutualUser: "m",
    mutualPassword: "secretsecret2",
  },
})}
cat $LIO/iscsi/iqn.2026-11.test:open/tpgt_1/attrib/default_erl
cat $TPG/acls/iqn.2026-11.test:host/auth/userid_mutual
iscsi-ls -i iqn.2026-11.test:any iscsi://127.0.0.1:3260/
iscsi-inq -i iqn.2026-11.test:any iscsi://[::1]:3260/iqn.2026-11.test:open/0`,
    });
    expectUmlSuccess(result);
    expect(result.output).toMatch(/^2\nm\n/);
    expect(result.output).toContain("Target:iqn.2026-11.test:open");
    expect(result.output).toContain("DIRECT_ACCESS");
  }, 60_000);
});
