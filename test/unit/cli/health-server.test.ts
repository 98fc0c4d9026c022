import { mkdtempSync, rmSync } from "node:fs";
import { request } from "node:http";
import { connect, createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLogger } from "../../../src/base/logger.js";
import { SystemClock } from "../../../src/base/system-clock.js";
import { csiChecks, socketCheck } from "../../../src/cli/health-checks.js";
import { healthAddress, HealthServer, runChecks, type HealthCheck } from "../../../src/cli/health-server.js";
import { createIdentityService } from "../../../src/csi/identity.js";
import { CsiServer } from "../../../src/csi/server.js";
import { csiProto } from "../../support/csi-client.js";
import { VirtualTime } from "../../support/virtual-time.js";

const clock = new SystemClock();
const fine: HealthCheck = { name: "fine", run: () => Promise.resolve() };
const broken: HealthCheck = { name: "broken", run: () => Promise.reject(new Error("it is broken")) };

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describe("healthAddress", () => {
  it.each([
    ["[::]:9808", { host: "::", port: 9808 }],
    ["0.0.0.0:1", { host: "0.0.0.0", port: 1 }],
    ["localhost:65535", { host: "localhost", port: 65_535 }],
  ])("reads %s", (text, address) => expect(healthAddress(text)).toEqual(address));

  it.each([
    "",
    ":9808",
    "9808",
    "::9808",
    "host",
    "host:0",
    "host:65536",
    "[::1]",
    "[zz]:1",
    "[1.2.3.4]:1",
    "http://h:1",
  ])("refuses %j", (text) => expect(() => healthAddress(text)).toThrow("write HOST:PORT or [IPv6]:PORT"));
});

describe("runChecks", () => {
  it("tells each check's reason", async () => {
    expect(await runChecks([fine, broken], clock)).toEqual({
      status: "failed",
      checks: [
        { name: "fine", ok: true },
        { name: "broken", ok: false, reason: "it is broken" },
      ],
    });
  });

  it("does not wait for ever, and leaves no timer behind", async () => {
    const time = new VirtualTime();
    const report = runChecks([{ name: "stuck", run: () => new Promise(() => undefined) }, fine], time);
    await time.advance(3_000);
    expect((await report).checks[0]).toEqual({ name: "stuck", ok: false, reason: "no answer within 3000 ms" });
    expect(time.pendingTimers).toBe(0);
  });
});

describe("HealthServer", () => {
  let server: HealthServer;
  let port: number;
  let asked: number;

  beforeEach(async () => {
    port = await freePort();
    asked = 0;
    const counted: HealthCheck = {
      name: "counted",
      run: () => {
        asked += 1;
        return new Promise((resolve) => setTimeout(resolve, 20));
      },
    };
    server = new HealthServer(
      { address: { host: "127.0.0.1", port }, alive: [counted], ready: [counted, broken] },
      { clock, logger: silentLogger },
    );
    await server.start();
  });
  afterEach(() => server.close());

  const ask = (path: string, method = "GET"): Promise<{ status: number | undefined; body: string }> =>
    new Promise((resolve, reject) => {
      const call = request({ host: "127.0.0.1", port, path, method, agent: false }, (response) => {
        let body = "";
        response.on("data", (chunk: Buffer) => (body += chunk.toString()));
        response.once("end", () => resolve({ status: response.statusCode, body }));
      });
      call.once("error", reject).end();
    });

  it("answers alive and ready with their reasons", async () => {
    expect(await ask("/healthz")).toEqual({
      status: 200,
      body: '{"status":"ok","checks":[{"name":"counted","ok":true}]}\n',
    });
    const ready = await ask("/readyz?verbose");
    expect(ready.status).toBe(500);
    expect(ready.body).toContain('"reason":"it is broken"');
    expect(await ask("/healthz", "HEAD")).toEqual({ status: 200, body: "" });
  });

  it("knows nothing else", async () => {
    expect((await ask("/")).status).toBe(404);
    expect((await ask("/healthz", "POST")).status).toBe(405);
  });

  it("looks once for many who ask at the same time", async () => {
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask("/healthz")));
    expect(answers.every(({ status }) => status === 200)).toBe(true);
    expect(asked).toBeLessThan(20);
  });

  it("closes although somebody holds a connection and says nothing", async () => {
    const silent = connect(port, "127.0.0.1");
    await new Promise((resolve) => silent.once("connect", resolve));
    await server.close();
    silent.destroy();
  });

  it("says which address it cannot have", async () => {
    const second = new HealthServer(
      { address: { host: "127.0.0.1", port }, alive: [], ready: [] },
      { clock, logger: silentLogger },
    );
    await expect(second.start()).rejects.toMatchObject({
      code: "HEALTH_LISTEN_FAILED",
      message: expect.stringContaining(`127.0.0.1:${port}`) as string,
    });
  });
});

describe("the checks of a process that serves CSI", () => {
  let directory: string;
  let isReady: boolean;
  let server: CsiServer;
  const state = async (): Promise<readonly string[]> => {
    const { alive, ready } = csiChecks({ socketPath: join(directory, "csi.sock"), proto: csiProto }, { clock });
    return [(await runChecks(alive, clock)).status, (await runChecks(ready, clock)).status];
  };

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), "hawser-health-"));
    isReady = true;
    const probe = (): Promise<void> => (isReady ? Promise.resolve() : Promise.reject(new Error("no dataplane")));
    const services = [createIdentityService({ version: "1" }, { probe })];
    const socketPath = join(directory, "csi.sock");
    server = new CsiServer({ socketPath, services }, { proto: csiProto, clock, logger: silentLogger });
    await server.start();
  });
  afterEach(async () => {
    await server.close();
    rmSync(directory, { recursive: true });
  });

  it("follow Probe", async () => {
    expect(await state()).toEqual(["ok", "ok"]);
  });

  it("are alive and not ready without what the process needs: a new start would not bring it", async () => {
    isReady = false;
    expect(await state()).toEqual(["ok", "failed"]);
  });

  it("are not alive when the socket's file is gone, though the server still listens", async () => {
    expect(await state()).toEqual(["ok", "ok"]);
    rmSync(join(directory, "csi.sock"));
    expect(await state()).toEqual(["failed", "failed"]);
  });

  it("see whether a socket is served at all", async () => {
    const check = socketCheck("control-socket", join(directory, "csi.sock"));
    expect((await runChecks([check], clock)).status).toBe("ok");
    await server.close();
    expect((await runChecks([check], clock)).checks[0]?.reason).toContain("ENOENT");
  });
});
