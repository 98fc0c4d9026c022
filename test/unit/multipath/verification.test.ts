import { hardwareError, pathGone } from "../../support/scripted-path.js";
import { MultipathWorld } from "./world.js";

/** A path whose request fails once, and whose probes fail. */
async function suspect(world: MultipathWorld): Promise<void> {
  const a = world.path("a");
  a.probeError = pathGone("a");
  a.answer = () => pathGone("a");
  world.read();
  await world.clock.advance(0);
  a.answer = () => undefined;
}

describe("a suspect path", () => {
  it("is asked with growing pauses, and is back with the first good answer", async () => {
    const world = await MultipathWorld.up();
    await suspect(world);
    const { probes } = world.path("a");
    expect(probes).toBe(0);
    await world.clock.advance(1_000);
    expect(world.path("a").probes).toBeGreaterThanOrEqual(2);
    const before = world.path("a").probes;
    await world.clock.advance(60_000);
    expect(world.path("a").probes - before).toBeGreaterThanOrEqual(11);
    expect(world.path("a").probes - before).toBeLessThanOrEqual(30);
    expect(world.states()).toBe("a suspect, b up");
    world.path("a").probeError = undefined;
    await world.clock.advance(5_000);
    expect(world.states()).toBe("a up, b up");
    expect(world.kinds().slice(-2)).toEqual(["path-suspect a", "path-up a"]);
    expect(world.clock.pendingTimers).toBe(0);
  });

  it("is not used even when it is the last one", async () => {
    const world = await MultipathWorld.up();
    await suspect(world);
    world.path("b").down();
    const outcome = world.read();
    await world.clock.advance(60_000);
    expect(outcome.state).toBe("pending");
    expect(world.path("a").requests).toHaveLength(1);
    world.path("a").probeError = undefined;
    await world.clock.advance(5_000);
    expect(outcome.state).toBe("done");
  });

  it("is not asked while it is down, and is trusted when it is up again", async () => {
    const world = await MultipathWorld.up();
    await suspect(world);
    world.path("a").down();
    const { probes } = world.path("a");
    await world.clock.advance(60_000);
    expect(world.path("a").probes).toBe(probes);
    world.path("a").up();
    expect(world.states()).toBe("a up, b up");
  });

  it("is asked with longer pauses when it fails requests again soon after a good answer", async () => {
    const world = await MultipathWorld.up({ paths: 1 });
    world.path("a").answer = () => pathGone("a");
    world.read();
    await world.clock.advance(60_000);
    // Every try that fails doubles the pause: after the first ten seconds there is one every few seconds.
    expect(world.path("a").requests.length).toBeLessThan(30);
  });
});

describe("path verification", () => {
  it("asks every path that is up once in each period, also those that are not chosen", async () => {
    const world = await MultipathWorld.up({ policy: "fail-over-only", verifyIntervalMs: 30_000 });
    await world.clock.advance(29_999);
    expect(world.paths.map(({ probes }) => probes)).toEqual([0, 0]);
    await world.clock.advance(60_001);
    expect(world.paths.map(({ probes }) => probes)).toEqual([3, 3]);
  });

  it("makes a path suspect that does not answer well", async () => {
    const world = await MultipathWorld.up({ policy: "fail-over-only", verifyIntervalMs: 30_000 });
    world.path("b").probeError = hardwareError();
    await world.clock.advance(30_000);
    expect(world.status("b")).toMatchObject({
      state: "suspect",
      reason: `it was verified, and failed: ${hardwareError().message}`,
    });
    expect(world.deviceEvents.map(({ kind }) => kind)).toEqual(["info-changed"]);
  });

  it("reads the access states where there are any, and follows them", async () => {
    const world = await MultipathWorld.up({ states: ["active-optimized", "standby"], verifyIntervalMs: 30_000 });
    world.access?.change(1, { state: "standby" });
    world.access?.change(2, { state: "active-optimized" });
    await world.clock.advance(30_000);
    expect(world.paths.map(({ probes }) => probes)).toEqual([0, 0]);
    await world.device.flush();
    expect(world.counts()).toEqual({ a: 0, b: 1 });
  });

  it("asks who the unit is behind every path, whatever its access state", async () => {
    const plain = await MultipathWorld.up({ verifyIntervalMs: 30_000 });
    const states = await MultipathWorld.up({ states: ["active-optimized", "standby"], verifyIntervalMs: 30_000 });
    for (const world of [plain, states]) {
      world.path("b").recogniseError = hardwareError();
      await world.clock.advance(30_000);
      expect(world.paths.map(({ recognitions }) => recognitions)).toEqual([1, 1]);
      expect(world.status("b").state).toBe("suspect");
    }
  });

  it("leaves alone what is down, out of service, or off", async () => {
    const world = await MultipathWorld.up({ paths: 3, verifyIntervalMs: 30_000 });
    world.path("a").down();
    world.device.failPath("b");
    await world.clock.advance(30_000);
    expect(world.paths.map(({ probes }) => probes)).toEqual([0, 0, 1]);
    const off = await MultipathWorld.up({ verifyIntervalMs: 0 });
    expect(off.clock.pendingTimers).toBe(0);
  });

  it("forgets an answer that comes when the path is another connection", async () => {
    const world = await MultipathWorld.up({ verifyIntervalMs: 30_000 });
    const a = world.path("a");
    let fail: (reason: unknown) => void = () => undefined;
    a.probe = () => new Promise((_resolve, reject) => (fail = reject));
    await world.clock.advance(30_000);
    a.down();
    a.up();
    fail(pathGone("a"));
    await world.clock.advance(0);
    expect(world.states()).toBe("a up, b up");
  });
});

describe("a path that comes and goes", () => {
  /** Falls three times within a minute, and is up again. */
  function flap(world: MultipathWorld, id: string): void {
    for (let count = 0; count < 3; count += 1) {
      world.path(id).down();
      world.path(id).up();
    }
  }

  it("is left alone for a while", async () => {
    const world = await MultipathWorld.up();
    flap(world, "a");
    expect(world.status("a")).toMatchObject({ state: "damped", isChosen: false, failures: 3 });
    expect(world.kinds()).toContain("path-damped a");
    await world.device.flush();
    await world.device.flush();
    expect(world.counts()).toEqual({ a: 0, b: 2 });
    await world.clock.advance(10_000);
    expect(world.states()).toBe("a up, b up");
    expect(world.clock.pendingTimers).toBe(0);
  });

  it("is left alone for twice as long when it falls again", async () => {
    const world = await MultipathWorld.up();
    flap(world, "a");
    await world.clock.advance(10_000);
    world.path("a").down();
    world.path("a").up();
    await world.clock.advance(19_999);
    expect(world.states()).toBe("a damped, b up");
    await world.clock.advance(1);
    expect(world.states()).toBe("a up, b up");
  });

  it("is used all the same when there is no other", async () => {
    const world = await MultipathWorld.up();
    flap(world, "a");
    world.path("b").down();
    const outcome = world.read();
    await world.clock.advance(0);
    expect(outcome.state).toBe("done");
    expect(world.status("a")).toMatchObject({ state: "damped", isChosen: true });
  });
});
