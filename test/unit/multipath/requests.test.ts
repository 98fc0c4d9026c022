import { BlockError } from "../../../src/block/errors.js";
import { hardwareError, mediumError, pathGone } from "../../support/scripted-path.js";
import { BLOCK, MultipathWorld } from "./world.js";

describe("a request over several paths", () => {
  it("goes to another path when one fails, and the user does not see it", async () => {
    const world = await MultipathWorld.up();
    world.path("a").answer = () => pathGone("a");
    const outcomes = [world.read(), world.read(), world.write()];
    await world.clock.advance(0);
    expect(outcomes.map(({ state }) => state)).toEqual(["done", "done", "done"]);
    expect(world.counts()).toEqual({ a: 2, b: 3 });
    expect(world.states()).toBe("a suspect, b up");
    expect(world.status("a")).toMatchObject({ errors: 2, reason: "a request failed: path a is gone" });
  });

  it("passes on every operation", async () => {
    const world = await MultipathWorld.up({ paths: 1 });
    const range = { offsetBytes: 0, lengthBytes: BLOCK };
    await world.device.write(0, Buffer.alloc(BLOCK, 7), { fua: true });
    await world.device.flush();
    expect(await world.device.blockStatus(range)).toMatchObject([{ isAllocated: true }]);
    await world.device.unmap([range]);
    await world.device.writeZeroes(range, { mayUnmap: true });
    const target = Buffer.alloc(BLOCK, 1);
    await world.device.read(0, target);
    expect(target.every((byte) => byte === 0)).toBe(true);
    expect(world.path("a").requests).toEqual(["write", "flush", "blockStatus", "unmap", "writeZeroes", "read"]);
    expect(world.status("a")).toMatchObject({
      ...{ readOperations: 1, writeOperations: 1, readBytes: BLOCK, writtenBytes: BLOCK },
      ...{ requestsInFlight: 0, bytesInFlight: 0, errors: 0 },
    });
  });

  it("fails at once with what every path would answer", async () => {
    const world = await MultipathWorld.up();
    world.path("a").answer = mediumError;
    const outcome = world.read();
    await world.clock.advance(0);
    expect(outcome.error).toMatchObject({ code: "BLOCK_IO", retry: "never" });
    expect(world.counts()).toEqual({ a: 1, b: 0 });
    expect(world.states()).toBe("a up, b up");
  });

  it("does not fail with another identity on one path while another path lives", async () => {
    const world = await MultipathWorld.up();
    world.path("a").answer = () => new BlockError("BLOCK_IDENTITY_MISMATCH", "another unit", { retry: "other-path" });
    const outcome = world.read();
    await world.clock.advance(0);
    expect(outcome.state).toBe("done");
  });

  it.each(["BLOCK_UNAVAILABLE", "BLOCK_NO_SUCH_LUN", "BLOCK_IDENTITY_MISMATCH"] as const)(
    "is never given up for %s, however often it is met",
    async (code) => {
      const world = await MultipathWorld.up({ retryCount: 0 });
      for (const path of world.paths) path.answer = () => new BlockError(code, "not here", { retry: "other-path" });
      const outcome = world.read();
      await world.clock.advance(600_000);
      expect(outcome.state).toBe("pending");
      expect(world.device.status().heldRequests).toBeLessThanOrEqual(1);
      // Paths that answer well but fail requests are tried with pauses, not as fast as they can answer.
      expect(world.path("a").requests.length).toBeLessThan(600);
      for (const path of world.paths) path.answer = () => undefined;
      await world.clock.advance(5_000);
      expect(outcome.state).toBe("done");
    },
  );

  it("says nothing of a path that has come back what its former connection left behind", async () => {
    const world = await MultipathWorld.up({ paths: 1, latenciesMs: [10] });
    const outcome = world.read();
    world.path("a").down();
    world.path("a").up();
    await world.clock.advance(20);
    expect(outcome.state).toBe("done");
    expect(world.kinds()).not.toContain("path-suspect a");
  });

  it("tries each path once in a round, and rests between rounds", async () => {
    const world = await MultipathWorld.up({ paths: 3, retryCount: 2, retryIntervalMs: 1_000 });
    for (const path of world.paths) path.answer = hardwareError;
    const outcome = world.write();
    await world.clock.advance(999);
    expect(world.counts()).toEqual({ a: 1, b: 1, c: 1 });
    await world.clock.advance(1);
    expect(world.counts()).toEqual({ a: 2, b: 2, c: 2 });
    expect(outcome.state).toBe("pending");
    await world.clock.advance(1_000);
    expect(world.counts()).toEqual({ a: 3, b: 3, c: 3 });
    expect(outcome.error).toMatchObject({ code: "BLOCK_IO", message: hardwareError().message });
    expect(world.states()).toBe("a up, b up, c up");
    expect(world.clock.pendingTimers).toBe(0);
  });

  it("does not count the failures of paths among its rounds", async () => {
    const world = await MultipathWorld.up({ retryCount: 0 });
    world.path("a").answer = () => pathGone("a");
    world.path("b").answer = hardwareError;
    const outcome = world.read();
    await world.clock.advance(0);
    // The unit has failed it over the only path that can be used.
    expect(outcome.error).toMatchObject({ message: hardwareError().message });
  });

  it("is done in a later round", async () => {
    const world = await MultipathWorld.up({ retryCount: 1 });
    for (const path of world.paths) path.answer = hardwareError;
    const outcome = world.read();
    await world.clock.advance(500);
    world.path("b").answer = () => undefined;
    await world.clock.advance(500);
    expect(outcome.state).toBe("done");
  });

  it("waits for a path when all have gone between two rounds", async () => {
    const world = await MultipathWorld.up({ retryCount: 1 });
    for (const path of world.paths) path.answer = hardwareError;
    const outcome = world.read();
    await world.clock.advance(500);
    for (const path of world.paths) path.down();
    await world.clock.advance(60_000);
    expect(outcome.state).toBe("pending");
    expect(world.device.status().heldRequests).toBe(1);
    world.path("a").answer = () => undefined;
    world.path("a").up();
    await world.clock.advance(0);
    expect(outcome.state).toBe("done");
  });

  it("goes over the other path while the first is cut", async () => {
    const world = await MultipathWorld.up({ policy: "fail-over-only", latenciesMs: [10, 10] });
    const [read, write] = [world.read(), world.write(BLOCK)];
    await world.clock.advance(5);
    world.path("a").down();
    await world.clock.advance(15);
    expect(read.state).toBe("done");
    // Its fate is unknown: the path gives it back only when it is certain that it does not land any more.
    expect(write.state).toBe("pending");
    world.path("b").down();
    world.path("b").up();
    expect(world.path("a").handOvers).toBeGreaterThan(0);
    await world.clock.advance(10);
    expect(write.state).toBe("done");
    expect(world.path("b").requests).toEqual(["read", "write"]);
  });
});

describe("requests without a path", () => {
  it("wait, and go on in their order when a path is back", async () => {
    const world = await MultipathWorld.up();
    for (const path of world.paths) path.down();
    const order: number[] = [];
    const outcomes = [1, 2, 3, 4].map((number) =>
      world.device.write(number * BLOCK, Buffer.alloc(BLOCK)).then(() => order.push(number)),
    );
    await world.clock.advance(3_600_000);
    expect(world.device.status().heldRequests).toBe(4);
    expect(order).toEqual([]);
    world.path("b").up();
    await Promise.all(outcomes);
    expect(order).toEqual([1, 2, 3, 4]);
    expect(world.device.status().heldRequests).toBe(0);
  });

  it("wait for the first path of all, whatever the time limit", async () => {
    const world = new MultipathWorld({ noPathTimeoutMs: 1_000 });
    const outcome = world.read();
    await world.clock.advance(10_000);
    expect(outcome.state).toBe("pending");
    world.path("a").up();
    await world.clock.advance(0);
    expect(outcome.state).toBe("done");
    expect(world.deviceEvents.map(({ kind }) => kind)).toEqual(["info-changed"]);
  });

  it("tell when the last path goes and when one is back", async () => {
    const world = await MultipathWorld.up();
    world.forgetEvents();
    world.path("a").down();
    expect(world.deviceEvents).toEqual([]);
    world.path("b").down();
    world.path("b").up();
    expect(world.deviceEvents).toEqual([
      {
        kind: "unavailable",
        reason: "no path carries requests: a is down (path a is gone), b is down (path b is gone)",
      },
      { kind: "available" },
    ]);
    expect(world.kinds()).toEqual(["path-down a", "path-down b", "no-path", "path-up b", "path-available"]);
  });

  it("fail when there was none for the time given, until one is back", async () => {
    const world = await MultipathWorld.up({ noPathTimeoutMs: 20_000 });
    world.path("a").down();
    await world.clock.advance(30_000);
    world.path("b").down();
    const held = world.read();
    await world.clock.advance(19_999);
    expect(held.state).toBe("pending");
    await world.clock.advance(1);
    expect(held.error).toMatchObject({ code: "MULTIPATH_NO_PATH", layer: "multipath", retry: "other-path" });
    expect(world.kinds()).toContain("no-path-timeout");
    const late = world.read();
    await world.clock.advance(0);
    expect(late.error).toMatchObject({ code: "MULTIPATH_NO_PATH" });
    world.path("b").up();
    const again = world.read();
    await world.clock.advance(0);
    expect(again.state).toBe("done");
    expect(world.clock.pendingTimers).toBe(0);
  });

  it("begin their time anew each time the last path goes", async () => {
    const world = await MultipathWorld.up({ paths: 1, noPathTimeoutMs: 20_000 });
    world.path("a").down();
    await world.clock.advance(19_000);
    world.path("a").up();
    world.path("a").down();
    const held = world.read();
    await world.clock.advance(19_000);
    expect(held.state).toBe("pending");
  });

  it("tell that nothing but another unit is left", async () => {
    const world = await MultipathWorld.up();
    const reason = new BlockError("BLOCK_IDENTITY_MISMATCH", "it is naa.2");
    world.path("a").down({ isRefused: true, reason });
    world.path("b").down();
    world.forgetEvents();
    world.path("b").down({ isRefused: true, reason });
    world.path("b").down({ isRefused: true, reason });
    expect(world.deviceEvents).toEqual([
      {
        kind: "unavailable",
        reason: "no path leads to the volume: a is refused (it is naa.2), b is refused (it is naa.2)",
      },
    ]);
  });
});
