import { MAX_THROUGHPUT_AGE_MS } from "../base/limits.js";

/** Busy time after which a measurement counts for a third (1/e) of what it did. */
const MEMORY_MS = 1_000;
/** The same for what is shown, in real time. */
const SHOWN_MEMORY_MS = 2_000;
/** Less than a hundredth is left of what was shown. */
const SHOWN_IDLE_MS = 5 * SHOWN_MEMORY_MS;

/** How fast one path is, measured from its requests: bytes over the time in which it had any under way. */
export class ThroughputMeter {
  #inFlight = 0;
  #markMs = 0;
  #busyMs = 0;
  #bytes = 0;
  #measuredAtMs = Number.NEGATIVE_INFINITY;
  #shownBytes = 0;
  #shownAtMs = 0;

  begin(nowMs: number): void {
    if (this.#inFlight === 0) this.#markMs = nowMs;
    this.#inFlight += 1;
  }

  /** `doneBytes` is 0 for a request that failed: the time it took counts all the same. */
  end(nowMs: number, doneBytes: number): void {
    const elapsedMs = nowMs - this.#markMs;
    this.#inFlight -= 1;
    this.#markMs = nowMs;
    const share = this.#isStale(nowMs) ? 0 : Math.exp(-elapsedMs / MEMORY_MS);
    this.#busyMs = this.#busyMs * share + elapsedMs;
    this.#bytes = this.#bytes * share + doneBytes;
    if (doneBytes === 0) return;
    this.#measuredAtMs = nowMs;
    this.#shownBytes = this.#shownBytes * this.#shownShare(nowMs) + doneBytes;
    this.#shownAtMs = nowMs;
  }

  /** 0 when it is not known: nothing was measured lately, so the path is worth a try. */
  bytesPerMs(nowMs: number): number {
    return this.#busyMs === 0 || this.#isStale(nowMs) ? 0 : this.#bytes / this.#busyMs;
  }

  /** Of the last seconds of real time, for people; 0 when idle. */
  shownBytesPerSecond(nowMs: number): number {
    return Math.round((this.#shownBytes * this.#shownShare(nowMs) * 1_000) / SHOWN_MEMORY_MS);
  }

  #isStale(nowMs: number): boolean {
    return nowMs - this.#measuredAtMs > MAX_THROUGHPUT_AGE_MS;
  }

  #shownShare(nowMs: number): number {
    const ageMs = nowMs - this.#shownAtMs;
    return ageMs > SHOWN_IDLE_MS ? 0 : Math.exp(-ageMs / SHOWN_MEMORY_MS);
  }
}
