import { existsSync } from "node:fs";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLogger } from "../../../src/base/logger.js";
import { SystemClock } from "../../../src/base/system-clock.js";
import { createIdentityService } from "../../../src/csi/identity.js";
import { CsiServer } from "../../../src/csi/server.js";
import type { CsiService } from "../../../src/csi/service.js";
import { csiProto, TestCsiClient } from "../../support/csi-client.js";

describe("CsiServer", () => {
  let directory: string;
  let socketPath: string;
  const identity = createIdentityService({ version: "1" }, { probe: () => Promise.resolve() });
  const open = (services: readonly CsiService[] = [identity]): CsiServer =>
    new CsiServer({ socketPath, services }, { proto: csiProto, clock: new SystemClock(), logger: silentLogger });

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "hawser-server-"));
    socketPath = join(directory, "deep", "csi.sock");
  });
  afterEach(() => rm(directory, { recursive: true }));

  it("makes its folder, serves for the owner only, and removes the socket", async () => {
    const server = open();
    await server.start();
    expect((await stat(socketPath)).mode & 0o777).toBe(0o600);
    await server.close();
    await server.close();
    expect(existsSync(socketPath)).toBe(false);
  });

  it("takes the place of a socket a killed process left", async () => {
    socketPath = join(directory, "csi.sock");
    // A listener that is closed without unlinking leaves what a kill leaves.
    const dead = createServer();
    await new Promise<void>((resolve) => dead.listen(`${socketPath}.was`, resolve));
    const { rename } = await import("node:fs/promises");
    await rename(`${socketPath}.was`, socketPath);
    await new Promise((resolve) => dead.close(resolve));
    expect(existsSync(socketPath)).toBe(true);
    const server = open();
    await server.start();
    const client = new TestCsiClient(socketPath);
    expect((await client.call("GetPluginInfo")).name).toBe("csi.hawser.dev");
    client.close();
    await server.close();
  });

  it("leaves a socket alone that is served, and a file that is none", async () => {
    const first = open();
    await first.start();
    await expect(open().start()).rejects.toMatchObject({ code: "CSI_FAILED_PRECONDITION" });
    const client = new TestCsiClient(socketPath);
    expect((await client.call("GetPluginInfo")).name).toBe("csi.hawser.dev");
    client.close();
    await first.close();
    await writeFile(socketPath, "precious");
    await expect(open().start()).rejects.toThrow("no socket");
    expect(existsSync(socketPath)).toBe(true);
  });

  it("tells a call that its caller is gone", async () => {
    let seen: AbortSignal | undefined;
    let started = (): void => undefined;
    const isStarted = new Promise<void>((resolve) => (started = resolve));
    let ended = (): void => undefined;
    const isEnded = new Promise<void>((resolve) => (ended = resolve));
    const slow: CsiService = {
      name: "Node",
      methods: {
        NodeGetInfo: (_request, { signal }) => {
          seen = signal;
          started();
          return new Promise((_resolve, reject) =>
            signal.addEventListener("abort", () => {
              ended();
              reject(signal.reason as Error);
            }),
          );
        },
      },
    };
    const server = open([slow]);
    await server.start();
    const client = new TestCsiClient(socketPath);
    const call = client.call("NodeGetInfo", {}, 300);
    await isStarted;
    await expect(call).rejects.toMatchObject({ status: "DEADLINE_EXCEEDED" });
    await isEnded;
    expect(seen?.reason).toMatchObject({ code: "CSI_CANCELLED" });
    client.close();
    await server.close();
  });

  it("finishes a running call before it closes", async () => {
    let release = (): void => undefined;
    let started = (): void => undefined;
    const isStarted = new Promise<void>((resolve) => (started = resolve));
    const held = new Promise<void>((resolve) => (release = resolve));
    const slow: CsiService = {
      name: "Node",
      methods: {
        NodeGetInfo: async () => {
          started();
          await held;
          return { nodeId: "n" };
        },
      },
    };
    const server = open([slow]);
    await server.start();
    const client = new TestCsiClient(socketPath);
    const call = client.call("NodeGetInfo");
    await isStarted;
    const closing = server.close();
    release();
    expect((await call).nodeId).toBe("n");
    client.close();
    await closing;
  });

  it("refuses a service with an RPC the interface does not have", () => {
    expect(() => open([{ name: "Identity", methods: { Dance: () => Promise.resolve({}) } }])).toThrow("Identity.Dance");
  });
});
