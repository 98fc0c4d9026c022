import type { Clock } from "../base/clock.js";
import type { BlockDevice, BlockExtent, ByteRange, WriteOptions, WriteZeroesOptions } from "./device.js";
import { ForwardingDevice } from "./forwarding-device.js";

export type BlockOperation = "read" | "write" | "flush" | "unmap" | "writeZeroes" | "blockStatus";

/** Counters of one kind of operation since the filter was made. They only grow. */
export interface OperationStats {
  readonly completed: number;
  readonly failed: number;
  /** Of completed operations. */
  readonly bytes: number;
  /** Sum and maximum of the time from call to completion, failed ones included. */
  readonly totalMs: number;
  readonly maximumMs: number;
}

export interface BlockStats {
  readonly inFlight: number;
  readonly operations: Readonly<Record<BlockOperation, OperationStats>>;
}

/** A device that counts what passes through it. */
export interface StatsDevice extends BlockDevice {
  /** The counters now; a copy. */
  stats(): BlockStats;
}

/** Counts and times the operations on `device`. */
export function statsFilter(device: BlockDevice, dependencies: { readonly clock: Clock }): StatsDevice {
  return new CountingDevice(device, dependencies.clock);
}

type MutableStats = { -readonly [Key in keyof OperationStats]: OperationStats[Key] };

const noOperations = (): MutableStats => ({ completed: 0, failed: 0, bytes: 0, totalMs: 0, maximumMs: 0 });

class CountingDevice extends ForwardingDevice implements StatsDevice {
  readonly #clock: Clock;
  #inFlight = 0;
  readonly #operations: Record<BlockOperation, MutableStats> = {
    read: noOperations(),
    write: noOperations(),
    flush: noOperations(),
    unmap: noOperations(),
    writeZeroes: noOperations(),
    blockStatus: noOperations(),
  };

  constructor(inner: BlockDevice, clock: Clock) {
    super(inner);
    this.#clock = clock;
  }

  stats(): BlockStats {
    return { inFlight: this.#inFlight, operations: structuredClone(this.#operations) };
  }

  override read(offsetBytes: number, target: Buffer): Promise<void> {
    return this.#count("read", target.length, this.inner.read(offsetBytes, target));
  }

  override write(offsetBytes: number, source: Buffer, options?: WriteOptions): Promise<void> {
    return this.#count("write", source.length, this.inner.write(offsetBytes, source, options));
  }

  override flush(): Promise<void> {
    return this.#count("flush", 0, this.inner.flush());
  }

  override unmap(ranges: readonly ByteRange[]): Promise<void> {
    const bytes = ranges.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    return this.#count("unmap", bytes, this.inner.unmap(ranges));
  }

  override writeZeroes(range: ByteRange, options?: WriteZeroesOptions): Promise<void> {
    return this.#count("writeZeroes", range.lengthBytes, this.inner.writeZeroes(range, options));
  }

  override blockStatus(range: ByteRange): Promise<readonly BlockExtent[]> {
    return this.#count("blockStatus", 0, this.inner.blockStatus(range));
  }

  async #count<T>(operation: BlockOperation, lengthBytes: number, work: Promise<T>): Promise<T> {
    const stats = this.#operations[operation];
    const startMs = this.#clock.nowMs();
    this.#inFlight += 1;
    try {
      const result = await work;
      stats.completed += 1;
      stats.bytes += lengthBytes;
      return result;
    } catch (error) {
      stats.failed += 1;
      throw error;
    } finally {
      this.#inFlight -= 1;
      const elapsedMs = this.#clock.nowMs() - startMs;
      stats.totalMs += elapsedMs;
      stats.maximumMs = Math.max(stats.maximumMs, elapsedMs);
    }
  }
}
