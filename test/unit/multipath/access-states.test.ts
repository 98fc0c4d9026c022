import { BlockError } from "../../../src/block/errors.js";
import { hardwareError, pathGone } from "../../support/scripted-path.js";
import { MultipathWorld } from "./world.js";

const notReady = (): BlockError =>
  new BlockError("BLOCK_UNAVAILABLE", "NOT READY: target port in standby state", { retry: "other-path" });

describe("access states", () => {
  it("decide which paths are used", async () => {
    const world = await MultipathWorld.up({
      paths: 4,
      states: ["standby", "active-non-optimized", "active-optimized", "active-optimized"],
    });
    for (let count = 0; count < 10; count += 1) await world.device.flush();
    expect(world.counts()).toEqual({ a: 0, b: 0, c: 5, d: 5 });
    expect(world.status("a")).toMatchObject({ state: "up", accessState: "standby", portGroup: 1, isChosen: false });
  });

  it("are read before a path that comes up is used", async () => {
    const world = new MultipathWorld({ paths: 1, states: ["standby"] });
    world.path("a").up();
    const outcome = world.read();
    await world.clock.advance(0);
    expect(outcome.state).toBe("pending");
    expect(world.counts()).toEqual({ a: 0 });
    await world.device.close();
  });

  it("are followed as soon as a change is heard", async () => {
    const world = await MultipathWorld.up({ states: ["active-optimized", "standby"] });
    world.access?.change(1, { state: "standby" });
    world.access?.change(2, { state: "active-optimized" });
    world.path("a").tellGroups();
    await world.device.flush();
    expect(world.counts()).toEqual({ a: 0, b: 1 });
    expect(world.pathEvents.slice(-2)).toEqual([
      { kind: "access-state-changed", pathId: "a", message: "port group 1 is standby, was active-optimized" },
      { kind: "access-state-changed", pathId: "b", message: "port group 2 is active-optimized, was standby" },
    ]);
  });

  it("are read again when a path says that it takes no requests", async () => {
    const world = await MultipathWorld.up({ states: ["active-optimized", "standby"] });
    world.access?.change(1, { state: "standby" });
    world.access?.change(2, { state: "active-optimized" });
    world.path("a").answer = notReady;
    const outcome = world.read();
    await world.clock.advance(0);
    expect(outcome.state).toBe("done");
    expect(world.counts()).toEqual({ a: 1, b: 1 });
    // What it failed for is its access state: it is not looked at for ever.
    await world.clock.advance(100);
    expect(world.states()).toBe("a up, b up");
  });

  it("are read over another path when the one that failed cannot tell", async () => {
    const world = await MultipathWorld.up({ states: ["active-optimized", "standby"] });
    world.access?.change(2, { state: "active-optimized" });
    world.path("a").answer = () => pathGone("a");
    world.path("a").readGroupsError = pathGone("a");
    const outcome = world.read();
    await world.clock.advance(0);
    expect(outcome.state).toBe("done");
    expect(world.counts()).toEqual({ a: 1, b: 1 });
    await world.device.close();
  });

  it("are read again after a failure of the unit too: it may be in a transition", async () => {
    const world = await MultipathWorld.up({ states: ["active-optimized", "standby"], retryCount: 0 });
    const [a] = world.paths;
    a!.answer = hardwareError;
    const before = a!.groupReadings;
    const outcome = world.read();
    await world.clock.advance(0);
    expect(a!.groupReadings).toBeGreaterThan(before);
    expect(outcome.state).toBe("failed");
  });

  it("make a path suspect when they cannot be read, until they can", async () => {
    const world = new MultipathWorld({ paths: 1, states: ["active-optimized"] });
    world.path("a").readGroupsError = pathGone("a");
    world.path("a").up();
    await world.clock.advance(1_000);
    expect(world.status("a")).toMatchObject({
      state: "suspect",
      reason: "its access states could not be read: path a is gone",
    });
    world.path("a").readGroupsError = undefined;
    await world.clock.advance(5_000);
    expect(world.states()).toBe("a up");
    expect(world.clock.pendingTimers).toBe(0);
  });

  it("are read again with growing pauses while every path is in a transition", async () => {
    const world = await MultipathWorld.up({ states: ["transitioning", "transitioning"] });
    const outcome = world.read();
    const readings = (): number => world.paths.reduce((sum, path) => sum + path.groupReadings, 0);
    const before = readings();
    await world.clock.advance(1_000);
    expect(readings() - before).toBeGreaterThanOrEqual(2);
    await world.clock.advance(59_000);
    expect(readings() - before).toBeLessThan(160);
    world.access?.change(2, { state: "active-optimized" });
    await world.clock.advance(1_000);
    expect(outcome.state).toBe("done");
    await world.clock.advance(60_000);
    expect(world.clock.pendingTimers).toBe(0);
  });

  it("are read for a minute after a change, so that the next is followed though nothing tells of it", async () => {
    const world = await MultipathWorld.up({ states: ["active-optimized", "standby"] });
    world.access?.change(1, { state: "active-non-optimized" });
    world.path("a").tellGroups();
    for (let round = 0; round < 3; round += 1) {
      world.access?.change(2, { state: "active-optimized" });
      await world.clock.advance(900);
      expect(world.status("b")).toMatchObject({ accessState: "active-optimized", isChosen: true });
      world.access?.change(2, { state: "standby" });
      await world.clock.advance(900);
      expect(world.status("a")).toMatchObject({ isChosen: true });
    }
    await world.clock.advance(61_000);
    expect(world.clock.pendingTimers).toBe(0);
  });

  it("of a group that was not reported do not keep a path from being used", async () => {
    const world = new MultipathWorld({ paths: 1, states: ["active-optimized"] });
    world.path("a").portGroup = 9;
    world.path("a").up();
    await world.clock.advance(0);
    await world.device.flush();
    expect(world.status("a")).toMatchObject({ isChosen: true, accessState: undefined, portGroup: 9 });
  });
});

describe("setting access states", () => {
  const standby = { states: ["standby", "standby"], canSetPortGroups: true } as const;

  it("asks for the group of the first path when all are on standby", async () => {
    const world = await MultipathWorld.up(standby);
    const outcome = world.read();
    await world.clock.advance(0);
    expect(world.path("a").changesAsked).toEqual([{ group: 1, state: "active-optimized" }]);
    expect(world.path("b").changesAsked).toEqual([]);
    expect(outcome.state).toBe("done");
    expect(world.counts()).toEqual({ a: 1, b: 0 });
    expect(world.kinds()).toContain("access-state-set a");
    await world.device.close();
    expect(world.clock.pendingTimers).toBe(0);
  });

  it("asks at most every five seconds when it is refused, and reads the states meanwhile", async () => {
    const world = new MultipathWorld(standby);
    for (const path of world.paths) path.setGroupsError = hardwareError();
    for (const path of world.paths) path.up();
    await world.clock.advance(0);
    const [a] = world.paths;
    await world.clock.advance(4_900);
    expect(a!.changesAsked).toHaveLength(1);
    expect(a!.groupReadings).toBeGreaterThan(3);
    await world.clock.advance(25_000);
    expect(a!.changesAsked.length).toBeGreaterThan(3);
    expect(a!.changesAsked.length).toBeLessThan(7);
    expect(world.kinds()).not.toContain("access-state-set a");
    await world.device.close();
    expect(world.clock.pendingTimers).toBe(0);
  });

  it.each<[string, (world: MultipathWorld) => void]>([
    [
      "the unit does not take it",
      (world) => world.paths.forEach((path) => Object.assign(path, { canSetPortGroups: false })),
    ],
    [
      "the group cannot be active",
      (world) => [1, 2].forEach((group) => world.access?.change(group, { supportedStates: ["standby"] })),
    ],
    ["a transition is under way", (world) => world.access?.change(2, { state: "transitioning" })],
    ["a path takes requests", (world) => world.access?.change(2, { state: "active-non-optimized" })],
  ])("does not ask when %s", async (_name, arrange) => {
    const world = new MultipathWorld(standby);
    arrange(world);
    for (const path of world.paths) path.up();
    await world.clock.advance(20_000);
    expect(world.paths.flatMap(({ changesAsked }) => changesAsked)).toEqual([]);
    await world.device.close();
  });
});
