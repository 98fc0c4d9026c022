import { AppError } from "../../../src/base/errors.js";
import type { ConditionUpdate } from "../../../src/dataplane/api.js";
import type { VolumeManager } from "../../../src/dataplane/volume-manager.js";
import type { PathState } from "../../../src/multipath/status.js";
import { codeOf, DataplaneWorld, until } from "../../support/dataplane-world.js";
import { FakePaths } from "../../support/fake-paths.js";

let world: DataplaneWorld;
let manager: VolumeManager;
let paths: FakePaths;

beforeEach(async () => {
  world = await DataplaneWorld.create();
  paths = new FakePaths(["p1", "p2"]);
  world.array.paths = paths;
  manager = await world.start();
});
afterEach(() => world.destroy());

const settings = { multipath: "mpio" } as const;

async function conditionOf(): Promise<ConditionUpdate["volumes"][number] | undefined> {
  const stop = new AbortController();
  for await (const { volumes } of manager.watchVolumes(stop.signal)) return volumes[0];
  return undefined;
}

describe("the paths of an attached volume", () => {
  it("are in its status, with the reservation", async () => {
    const reservation = { mode: "auto", state: "held", key: "0x01", holderKey: "0x01" };
    world.array.reservation = reservation;
    await manager.attach(world.request({ settings }));
    expect(await manager.get("vol-1")).toMatchObject({
      multipath: { policy: "least-queue-depth", paths: [{ id: "p1" }, { id: "p2" }] },
      reservation,
    });
  });

  it("change their policy at once and for the next process", async () => {
    await manager.attach(world.request({ settings }));
    await manager.setPathPolicy("vol-1", "round-robin");
    expect(paths.policy).toBe("round-robin");
    await manager.stop();
    world.crash();
    manager = await world.start();
    await until(world, "the volume is back", () => world.array.sessions.length === 2);
    expect(world.array.last().request.settings).toEqual({ multipath: "mpio", pathPolicy: "round-robin" });
  });

  it("are taken out of service, put back and changed", async () => {
    await manager.attach(world.request({ settings }));
    await manager.changePath("vol-1", "p1", { action: "fail" });
    expect(paths.states()).toEqual(["failed", "up"]);
    await manager.changePath("vol-1", "p1", { action: "restore" });
    expect(paths.states()).toEqual(["up", "up"]);
    await manager.changePath("vol-1", "p2", { weight: 9, isStandby: true });
    expect(paths.status().paths[1]).toMatchObject({ weight: 9, isStandby: true });
  });

  it("say themselves what cannot be", async () => {
    await manager.attach(world.request({ settings }));
    expect(await codeOf(manager.changePath("vol-1", "p9", { action: "fail" }))).toBe("MULTIPATH_PATH_UNKNOWN");
    await manager.changePath("vol-1", "p1", { action: "fail" });
    expect(await codeOf(manager.changePath("vol-1", "p2", { action: "fail" }))).toBe("MULTIPATH_LAST_PATH");
  });

  it("are not those of a volume with one session, nor of one that is not attached", async () => {
    expect(await codeOf(manager.setPathPolicy("vol-1", "round-robin"))).toBe("VOLUME_NOT_FOUND");
    world.array.paths = undefined;
    await manager.attach(world.request());
    await expect(manager.setPathPolicy("vol-1", "round-robin")).rejects.toMatchObject({
      code: "VOLUME_NOT_MULTIPATH",
      message: expect.stringContaining("attach it with multipath: mpio"),
    });
    expect(await codeOf(manager.changePath("vol-1", "p1", { action: "fail" }))).toBe("VOLUME_NOT_MULTIPATH");
    expect(Object.keys((await manager.get("vol-1")) ?? {})).not.toContain("multipath");
    await manager.detach("vol-1");
    expect(await codeOf(manager.changePath("vol-1", "p1", { action: "fail" }))).toBe("VOLUME_NOT_FOUND");
  });

  it("keep their policy as it was when the record cannot be written", async () => {
    await manager.attach(world.request({ settings }));
    const store = world.store();
    await manager.stop();
    world.crash();
    let isFull = false;
    const records = {
      load: () => store.load(),
      remove: (handle: string) => store.remove(handle),
      save: (record: Parameters<typeof store.save>[0]) =>
        isFull ? Promise.reject(new AppError("dataplane", "STATE_FAILED", "no space")) : store.save(record),
    };
    manager = await world.start({ records });
    await until(world, "the volume is back", async () => (await manager.get("vol-1"))?.state === "attached");
    isFull = true;
    expect(await codeOf(manager.setPathPolicy("vol-1", "round-robin"))).toBe("STATE_FAILED");
    expect(paths.policy).toBe("least-queue-depth");
    isFull = false;
  });
});

describe("what happens to paths", () => {
  it("is told to the operator, and what is refused is an error in the log", async () => {
    await manager.attach(world.request({ settings }));
    paths.events.emit({ kind: "path-down", pathId: "p1", message: "no route to host" });
    paths.events.emit({ kind: "no-path", pathId: "", message: "no path is left: I/O waits" });
    paths.events.emit({ kind: "path-refused", pathId: "p2", message: "expected naa.1, found naa.2" });
    expect(manager.recentEvents().slice(-3)).toMatchObject([
      { volumeHandle: "vol-1", kind: "path-down", message: "path p1: no route to host" },
      { volumeHandle: "vol-1", kind: "no-path", message: "no path is left: I/O waits" },
      { volumeHandle: "vol-1", kind: "path-refused", message: "path p2: expected naa.1, found naa.2" },
    ]);
    expect(world.logger.lines.filter((line) => line.startsWith("a path is refused"))).toHaveLength(1);
    await manager.detach("vol-1");
    const before = manager.recentEvents().length;
    paths.events.emit({ kind: "path-up", pathId: "p1", message: "too late" });
    expect(manager.recentEvents()).toHaveLength(before);
  });

  it.each<[PathState, string, boolean]>([
    ["down", "it is looked for", false],
    ["connecting", "it was never up yet", false],
    ["suspect", "a check over it failed", false],
    ["damped", "it comes and goes, and is left alone for a while", false],
    ["refused", "what is behind it is not the volume", true],
  ])("shows in the condition: %s", async (state, reason, isRefused) => {
    await manager.attach(world.request({ settings }));
    expect(await conditionOf()).toMatchObject({ pathsUp: 2, pathsTotal: 2, pathsMissing: [] });
    paths.set("p1", state);
    expect(await conditionOf()).toMatchObject({
      ...{ pathsUp: 1, pathsTotal: 2, pathsMissing: [{ id: "p1", reason, isRefused }] },
    });
    paths.set("p1", state, "no route to host");
    expect((await conditionOf())?.pathsMissing).toEqual([{ id: "p1", reason: "no route to host", isRefused }]);
  });

  it("is not missed in the condition when an operator wanted it", async () => {
    await manager.attach(world.request({ settings }));
    await manager.changePath("vol-1", "p1", { action: "fail" });
    expect(await conditionOf()).toMatchObject({ pathsUp: 1, pathsTotal: 1, pathsMissing: [] });
  });
});

describe("the size in the record", () => {
  const recordOf = async () => (await world.store().load()).records[0];

  it("is what the device showed last, also of a volume that is not attached", async () => {
    const lun = world.array.luns.get("iqn.2026-11.dev.hawser:vol-1");
    await manager.attach(world.request());
    expect((await recordOf())?.sizeBytes).toBe(1_048_576);
    lun?.resize(2_097_152);
    await manager.resize("vol-1");
    expect((await recordOf())?.sizeBytes).toBe(2_097_152);
    await manager.detach("vol-1");
    expect(await recordOf()).toMatchObject({ phase: "detached", sizeBytes: 2_097_152 });
    lun?.resize(4_194_304);
    await manager.attach(world.request());
    expect((await recordOf())?.sizeBytes).toBe(4_194_304);
  });
});

describe("a volume that several nodes may write to", () => {
  it("stays one until it is detached, and the other way round", async () => {
    await manager.attach(world.request({ isShared: true }));
    expect(await codeOf(manager.attach(world.request({ isShared: true })))).toBe("resolved");
    await expect(manager.attach(world.request())).rejects.toMatchObject({
      code: "VOLUME_MISMATCH",
      message: expect.stringContaining("access mode"),
    });
    await manager.detach("vol-1");
    await manager.attach(world.request());
    expect((await world.store().load()).records[0]?.wasShared).toBe(false);
    expect(await codeOf(manager.attach(world.request({ isShared: true })))).toBe("VOLUME_MISMATCH");
    expect(await codeOf(manager.attach(world.request({ isShared: false })))).toBe("resolved");
  });

  it("is taken as it is where the record is of before and does not say", async () => {
    await manager.attach(world.request());
    await manager.stop();
    world.crash();
    const [record] = (await world.store().load()).records;
    if (record === undefined) throw new Error("no record");
    await world.store().save({ ...record, wasShared: undefined });
    expect((await world.store().load()).records[0]).not.toHaveProperty("wasShared");
    manager = await world.start();
    await until(world, "the volume is back", async () => (await manager.get("vol-1"))?.state === "attached");
    expect(await codeOf(manager.attach(world.request({ isShared: true })))).toBe("resolved");
  });
});
