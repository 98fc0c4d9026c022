import { ThroughputMeter } from "../../../src/multipath/throughput-meter.js";

/** One request at a time, each of `bytes` and `durationMs`. */
function run(meter: ThroughputMeter, startMs: number, count: number, bytes: number, durationMs: number): number {
  let nowMs = startMs;
  for (let index = 0; index < count; index += 1) {
    meter.begin(nowMs);
    nowMs += durationMs;
    meter.end(nowMs, bytes);
  }
  return nowMs;
}

describe("ThroughputMeter", () => {
  it("knows nothing before a request was done", () => {
    const meter = new ThroughputMeter();
    expect(meter.bytesPerMs(0)).toBe(0);
    expect(meter.shownBytesPerSecond(0)).toBe(0);
    meter.begin(0);
    meter.end(10, 0);
    expect(meter.bytesPerMs(10)).toBe(0);
  });

  it("counts bytes over the time in which requests were under way", () => {
    const meter = new ThroughputMeter();
    const endMs = run(meter, 0, 10, 4_096, 2);
    // Idle time does not count.
    const laterMs = run(meter, endMs + 5_000, 10, 4_096, 2);
    expect(meter.bytesPerMs(laterMs)).toBeCloseTo(2_048);
  });

  it("counts the time of overlapping requests once", () => {
    const meter = new ThroughputMeter();
    meter.begin(0);
    meter.begin(0);
    meter.end(10, 1_000);
    meter.end(10, 1_000);
    expect(meter.bytesPerMs(10)).toBeCloseTo(200);
  });

  it("follows a change of speed within seconds of work", () => {
    const meter = new ThroughputMeter();
    const endMs = run(meter, 0, 100, 1_000, 1);
    const laterMs = run(meter, endMs, 500, 1_000, 10);
    expect(meter.bytesPerMs(laterMs)).toBeGreaterThan(99);
    expect(meter.bytesPerMs(laterMs)).toBeLessThan(105);
  });

  it("forgets a measurement after ten seconds without one", () => {
    const meter = new ThroughputMeter();
    const endMs = run(meter, 0, 10, 1_000, 1);
    expect(meter.bytesPerMs(endMs + 10_000)).toBeCloseTo(1_000);
    expect(meter.bytesPerMs(endMs + 10_001)).toBe(0);
    const laterMs = run(meter, endMs + 20_000, 1, 1_000, 10);
    expect(meter.bytesPerMs(laterMs)).toBeCloseTo(100);
  });

  it("shows the speed of the last seconds, and 0 when idle", () => {
    const meter = new ThroughputMeter();
    const endMs = run(meter, 0, 2_000, 1_000, 10);
    expect(meter.shownBytesPerSecond(endMs) / 100_000).toBeCloseTo(1, 1);
    expect(meter.shownBytesPerSecond(endMs + 2_000) / 100_000).toBeCloseTo(0.37, 1);
    expect(meter.shownBytesPerSecond(endMs + 10_001)).toBe(0);
  });
});
