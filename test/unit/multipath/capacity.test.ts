import { BlockError } from "../../../src/block/errors.js";
import { hardwareError, pathGone } from "../../support/scripted-path.js";
import { MIB, MultipathWorld } from "./world.js";

const identity = { id: "naa.6001405000000002", vendor: "HAWSER", product: "memory", revision: "1", serial: "" };

describe("the device's info", () => {
  it("is not known before a path was up", () => {
    const world = new MultipathWorld();
    expect(() => world.device.info).toThrow(expect.objectContaining({ code: "MULTIPATH_NO_PATH" }));
  });

  it("is what the paths have in common, and a new object only when it changes", () => {
    const world = new MultipathWorld();
    world.path("a").up();
    const { info } = world.device;
    expect(info).toEqual(world.disk.info);
    world.path("b").unit = { maxTransferBytes: 65_536, canUnmap: false };
    world.path("b").up();
    expect(world.device.info).toEqual({ ...info, maxTransferBytes: 65_536, canUnmap: false });
    const merged = world.device.info;
    world.path("a").tellInfo();
    expect(world.device.info).toBe(merged);
    expect(world.deviceEvents).toEqual([
      { kind: "info-changed", info },
      { kind: "info-changed", info: merged },
    ]);
  });

  it.each<[string, Parameters<typeof Object.assign>[1]]>([
    ["another unit", { identity }],
    ["another block size", { logicalBlockBytes: 4_096 }],
    ["a smaller unit", { sizeBytes: MIB / 2 }],
  ])("keeps a path out that leads to %s", async (_name, unit) => {
    const world = new MultipathWorld();
    world.path("a").up();
    world.path("b").unit = unit;
    world.path("b").up();
    expect(world.status("b")).toMatchObject({ state: "refused", isChosen: false });
    expect(world.kinds()).toContain("path-refused b");
    await world.device.flush();
    await world.device.flush();
    expect(world.counts()).toEqual({ a: 2, b: 0 });
    expect(world.device.info.identity.id).toBe("naa.6001405000000001");
    // When the array is put right the path is taken in.
    world.path("b").unit = {};
    world.path("b").tellInfo();
    expect(world.states()).toBe("a up, b up");
  });

  it("keeps a path out that becomes another unit while it is up", async () => {
    const world = await MultipathWorld.up();
    world.path("b").unit = { identity };
    world.path("b").tellInfo();
    expect(world.status("b")).toMatchObject({ state: "refused" });
    expect(world.status("b").reason).toContain("expected naa.6001405000000001");
  });
});

describe("a unit that grows", () => {
  it("grows the device when all paths agree", async () => {
    const world = await MultipathWorld.up();
    world.forgetEvents();
    world.disk.resize(2 * MIB);
    await expect(world.device.refresh()).resolves.toMatchObject({ sizeBytes: 2 * MIB });
    expect(world.deviceEvents).toEqual([{ kind: "info-changed", info: world.device.info }]);
    await expect(world.device.refresh()).resolves.toBe(world.device.info);
  });

  it("does not grow it while one path disagrees, which is told with names and sizes", async () => {
    const world = await MultipathWorld.up();
    world.path("a").unit = { sizeBytes: 2 * MIB };
    await expect(world.device.refresh()).rejects.toMatchObject({
      code: "MULTIPATH_CAPACITY_DISAGREES",
      retry: "other-path",
      message: expect.stringContaining("a says 2097152 bytes, b says 1048576 bytes"),
      details: {
        sizes: [
          { id: "a", sizeBytes: 2 * MIB },
          { id: "b", sizeBytes: MIB },
        ],
      },
    });
    expect(world.device.info.sizeBytes).toBe(MIB);
    expect(world.kinds()).toContain("capacity-disagrees");
    // Nothing beyond the old end is asked for, so both serve on.
    expect(world.states()).toBe("a up, b up");
    world.path("b").unit = { sizeBytes: 2 * MIB };
    world.path("b").tellInfo();
    await world.clock.advance(0);
    expect(world.device.info.sizeBytes).toBe(2 * MIB);
  });

  it("does not count a path that cannot answer", async () => {
    const world = await MultipathWorld.up();
    world.disk.resize(2 * MIB);
    world.path("b").refreshError = pathGone("b");
    await expect(world.device.refresh()).resolves.toMatchObject({ sizeBytes: 2 * MIB });
    // Until it can, and says the same, nothing is sent over it: it may end where the device does not.
    expect(world.states()).toBe("a up, b suspect");
    world.path("b").refreshError = undefined;
    await world.clock.advance(1_000);
    expect(world.states()).toBe("a up, b up");
  });

  it("counts a path that comes up while the others are asked", async () => {
    const world = new MultipathWorld();
    const [a, b] = [world.path("a"), world.path("b")];
    a.up();
    let answer: () => void = () => undefined;
    const asked = a.refresh.bind(a);
    a.refresh = async () => {
      await new Promise<void>((resolve) => (answer = resolve));
      return asked();
    };
    a.unit = { sizeBytes: 2 * MIB };
    const refreshing = world.device.refresh();
    await world.clock.advance(0);
    b.up();
    answer();
    await expect(refreshing).rejects.toMatchObject({ code: "MULTIPATH_CAPACITY_DISAGREES" });
    expect(world.device.info.sizeBytes).toBe(MIB);
  });

  it("cannot be told when no path answers, or the unit refuses the question", async () => {
    const world = await MultipathWorld.up();
    for (const path of world.paths) path.refreshError = hardwareError();
    await expect(world.device.refresh()).rejects.toMatchObject({ code: "MULTIPATH_NO_PATH" });
    world.path("a").refreshError = new BlockError("BLOCK_NOT_SUPPORTED", "READ CAPACITY is not known");
    await expect(world.device.refresh()).rejects.toMatchObject({ code: "BLOCK_NOT_SUPPORTED" });
  });

  it("is read anew by a refresh that is called while another is under way", async () => {
    const world = await MultipathWorld.up();
    const first = world.device.refresh();
    world.disk.resize(2 * MIB);
    const second = world.device.refresh();
    await expect(second).resolves.toMatchObject({ sizeBytes: 2 * MIB });
    await first;
  });

  it("grows the device when a path comes up larger and the others agree", async () => {
    const world = new MultipathWorld();
    world.path("a").up();
    world.disk.resize(2 * MIB);
    world.path("b").up();
    expect(world.states()).toBe("a up, b suspect");
    await world.clock.advance(0);
    expect(world.device.info.sizeBytes).toBe(2 * MIB);
    expect(world.states()).toBe("a up, b up");
  });

  it("keeps a path that came up larger suspect until the others agree", async () => {
    const world = new MultipathWorld();
    world.path("a").up();
    world.path("b").unit = { sizeBytes: 2 * MIB };
    world.path("b").up();
    await world.clock.advance(60_000);
    expect(world.status("b")).toMatchObject({
      state: "suspect",
      reason: "it says 2097152 bytes, the device has 1048576",
    });
    // It is told once, however often it is looked at.
    expect(world.kinds().filter((kind) => kind === "capacity-disagrees")).toHaveLength(1);
    world.path("a").unit = { sizeBytes: 2 * MIB };
    await world.clock.advance(5_000);
    expect(world.states()).toBe("a up, b up");
    expect(world.device.info.sizeBytes).toBe(2 * MIB);
    expect(world.clock.pendingTimers).toBe(0);
  });

  it("grows the device when it grew while no path was up", async () => {
    const world = await MultipathWorld.up();
    for (const path of world.paths) path.down();
    world.disk.resize(2 * MIB);
    world.path("b").up();
    const outcome = world.read();
    await world.clock.advance(0);
    expect(outcome.state).toBe("done");
    expect(world.device.info.sizeBytes).toBe(2 * MIB);
  });
});

describe("a unit that shrinks while it is in use", () => {
  it("is followed when all paths agree", async () => {
    const world = await MultipathWorld.up();
    world.disk.resize(MIB / 2);
    world.path("a").tellInfo();
    await world.clock.advance(0);
    expect(world.device.info.sizeBytes).toBe(MIB / 2);
    expect(world.states()).toBe("a up, b up");
  });

  it("is not followed while the other path disagrees, and the smaller path is not used", async () => {
    const world = await MultipathWorld.up();
    world.path("a").unit = { sizeBytes: MIB / 2 };
    world.path("a").tellInfo();
    await world.clock.advance(10_000);
    expect(world.device.info.sizeBytes).toBe(MIB);
    expect(world.states()).toBe("a suspect, b up");
    world.path("a").unit = {};
    world.path("a").tellInfo();
    await world.clock.advance(5_000);
    expect(world.states()).toBe("a up, b up");
  });
});
