import { Backoff } from "../../../src/base/backoff.js";
import type { Random } from "../../../src/base/random.js";
import { SeededRandom } from "../../../src/base/seeded-random.js";

const always = (fraction: number): Random => ({
  fraction: () => fraction,
  uint32: () => 0,
  bytes: (lengthBytes) => Buffer.alloc(lengthBytes),
});

describe("Backoff", () => {
  it("doubles up to the maximum and starts again after reset", () => {
    const backoff = new Backoff({ initialMs: 100, maximumMs: 500, jitter: 0 }, { random: always(0) });
    expect([1, 2, 3, 4, 5].map(() => backoff.next())).toEqual([100, 200, 400, 500, 500]);
    backoff.reset();
    expect(backoff.next()).toBe(100);
  });

  it("takes the given share of the delay by chance", () => {
    const options = { initialMs: 100, maximumMs: 100, jitter: 0.4 };
    expect(new Backoff(options, { random: always(0) }).next()).toBe(60);
    expect(new Backoff(options, { random: always(0.5) }).next()).toBe(80);
  });

  it("spreads sessions that start together", () => {
    const delays = [1, 2, 3].map((seed) =>
      new Backoff({ initialMs: 1000, maximumMs: 9000 }, { random: new SeededRandom(seed) }).next(),
    );
    expect(new Set(delays).size).toBe(3);
    for (const delayMs of delays) {
      expect(delayMs).toBeGreaterThanOrEqual(500);
      expect(delayMs).toBeLessThan(1000);
    }
  });
});
