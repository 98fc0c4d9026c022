import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AppError, CancelledError, TimeoutError } from "../../../src/base/errors.js";
import { silentLogger } from "../../../src/base/logger.js";
import { Secret } from "../../../src/base/secret.js";
import type { ConditionUpdate, DataplaneEvent, VolumeCondition } from "../../../src/dataplane/api.js";
import { DataplaneClient } from "../../../src/dataplane/client.js";
import { DataplaneError } from "../../../src/dataplane/errors.js";
import { DataplaneServer } from "../../../src/dataplane/server.js";
import { codeOf } from "../../support/dataplane-world.js";
import { clock, pathStatus, request, ScriptedApi, status, volume } from "./scripted-api.js";

const packageDirectory = process.cwd();

let directory: string;
let socketPath: string;
let api: ScriptedApi;
let server: DataplaneServer;
let client: DataplaneClient;

function newServer(): DataplaneServer {
  return new DataplaneServer(
    { socketPath, packageDirectory, closeTimeoutMs: 200 },
    { api, clock, logger: silentLogger },
  );
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "hawser-control-"));
  socketPath = join(directory, "run", "dataplane.sock");
  api = new ScriptedApi();
  server = newServer();
  await server.start();
  client = new DataplaneClient({ socketPath, packageDirectory, reconnectWaitMs: 1_000 });
});
afterEach(async () => {
  client.close();
  await server.close();
  await rm(directory, { recursive: true, force: true });
});

describe("the control socket", () => {
  it("carries an attach request and its answer unchanged", async () => {
    expect(await client.attach(request)).toEqual(volume);
    const [asked] = api.requests;
    expect({ ...asked, chap: undefined }).toEqual({ ...request, chap: undefined });
    expect(asked?.chap?.secret.reveal()).toEqual(Buffer.from([0, 255, 1, 2]));
    expect(asked?.chap?.mutualSecret?.reveal().toString()).toBe("mutual");
    expect(asked?.chap?.mutualUser).toBe("m");
  });

  it("leaves out what is not there", async () => {
    const { volumeHandle, portals, targetName, lun, expectedId, isReadOnly, headerDigest, dataDigest } = request;
    const plain = {
      ...{ volumeHandle, portals, targetName, lun, expectedId, isReadOnly, headerDigest, dataDigest },
      publicationId: "",
    };
    await client.attach(plain);
    expect(api.requests[0]).toEqual(plain);
    await client.attach({ ...plain, chap: { user: "u", secret: Secret.from("one-way-only") } });
    expect(Object.keys(api.requests[1]?.chap ?? {})).toEqual(["user", "secret"]);
  });

  it("carries every other call", async () => {
    await client.detach("x");
    expect((await client.resize("x")).sizeBytes).toBe(4096);
    await client.markFormatted("x", "ext4");
    expect(await client.get(volume.volumeHandle)).toEqual(status);
    expect(await client.get("unknown")).toBeUndefined();
    expect(await client.list()).toEqual([status, { ...status, volume: undefined, sessions: [] }]);
  });

  it("carries what is asked of the connections of a volume", async () => {
    const portal = { host: "2001:db8::1", port: 3261 };
    await client.setConnectionPolicy("x", "fail-over-only");
    expect(await client.addConnection("x", { portal, weight: 5, isStandby: true })).toBe(7);
    await client.addConnection("x", { portal });
    await client.removeConnection("x", 3);
    expect(api.connectionCalls).toEqual([
      ["x", "fail-over-only"],
      ["x", { portal, weight: 5, isStandby: true }],
      ["x", { portal, weight: 0, isStandby: false }],
      ["x", 3],
    ]);
    expect(await codeOf(client.setConnectionPolicy("x", "fastest" as never))).toBe("VOLUME_INVALID");
    expect(await codeOf(client.addConnection("x", { portal: { host: "", port: 0 } }))).toBe("VOLUME_INVALID");
  });

  it("carries what is asked of the paths of a volume", async () => {
    await client.setPathPolicy("x", "least-service-time");
    await client.changePath("x", "eth1/10.0.0.1->10.0.0.9:3260", { action: "fail" });
    await client.changePath("x", "p", { action: "restore" });
    await client.changePath("x", "p", { weight: 0 });
    await client.changePath("x", "p", { isStandby: false });
    await client.changePath("x", "p", { weight: 65_535, isStandby: true });
    expect(api.pathCalls).toEqual([
      ["x", "least-service-time"],
      ["x", "eth1/10.0.0.1->10.0.0.9:3260", { action: "fail" }],
      ["x", "p", { action: "restore" }],
      ["x", "p", { weight: 0 }],
      ["x", "p", { isStandby: false }],
      ["x", "p", { weight: 65_535, isStandby: true }],
    ]);
    expect(await codeOf(client.setPathPolicy("x", "fastest" as never))).toBe("VOLUME_INVALID");
    expect(await codeOf(client.changePath("x", "p", {}))).toBe("VOLUME_INVALID");
    expect(await codeOf(client.changePath("x", "p", { weight: 65_536 }))).toBe("VOLUME_INVALID");
    expect(await codeOf(client.changePath("x", "p", { action: "forget" as never }))).toBe("VOLUME_INVALID");
  });

  it("gives back what the paths refuse", async () => {
    api.failure = new AppError("multipath", "MULTIPATH_LAST_PATH", "p is the last one");
    await expect(client.changePath("x", "p", { action: "fail" })).rejects.toMatchObject({
      ...{ layer: "multipath", code: "MULTIPATH_LAST_PATH", message: "p is the last one" },
    });
    api.failure = new DataplaneError("VOLUME_NOT_MULTIPATH", "one session");
    await expect(client.setPathPolicy("x", "round-robin")).rejects.toMatchObject({ code: "VOLUME_NOT_MULTIPATH" });
  });

  it("tells how paths and reservation stand, and nothing where there are none", async () => {
    api.status = { ...status, ...pathStatus };
    expect(await client.get(volume.volumeHandle)).toEqual(api.status);
    api.status = status;
    expect(Object.keys((await client.get(volume.volumeHandle)) ?? {})).not.toContain("multipath");
    expect(Object.keys((await client.get(volume.volumeHandle)) ?? {})).not.toContain("reservation");
  });

  it("refuses settings that the dataplane does not know, by name", async () => {
    const wrong = { ...request, settings: { connections: 99 } };
    await expect(client.attach(wrong)).rejects.toMatchObject({
      code: "INITIATOR_SETTING_INVALID",
      message: expect.stringContaining("connections"),
    });
  });

  it("is open to its owner alone", async () => {
    expect((await stat(socketPath)).mode & 0o777).toBe(0o600);
    expect((await stat(join(directory, "run"))).mode & 0o777).toBe(0o700);
  });

  it("gives back the error that was raised", async () => {
    const details = { holders: ["mounted at /x"], volumeHandle: "vol-1" };
    api.failure = new AppError("host", "DEVICE_BUSY", "in use: mounted at /x — unmount it", {
      retry: "same-path",
      details,
    });
    const error = await client.detach("x").catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(AppError);
    expect(error).toMatchObject({
      ...{ layer: "host", code: "DEVICE_BUSY", message: "in use: mounted at /x — unmount it" },
      ...{ retry: "same-path", details },
    });
  });

  it("gives back the kind of the error, too", async () => {
    api.failure = new TimeoutError("session", "SESSION_TIMEOUT", "too slow");
    expect(await client.detach("x").catch((thrown: unknown) => thrown)).toBeInstanceOf(TimeoutError);
    api.failure = new CancelledError("session", "GONE", "withdrawn");
    expect(await client.detach("x").catch((thrown: unknown) => thrown)).toBeInstanceOf(CancelledError);
  });

  it("shortens errors that no header could carry, and survives details that are no JSON", async () => {
    const loop: Record<string, unknown> = { big: "x".repeat(100_000) };
    loop["self"] = loop;
    api.failure = new AppError("host", "HOST_EBUSY", "y".repeat(100_000), { details: loop });
    expect(await client.detach("x").catch((thrown: unknown) => thrown)).toMatchObject({
      ...{ code: "HOST_EBUSY", message: "y".repeat(2_000), details: {} },
    });
  });

  it("turns a failure nobody thought of into an internal error", async () => {
    api.failure = new TypeError("undefined is not a function");
    expect(await codeOf(client.detach("x"))).toBe("DATAPLANE_INTERNAL");
  });

  it("refuses a request whose fields are wrong without repeating their values", async () => {
    const wrong = { ...request, headerDigest: "secret-md5" as never };
    const error = await client.attach(wrong).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "VOLUME_INVALID", message: expect.stringContaining("headerDigest") });
    expect((error as Error).message).not.toContain("secret-md5");
  });

  it("tells the dataplane when the caller withdraws", async () => {
    let withdrawn!: (reason: unknown) => void;
    const seen = new Promise((resolve) => (withdrawn = resolve));
    const controller = new AbortController();
    api.attachHook = (signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => {
          withdrawn(signal.reason);
          reject(signal.reason as Error);
        });
        controller.abort();
      });
    expect(await codeOf(client.attach(request, controller.signal))).toBe("DATAPLANE_CANCELLED");
    expect(await seen).toMatchObject({ code: "DATAPLANE_CANCELLED" });
  });

  it("does not begin a call that was withdrawn before", async () => {
    expect(await codeOf(client.attach(request, AbortSignal.abort()))).toBe("DATAPLANE_CANCELLED");
    expect(api.requests).toHaveLength(0);
  });

  it("ends a call that takes too long, on both sides", async () => {
    const hasty = new DataplaneClient({ socketPath, packageDirectory, operationTimeoutMs: 50 });
    const ended = new Promise<void>((resolve) => {
      api.attachHook = (signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => {
            resolve();
            reject(signal.reason as Error);
          });
        });
    });
    expect(await codeOf(hasty.attach(request))).toBe("DATAPLANE_TIMEOUT");
    await ended;
    hasty.close();
  });
});

const condition: VolumeCondition = {
  ...{ volumeHandle: "vol/ä 1", state: "reconnecting", code: "LOGIN_AUTHENTICATION_FAILED", reason: "refused" },
  ...{ targetName: "iqn.2001-05.com.example:d", backend: "nbd", deviceBytes: 8 * 2 ** 50, lunBytes: 4096 },
  ...{ pathsUp: 1, pathsTotal: 2, pathsMissing: [{ id: "a->b", reason: "naa.2 found", isRefused: true }] },
};

describe("watching volumes", () => {
  it("tells how they stand, then what changes", async () => {
    api.conditions.put(condition);
    api.conditions.putNode("record-damaged", "x.json", "it cannot be read");
    const controller = new AbortController();
    const seen: ConditionUpdate[] = [];
    for await (const update of client.watchVolumes(controller.signal)) {
      seen.push(update);
      if (seen.length === 1) api.conditions.remove(condition.volumeHandle);
      else break;
    }
    const node = [{ kind: "record-damaged", subject: "x.json", message: "it cannot be read" }];
    expect(seen[0]).toEqual({ isComplete: true, volumes: [condition], gone: [], node });
    expect(seen[1]).toEqual({ isComplete: false, volumes: [], gone: [condition.volumeHandle], node });
  });

  it("leaves out conditions of the node that this version does not know", async () => {
    api.conditions.putNode("of-the-future" as never, "", "");
    for await (const { node } of client.watchVolumes(new AbortController().signal)) {
      expect(node).toEqual([]);
      break;
    }
  });

  it("ends when the dataplane goes away, and says which way", async () => {
    const updates = client.watchVolumes(new AbortController().signal);
    expect((await updates.next()).done).toBe(false);
    const next = codeOf(updates.next());
    await server.close();
    expect(["DATAPLANE_STOPPING", "DATAPLANE_UNREACHABLE"]).toContain(await next);
    expect(await codeOf(client.watchVolumes(new AbortController().signal).next())).toBe("DATAPLANE_UNREACHABLE");
  });
});

describe("watching", () => {
  it("gets events as they come, and ends when the signal aborts", async () => {
    const controller = new AbortController();
    const seen: DataplaneEvent[] = [];
    const ticking = setInterval(() => api.events.add("vol-1", "tick", "a message"), 10);
    for await (const event of client.watch(controller.signal)) {
      seen.push(event);
      if (seen.length === 3) controller.abort();
    }
    clearInterval(ticking);
    expect(seen[0]).toMatchObject({ volumeHandle: "vol-1", kind: "tick", message: "a message" });
    expect(seen[0]!.timeMs).toBeGreaterThan(1_600_000_000_000);
  });

  it("goes on after the dataplane was restarted, and says so", async () => {
    const controller = new AbortController();
    const seen: string[] = [];
    const ticking = setInterval(() => api.events.add("vol-1", "tick", ""), 20);
    for await (const event of client.watch(controller.signal)) {
      if (seen.at(-1) !== event.kind) seen.push(event.kind);
      if (seen.length === 1) {
        await server.close();
        server = newServer();
        await server.start();
      }
      if (seen.length === 3) controller.abort();
    }
    clearInterval(ticking);
    expect(seen).toEqual(["tick", "watch-resumed", "tick"]);
  });
});

describe("a dataplane that is not there", () => {
  it("is named with its socket", async () => {
    const lonely = new DataplaneClient({
      ...{ socketPath: join(directory, "none.sock"), packageDirectory, reconnectWaitMs: 50 },
    });
    await expect(lonely.list()).rejects.toMatchObject({
      code: "DATAPLANE_UNREACHABLE",
      message: expect.stringContaining(join(directory, "none.sock")),
    });
    lonely.close();
  });

  it("is waited for while it restarts, and the client needs nothing to find it again", async () => {
    expect(await client.list()).toHaveLength(2);
    await server.close();
    const waiting = client.list();
    server = newServer();
    await server.start();
    expect(await waiting).toHaveLength(2);
    expect(await client.list()).toHaveLength(2);
  });
});

describe("starting to serve", () => {
  it("refuses while another dataplane answers on the socket", async () => {
    expect(await codeOf(newServer().start())).toBe("DATAPLANE_ALREADY_RUNNING");
    expect(await client.list()).toHaveLength(2);
  });

  it("takes over the socket a dead process left", async () => {
    await server.close();
    // A socket file without a listener: bound, then the file kept although the server is gone.
    const { createServer } = await import("node:net");
    const { link, unlink } = await import("node:fs/promises");
    const dead = createServer();
    await new Promise<void>((resolve) => dead.listen(`${socketPath}.old`, resolve));
    await link(`${socketPath}.old`, socketPath);
    await new Promise((resolve) => dead.close(resolve));
    await unlink(`${socketPath}.old`).catch(() => undefined);
    server = newServer();
    await server.start();
    expect(await client.list()).toHaveLength(2);
  });

  it("never removes what is no socket", async () => {
    await server.close();
    await writeFile(socketPath, "precious");
    expect(await codeOf(newServer().start())).toBe("STATE_FAILED");
    expect((await stat(socketPath)).isFile()).toBe(true);
  });

  it("refuses a path no socket can have", async () => {
    const long = new DataplaneServer(
      { socketPath: join(directory, "x".repeat(108)), packageDirectory },
      { api, clock, logger: silentLogger },
    );
    expect(await codeOf(long.start())).toBe("STATE_FAILED");
  });

  it("names what is missing when the package is not complete", () => {
    expect(() => new DataplaneClient({ socketPath, packageDirectory: directory })).toThrow(DataplaneError);
  });
});
