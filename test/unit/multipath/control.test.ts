import { AppError, CancelledError } from "../../../src/base/errors.js";
import { MAX_PATHS_PER_VOLUME } from "../../../src/base/limits.js";
import { pathGone, ScriptedPath } from "../../support/scripted-path.js";
import { BLOCK, MIB, MultipathWorld, Outcome } from "./world.js";

describe("an operator", () => {
  it("takes a path out of service; what is under way over it ends first", async () => {
    const world = await MultipathWorld.up({ latenciesMs: [10, 10] });
    const outcomes = [world.read(), world.write(BLOCK)];
    world.device.failPath("a");
    world.device.failPath("a");
    expect(world.status("a")).toMatchObject({ state: "failed", isChosen: false, requestsInFlight: 1 });
    await world.clock.advance(10);
    expect(outcomes.map(({ state }) => state)).toEqual(["done", "done"]);
    await Promise.all([world.device.flush(), world.clock.advance(10)]);
    await Promise.all([world.device.flush(), world.clock.advance(10)]);
    expect(world.counts()).toEqual({ a: 1, b: 3 });
    expect(world.kinds().filter((kind) => kind === "path-failed-by-operator a")).toHaveLength(1);
  });

  it("cannot take out the last path that carries requests", async () => {
    const world = await MultipathWorld.up({ states: ["active-optimized", "standby"] });
    expect(() => world.device.failPath("a")).toThrow(expect.objectContaining({ code: "MULTIPATH_LAST_PATH" }));
    world.device.failPath("b");
    expect(() => world.device.failPath("a")).toThrow(expect.objectContaining({ code: "MULTIPATH_LAST_PATH" }));
    world.path("a").down();
    world.device.failPath("a");
    expect(world.states()).toBe("a failed, b failed");
  });

  it("puts a path back, which is looked at first", async () => {
    const world = await MultipathWorld.up();
    world.device.failPath("a");
    world.path("a").probeError = pathGone("a");
    world.device.restorePath("a");
    world.device.restorePath("a");
    await world.clock.advance(1_000);
    expect(world.states()).toBe("a suspect, b up");
    world.path("a").probeError = undefined;
    await world.clock.advance(5_000);
    expect(world.states()).toBe("a up, b up");
    expect(world.kinds().filter((kind) => kind === "path-restored-by-operator a")).toHaveLength(1);
  });

  it("puts back a path that is down, or has become larger, as what it is", async () => {
    const world = await MultipathWorld.up({ paths: 3 });
    world.device.failPath("a");
    world.device.failPath("b");
    world.path("a").down();
    world.path("b").unit = { sizeBytes: 2 * MIB };
    world.path("b").tellInfo();
    world.device.restorePath("a");
    world.device.restorePath("b");
    await world.clock.advance(1_000);
    expect(world.states()).toBe("a down, b suspect, c up");
    expect(world.device.info.sizeBytes).toBe(MIB);
    await world.device.close();
  });

  it("keeps a path out of service that comes and goes meanwhile", async () => {
    const world = await MultipathWorld.up();
    world.device.failPath("a");
    world.path("a").down();
    world.path("a").up();
    expect(world.states()).toBe("a failed, b up");
  });

  it("changes weight and role from the next request on", async () => {
    const world = await MultipathWorld.up({ policy: "round-robin-subset" });
    world.device.changePath("a", { isStandby: true, weight: 4 });
    expect(world.status("a")).toMatchObject({ isStandby: true, weight: 4, isChosen: false });
    world.device.changePath("a", { weight: 5 });
    expect(world.status("a")).toMatchObject({ isStandby: true, weight: 5 });
  });

  it("is told which paths there are when one is not known", async () => {
    const world = new MultipathWorld();
    const unknown = expect.objectContaining({
      code: "MULTIPATH_PATH_UNKNOWN",
      message: "there is no path z; there are a, b",
    });
    expect(() => world.device.failPath("z")).toThrow(unknown);
    expect(() => world.device.restorePath("z")).toThrow(unknown);
    expect(() => world.device.changePath("z", {})).toThrow(unknown);
    await expect(world.device.removePath("z")).rejects.toThrow("there is no path z");
    await expect(new MultipathWorld({ paths: 0 }).device.removePath("z")).rejects.toThrow("there are none");
  });

  it("sees the last thing that happened to a path", async () => {
    const world = await MultipathWorld.up();
    await world.clock.advance(5_000);
    world.path("a").down();
    expect(world.status("a")).toMatchObject({
      ...{ state: "down", reason: "path a is gone", failures: 1, rank: 0 },
      ...{ lastEvent: "path a is gone", lastEventTimeMs: world.clock.wallTimeMs(), accessState: undefined },
    });
  });
});

describe("the paths of a device", () => {
  it("tell once why they cannot be made, and stay connecting", () => {
    const world = new MultipathWorld({ paths: 1 });
    world.path("a").down();
    world.path("a").down({ reason: new AppError("transport", "X", "refused by peer") });
    expect(world.status("a")).toMatchObject({ state: "connecting", reason: "refused by peer", failures: 0 });
    expect(world.kinds()).toEqual(["path-added a", "path-down a"]);
  });

  it("are as many as planned, each once", () => {
    const world = new MultipathWorld({ paths: MAX_PATHS_PER_VOLUME });
    const plan = { rank: 99, weight: 0, isStandby: false };
    const add = (id: string, to: MultipathWorld): void =>
      to.device.addPath(new ScriptedPath({ id, clock: to.clock, disk: to.disk }), plan);
    expect(() => add("new", world)).toThrow("more than 32 paths");
    expect(() => add("a", new MultipathWorld())).toThrow("planned twice");
  });

  it("can be joined late, in the order of their rank", async () => {
    const world = await MultipathWorld.up({ policy: "fail-over-only", failbackDelayMs: 0 });
    const path = new ScriptedPath({ id: "first", clock: world.clock, disk: world.disk });
    world.device.addPath(path, { rank: -1, weight: 0, isStandby: false });
    path.up();
    await world.device.flush();
    expect(path.requests).toEqual(["flush"]);
    expect(world.device.status().paths.map(({ id }) => id)).toEqual(["first", "a", "b"]);
  });

  it("are removed when their requests have ended", async () => {
    const world = await MultipathWorld.up({ latenciesMs: [10, 10] });
    const outcome = world.read();
    const removal = new Outcome(world.device.removePath("a"));
    const again = new Outcome(world.device.removePath("a"));
    await world.clock.advance(9);
    expect(removal.state).toBe("pending");
    expect(world.path("a").isClosed).toBe(false);
    await world.clock.advance(1);
    expect([outcome.state, removal.state, again.state]).toEqual(["done", "done", "done"]);
    expect(world.path("a").isClosed).toBe(true);
    expect(world.states()).toBe("b up");
    expect(world.kinds()).toContain("path-removed a");
    world.path("a").up();
    expect(world.states()).toBe("b up");
  });

  it("give back what they keep when they are removed while down", async () => {
    const world = await MultipathWorld.up({ latenciesMs: [10, 10] });
    const outcome = world.write();
    world.path("a").down();
    await Promise.all([world.device.removePath("a"), world.clock.advance(20)]);
    expect(outcome.state).toBe("done");
    expect(world.path("b").requests).toEqual(["write"]);
  });
});

describe("whenUsable", () => {
  it("resolves when a path takes requests", async () => {
    const world = new MultipathWorld({ paths: 1, states: ["standby"] });
    const usable = new Outcome(world.device.whenUsable());
    world.path("a").up();
    await world.clock.advance(100);
    expect(usable.state).toBe("pending");
    world.access?.change(1, { state: "active-optimized" });
    world.path("a").tellGroups();
    await world.clock.advance(0);
    expect(usable.state).toBe("done");
    await world.device.whenUsable();
  });

  it("ends with its signal", async () => {
    const world = new MultipathWorld();
    const abort = new AbortController();
    const usable = world.device.whenUsable(abort.signal);
    const reason = new CancelledError("multipath", "GIVEN_UP", "nobody waits");
    abort.abort(reason);
    await expect(usable).rejects.toBe(reason);
    await expect(world.device.whenUsable(abort.signal)).rejects.toBe(reason);
    expect(world.device.status().heldRequests).toBe(0);
  });
});

describe("the end of a device", () => {
  it("ends what waits, closes the ports and leaves no timer", async () => {
    const world = await MultipathWorld.up({
      ...{
        paths: 4,
        verifyIntervalMs: 30_000,
        noPathTimeoutMs: 60_000,
        policy: "fail-over-only",
        failbackDelayMs: 9_000,
      },
    });
    const [a, b, c, d] = world.paths;
    for (let count = 0; count < 3; count += 1) {
      a!.down();
      a!.up();
    }
    b!.answer = () => pathGone("b");
    world.read();
    await world.clock.advance(0);
    [a, c, d].forEach((path) => path!.down());
    const held = world.read();
    const usable = new Outcome(world.device.whenUsable());
    await world.clock.advance(0);
    expect(world.clock.pendingTimers).toBeGreaterThan(0);
    const closing = world.device.close();
    expect(world.device.close()).toBe(closing);
    await closing;
    await world.clock.advance(0);
    expect(world.clock.pendingTimers).toBe(0);
    expect(held.error).toMatchObject({ code: "BLOCK_CLOSED", layer: "block" });
    expect(usable.error).toMatchObject({ code: "BLOCK_CLOSED" });
    expect(world.paths.every(({ isClosed }) => isClosed)).toBe(true);
    const late = world.read();
    await world.clock.advance(0);
    expect(late.error).toMatchObject({ code: "BLOCK_CLOSED" });
    const port = new ScriptedPath({ id: "z", clock: world.clock, disk: world.disk });
    expect(() => world.device.addPath(port, { rank: 9, weight: 0, isStandby: false })).toThrow("closed");
  });

  it("ends a pause between two rounds, and what is under way", async () => {
    const world = await MultipathWorld.up({ paths: 2, latenciesMs: [0, 50] });
    world.path("a").answer = () => new AppError("block", "BLOCK_IO", "busy", { retry: "other-path" });
    world.device.failPath("b");
    const pausing = world.read();
    await world.clock.advance(0);
    world.device.restorePath("b");
    await world.clock.advance(500);
    world.device.setPolicy("weighted-path");
    world.device.changePath("a", { weight: 1 });
    const underWay = world.read();
    await world.clock.advance(0);
    expect(world.path("b").outstanding).toBe(1);
    await world.device.close();
    await world.clock.advance(0);
    expect(pausing.error).toMatchObject({ code: "BLOCK_CLOSED" });
    expect(underWay.error).toMatchObject({ code: "BLOCK_CLOSED" });
    expect(world.clock.pendingTimers).toBe(0);
  });

  it("does not wait for a path that is being removed", async () => {
    const world = await MultipathWorld.up({ latenciesMs: [50, 50] });
    const outcome = world.read();
    const removal = new Outcome(world.device.removePath("a"));
    await world.device.close();
    await world.clock.advance(0);
    expect([outcome.state, removal.state]).toEqual(["failed", "done"]);
  });

  it("hears nothing of its ports any more", async () => {
    const world = await MultipathWorld.up({ states: ["active-optimized", "standby"] });
    world.path("a").up();
    await world.device.close();
    world.forgetEvents();
    for (const path of world.paths) path.down();
    await world.clock.advance(0);
    expect(world.pathEvents).toEqual([]);
    expect(world.deviceEvents).toEqual([]);
  });

  it("comes for good when the volume is refused", async () => {
    const world = await MultipathWorld.up();
    for (const path of world.paths) path.down();
    const held = world.read();
    const lost = new AppError("initiator", "RESERVATION_LOST", "node b has the volume");
    world.forgetEvents();
    world.device.refuse(lost);
    world.device.refuse(lost);
    for (const path of world.paths) path.up();
    const late = world.write();
    await world.clock.advance(0);
    expect(held.error).toBe(lost);
    expect(late.error).toBe(lost);
    await expect(world.device.whenUsable()).rejects.toBe(lost);
    expect(world.counts()).toEqual({ a: 0, b: 0 });
    expect(world.deviceEvents).toEqual([{ kind: "unavailable", reason: "node b has the volume" }]);
  });
});
