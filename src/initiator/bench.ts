import { AppError } from "../base/errors.js";
import type { Clock } from "../base/clock.js";
import type { Random } from "../base/random.js";
import type { BlockDevice } from "../block/device.js";

export type BenchMode = "randread" | "randwrite" | "read" | "write";

export interface BenchOptions {
  readonly device: BlockDevice;
  /** The write modes overwrite the device. */
  readonly mode: BenchMode;
  /** Length of one operation: a multiple of the device's blocks, at most the device. */
  readonly blockBytes: number;
  /** Operations in flight. */
  readonly queueDepth: number;
  readonly runtimeMs: number;
}

export interface BenchResult {
  readonly mode: BenchMode;
  readonly blockBytes: number;
  readonly queueDepth: number;
  readonly operations: number;
  readonly elapsedMs: number;
  readonly iops: number;
  /** Decimal: 10^6 bytes per second. */
  readonly megabytesPerSecond: number;
  /** Percentiles of the time from the call to its end. */
  readonly p50Micros: number;
  readonly p99Micros: number;
  readonly p999Micros: number;
  readonly maximumMicros: number;
}

/** Latencies are kept in buckets of a fixed relative width, so that a long run needs no more memory than a short one. */
const BUCKETS_PER_OCTAVE = 16;
const BUCKETS = 32 * BUCKETS_PER_OCTAVE;
const NANOS_PER_MS = 1e6;

/**
 * Keeps `queueDepth` operations in flight on `device` for `runtimeMs` and measures them. Rejects with the first error of
 * the device, after all operations have settled, and with BENCH_OPTIONS_INVALID.
 */
export async function runBench(
  options: BenchOptions,
  dependencies: { readonly clock: Clock; readonly random: Random },
): Promise<BenchResult> {
  checkOptions(options);
  const run = new BenchRun(options, dependencies);
  const settled = await Promise.allSettled(Array.from({ length: options.queueDepth }, () => run.worker()));
  const failure = settled.find((result) => result.status === "rejected");
  if (failure !== undefined) throw failure.reason;
  return run.result();
}

function checkOptions({ device, blockBytes, queueDepth, runtimeMs }: BenchOptions): void {
  const { sizeBytes, logicalBlockBytes } = device.info;
  const isGood = blockBytes > 0 && blockBytes % logicalBlockBytes === 0 && blockBytes <= sizeBytes;
  if (isGood && queueDepth >= 1 && runtimeMs > 0) return;
  throw new AppError(
    "initiator",
    "BENCH_OPTIONS_INVALID",
    `operations of ${blockBytes} bytes do not fit a device of ${sizeBytes} bytes with blocks of ${logicalBlockBytes}`,
  );
}

class BenchRun {
  readonly #options: BenchOptions;
  readonly #clock: Clock;
  readonly #histogram = new Float64Array(BUCKETS);
  readonly #positions: number;
  readonly #startMs: number;
  readonly #endMs: number;
  #randomState: number;
  #nextPosition = 0;
  #operations = 0;
  #lastMs: number;
  #maximumMs = 0;
  #hasFailed = false;

  constructor(options: BenchOptions, { clock, random }: { readonly clock: Clock; readonly random: Random }) {
    this.#options = options;
    this.#clock = clock;
    this.#positions = Math.floor(options.device.info.sizeBytes / options.blockBytes);
    this.#randomState = random.uint32() | 1;
    this.#startMs = clock.nowMs();
    this.#endMs = this.#startMs + options.runtimeMs;
    this.#lastMs = this.#startMs;
  }

  /** One of the operations in flight, again and again. */
  async worker(): Promise<void> {
    const { device, mode, blockBytes } = this.#options;
    const isWrite = mode === "randwrite" || mode === "write";
    const isRandom = mode === "randread" || mode === "randwrite";
    const buffer = Buffer.alloc(blockBytes, 0xa5);
    let beforeMs = this.#clock.nowMs();
    while (beforeMs < this.#endMs && !this.#hasFailed) {
      const offsetBytes = (isRandom ? this.#randomPosition() : this.#followingPosition()) * blockBytes;
      try {
        await (isWrite ? device.write(offsetBytes, buffer) : device.read(offsetBytes, buffer));
      } catch (error) {
        this.#hasFailed = true;
        throw error;
      }
      const afterMs = this.#clock.nowMs();
      this.#record(afterMs - beforeMs, afterMs);
      beforeMs = afterMs;
    }
  }

  result(): BenchResult {
    const { mode, blockBytes, queueDepth } = this.#options;
    const elapsedMs = Math.max(this.#lastMs - this.#startMs, Number.EPSILON);
    const iops = (this.#operations / elapsedMs) * 1000;
    return {
      mode,
      blockBytes,
      queueDepth,
      operations: this.#operations,
      elapsedMs,
      iops,
      megabytesPerSecond: (iops * blockBytes) / 1e6,
      p50Micros: this.#percentile(0.5),
      p99Micros: this.#percentile(0.99),
      p999Micros: this.#percentile(0.999),
      maximumMicros: this.#maximumMs * 1000,
    };
  }

  #record(durationMs: number, nowMs: number): void {
    this.#operations += 1;
    this.#lastMs = nowMs;
    if (durationMs > this.#maximumMs) this.#maximumMs = durationMs;
    const octaves = Math.log2(Math.max(1, durationMs * NANOS_PER_MS));
    const bucket = Math.min(BUCKETS - 1, Math.floor(octaves * BUCKETS_PER_OCTAVE));
    this.#histogram[bucket] = (this.#histogram[bucket] ?? 0) + 1;
  }

  /** The upper edge of the bucket in which the percentile lies. */
  #percentile(share: number): number {
    let left = Math.ceil(this.#operations * share);
    for (const [bucket, count] of this.#histogram.entries()) {
      left -= count;
      if (left <= 0 && count > 0) return 2 ** ((bucket + 1) / BUCKETS_PER_OCTAVE) / 1000;
    }
    return 0;
  }

  /** Xorshift: a system call per operation would be part of what is measured. */
  #randomPosition(): number {
    let state = this.#randomState;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#randomState = state;
    return Math.floor(((state >>> 0) / 0x1_0000_0000) * this.#positions);
  }

  #followingPosition(): number {
    const position = this.#nextPosition;
    this.#nextPosition = (position + 1) % this.#positions;
    return position;
  }
}
