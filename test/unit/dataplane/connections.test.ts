import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { AppError } from "../../../src/base/errors.js";
import type { VolumeManager } from "../../../src/dataplane/volume-manager.js";
import { codeOf, DataplaneWorld, until } from "../../support/dataplane-world.js";

let world: DataplaneWorld;
let manager: VolumeManager;

beforeEach(async () => {
  world = await DataplaneWorld.create();
  manager = await world.start();
});
afterEach(() => world.destroy());

const portal = { host: "192.0.2.2", port: 3261 };

async function restart(sessions: number): Promise<void> {
  await manager.stop();
  world.crash();
  manager = await world.start();
  await until(world, "the volume is back", () => world.array.sessions.length === sessions);
}

async function onlyRecord(): Promise<string> {
  const [name] = await readdir(world.recordDirectory);
  return join(world.recordDirectory, name ?? "");
}

describe("settings of the initiator", () => {
  const settings = { connections: 4, connectionPolicy: "weighted-path", connectionWeights: [1, 2, 3, 4] } as const;

  it("reach the initiator, and again after a restart", async () => {
    await manager.attach(world.request({ settings }));
    expect(world.array.last().request.settings).toEqual(settings);
    await restart(2);
    expect(world.array.last().request.settings).toEqual(settings);
  });

  it("are not needed: nothing is asked of the initiator then", async () => {
    await manager.attach(world.request());
    expect(world.array.last().request).not.toHaveProperty("settings");
  });

  it("hold until the volume is detached, and are then those of the next attach", async () => {
    await manager.attach(world.request({ settings }));
    expect(await codeOf(manager.attach(world.request({ settings: { connections: 2 } })))).toBe("resolved");
    expect(world.array.sessions).toHaveLength(1);
    await manager.detach("vol-1");
    await manager.attach(world.request());
    expect(world.array.last().request).not.toHaveProperty("settings");
  });

  it("of a newer version in a record are passed over, not fatal", async () => {
    await manager.attach(world.request({ settings }));
    await manager.stop();
    world.crash();
    const path = await onlyRecord();
    await writeFile(
      path,
      (await readFile(path, "utf8")).replace('"connections": "4"', '"connections": "4", "future": "1"'),
    );
    expect(await readFile(path, "utf8")).toContain("future");
    manager = await world.start();
    await until(world, "the volume is back", () => world.array.sessions.length === 2);
    expect(world.array.last().request.settings).toEqual(settings);
  });
});

describe("the connections of an attached volume", () => {
  it("change their policy at once and for the next process", async () => {
    await manager.attach(world.request({ settings: { connections: 2 } }));
    await manager.setConnectionPolicy("vol-1", "fail-over-only");
    expect(world.array.last().policy).toBe("fail-over-only");
    expect((await manager.get("vol-1"))?.sessions[0]?.connectionPolicy).toBe("fail-over-only");
    await restart(2);
    expect(world.array.last().request.settings).toEqual({ connections: 2, connectionPolicy: "fail-over-only" });
  });

  it("are added and taken away", async () => {
    await manager.attach(world.request());
    const cid = await manager.addConnection("vol-1", { portal, weight: 5, isStandby: true });
    expect((await manager.get("vol-1"))?.sessions[0]?.connections).toMatchObject([
      { cid: 0 },
      { cid, portal: "192.0.2.2:3261", weight: 5, isStandby: true },
    ]);
    await manager.removeConnection("vol-1", cid);
    expect((await manager.get("vol-1"))?.sessions[0]?.connections).toHaveLength(1);
  });

  it("are not those of a volume that is not attached", async () => {
    expect(await codeOf(manager.setConnectionPolicy("vol-1", "round-robin"))).toBe("VOLUME_NOT_FOUND");
    await manager.attach(world.request());
    await manager.detach("vol-1");
    expect(await codeOf(manager.setConnectionPolicy("vol-1", "round-robin"))).toBe("VOLUME_NOT_FOUND");
    expect(await codeOf(manager.addConnection("vol-1", { portal }))).toBe("VOLUME_NOT_FOUND");
    expect(await codeOf(manager.removeConnection("vol-1", 0))).toBe("VOLUME_NOT_FOUND");
  });

  it("leave a volume that failed when its session gives up, until it is attached anew", async () => {
    await manager.attach(world.request({ settings: { maxConnectionRetries: 3 } }));
    const reason = new AppError("session", "SESSION_UNAVAILABLE", "no path after 3 attempts");
    world.array.last().events.emit({ kind: "closed", reason });
    expect(await manager.get("vol-1")).toMatchObject({
      state: "failed",
      reason: "its session was given up: no path after 3 attempts",
    });
    expect(await codeOf(manager.attach(world.request()))).toBe("VOLUME_FAILED");
    await manager.detach("vol-1");
    await manager.attach(world.request());
    world.array.last().events.emit({ kind: "closed", reason: undefined });
    expect((await manager.get("vol-1"))?.state).toBe("attached");
  });

  it("tell the operator what became of them", async () => {
    await manager.attach(world.request());
    const { events } = world.array.last();
    events.emit({ kind: "connection-added", cid: 1, portal });
    const reason = new AppError("transport", "TRANSPORT_RESET", "the peer broke the connection");
    events.emit({ kind: "connection-lost", cid: 1, portal, isRecovering: true, reason });
    events.emit({ kind: "connection-lost", cid: 2, portal, isRecovering: false, reason });
    events.emit({ kind: "connection-recovered", cid: 1, reassignedTasks: 3 });
    events.emit({ kind: "connection-removed", cid: 1, portal });
    expect(manager.recentEvents().slice(-5)).toMatchObject([
      { kind: "connection-added", message: "connection 1 over 192.0.2.2:3261 carries commands" },
      { kind: "connection-lost", message: expect.stringContaining("its commands go on over the others") },
      { kind: "connection-lost", message: expect.stringContaining("the session begins anew") },
      { kind: "connection-recovered", message: "3 commands of connection 1 were moved to others" },
      { kind: "connection-removed" },
    ]);
    expect((await manager.get("vol-1"))?.state).toBe("attached");
  });
});
