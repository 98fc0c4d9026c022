import { MultipathWorld, type WorldOptions } from "./world.js";

const READ_BYTES = 4_096;

/** `depth` users read one after another for `spanMs`; how many requests each path got. */
async function load(options: WorldOptions, spanMs: number, depth: number): Promise<Record<string, number>> {
  const world = await MultipathWorld.up(options);
  return loadOn(world, spanMs, depth);
}

async function loadOn(world: MultipathWorld, spanMs: number, depth: number): Promise<Record<string, number>> {
  const before = world.counts();
  const endMs = world.clock.nowMs() + spanMs;
  const user = async (): Promise<void> => {
    while (world.clock.nowMs() < endMs) await world.device.read(0, Buffer.alloc(READ_BYTES));
  };
  const users = Array.from({ length: depth }, user);
  await world.clock.advance(spanMs + 1_000);
  await Promise.all(users);
  return Object.fromEntries(Object.entries(world.counts()).map(([id, count]) => [id, count - (before[id] ?? 0)]));
}

describe("the policies under load", () => {
  it("spread requests evenly with round-robin, whatever the paths' speed", async () => {
    const counts = await load({ policy: "round-robin", paths: 3, latenciesMs: [1, 5, 20] }, 2_000, 8);
    const each = Object.values(counts);
    expect(Math.max(...each) - Math.min(...each)).toBeLessThanOrEqual(1);
    expect(each[0]).toBeGreaterThan(100);
  });

  it("leave standby paths alone with round-robin-subset until no other is left", async () => {
    const options = { policy: "round-robin-subset", paths: 3, standbyFrom: 2, latenciesMs: [1, 1, 1] } as const;
    const world = await MultipathWorld.up(options);
    expect((await loadOn(world, 100, 4))["c"]).toBe(0);
    expect(world.status("c")).toMatchObject({ isChosen: false, isStandby: true, state: "up" });
    world.path("a").down();
    world.path("b").down();
    const counts = await loadOn(world, 100, 4);
    expect(counts).toMatchObject({ a: 0, b: 0 });
    expect(counts["c"]).toBeGreaterThan(100);
  });

  it("use only the lightest path with weighted-path, and the next when it goes", async () => {
    const options = { policy: "weighted-path", paths: 3, weights: [3, 1, 2], latenciesMs: [1, 1, 1] } as const;
    const world = await MultipathWorld.up(options);
    expect(await loadOn(world, 100, 4)).toMatchObject({ a: 0, c: 0 });
    world.path("b").down();
    expect(await loadOn(world, 100, 4)).toMatchObject({ a: 0, b: 0 });
    world.device.changePath("a", { weight: 0 });
    expect(await loadOn(world, 100, 4)).toMatchObject({ b: 0, c: 0 });
  });

  it("prefer the faster of two paths by their latency with least-queue-depth", async () => {
    const counts = await load({ policy: "least-queue-depth", latenciesMs: [1, 10] }, 2_000, 16);
    expect((counts["a"] ?? 0) / (counts["b"] ?? 0)).toBeGreaterThan(5);
    expect(counts["b"]).toBeGreaterThan(0);
  });

  it("prefer the faster of two paths by their throughput with least-service-time", async () => {
    const counts = await load({ policy: "least-service-time", latenciesMs: [1, 10] }, 2_000, 16);
    expect((counts["a"] ?? 0) / (counts["b"] ?? 0)).toBeGreaterThan(5);
    expect(counts["b"]).toBeGreaterThan(0);
  });

  it("notice with least-service-time that a slow path has become fast", async () => {
    const world = await MultipathWorld.up({ policy: "least-service-time", latenciesMs: [2, 1_000] });
    await loadOn(world, 5_000, 2);
    world.path("b").latencyMs = 1;
    await loadOn(world, 12_000, 2);
    const counts = await loadOn(world, 1_000, 2);
    expect(counts["b"]).toBeGreaterThan((counts["a"] ?? 0) / 2);
  });

  it("use one path with fail-over-only, and go back after the delay", async () => {
    const world = await MultipathWorld.up({ policy: "fail-over-only", failbackDelayMs: 30_000 });
    world.path("a").down();
    world.path("a").up();
    expect(world.status("b").isChosen).toBe(true);
    await world.clock.advance(29_999);
    await world.device.flush();
    expect(world.counts()).toEqual({ a: 0, b: 1 });
    await world.clock.advance(1);
    await world.device.flush();
    expect(world.counts()).toEqual({ a: 1, b: 1 });
    expect(world.kinds().filter((kind) => kind.startsWith("active"))).toEqual([
      "active-path-changed a",
      "active-path-changed b",
      "active-path-changed a",
    ]);
    expect(world.clock.pendingTimers).toBe(0);
  });

  it("begin the delay anew when the better path goes meanwhile", async () => {
    const world = await MultipathWorld.up({ policy: "fail-over-only", failbackDelayMs: 30_000 });
    world.path("a").down();
    world.path("a").up();
    await world.clock.advance(29_000);
    world.path("a").down();
    world.path("a").up();
    await world.clock.advance(29_000);
    expect(world.status("b").isChosen).toBe(true);
    await world.clock.advance(1_000);
    expect(world.status("a").isChosen).toBe(true);
  });

  it("change under load, from the next request on", async () => {
    const world = await MultipathWorld.up({ policy: "fail-over-only", latenciesMs: [1, 1] });
    expect((await loadOn(world, 100, 4))["b"]).toBe(0);
    const running = loadOn(world, 200, 4);
    world.device.setPolicy("round-robin");
    const counts = await running;
    expect(Math.abs((counts["a"] ?? 0) - (counts["b"] ?? 0))).toBeLessThanOrEqual(5);
    expect(world.device.status().policy).toBe("round-robin");
  });
});
