import { Emitter } from "../base/emitter.js";
import type { BlockDevice, BlockDeviceInfo, BlockExtent, ByteRange, DeviceEvent } from "./device.js";
import { BlockError } from "./errors.js";

export interface MemoryDeviceOptions {
  /** A multiple of `logicalBlockBytes`. */
  readonly sizeBytes: number;
  /** Default 512. */
  readonly logicalBlockBytes?: 512 | 4096;
  readonly physicalBlockBytes?: number;
  /** Default 1 MiB. */
  readonly maxTransferBytes?: number;
  readonly isReadOnly?: boolean;
  /** Canonical identity; default: none. */
  readonly id?: string;
  readonly serial?: string;
}

/** Memory is taken in pieces of this size: large enough for few map look-ups, small enough for sparse devices. */
const CHUNK_BYTES = 65_536;

/**
 * A sparse device in memory: blocks never written cost nothing and read as zeroes, so a device of many TiB is cheap.
 * It has no volatile cache: a write is as stable as it will ever be when it is acknowledged. Checks ranges itself, so
 * that it is safe without the validate filter. An operation takes effect within the call; its promise follows.
 */
export class MemoryDevice implements BlockDevice {
  #info: BlockDeviceInfo;
  #isClosed = false;
  readonly #chunks = new Map<number, Buffer>();
  readonly #events = new Emitter<DeviceEvent>();

  constructor(options: MemoryDeviceOptions) {
    const logicalBlockBytes = options.logicalBlockBytes ?? 512;
    checkSize(options.sizeBytes, logicalBlockBytes);
    this.#info = Object.freeze({
      sizeBytes: options.sizeBytes,
      logicalBlockBytes,
      physicalBlockBytes: options.physicalBlockBytes ?? Math.max(4096, logicalBlockBytes),
      maxTransferBytes: options.maxTransferBytes ?? 1_048_576,
      optimalTransferBytes: 0,
      isReadOnly: options.isReadOnly ?? false,
      hasVolatileCache: false,
      canUnmap: true,
      unmapReadsZeroes: true,
      canWriteZeroes: true,
      canReportBlockStatus: true,
      unmapGranularityBytes: logicalBlockBytes,
      identity: Object.freeze({
        id: options.id ?? "",
        vendor: "HAWSER",
        product: "memory",
        revision: "1",
        serial: options.serial ?? "",
      }),
    });
  }

  get info(): BlockDeviceInfo {
    return this.#info;
  }

  /** Memory held now, in bytes: what was written and not unmapped, in whole chunks. */
  get allocatedBytes(): number {
    return this.#chunks.size * CHUNK_BYTES;
  }

  read(offsetBytes: number, target: Buffer): Promise<void> {
    return this.#run({ offsetBytes, lengthBytes: target.length }, (range) => {
      this.#forEachPiece(range, (index, start, end, at) => {
        const chunk = this.#chunks.get(index);
        if (chunk === undefined) target.fill(0, at, at + end - start);
        else chunk.copy(target, at, start, end);
      });
    });
  }

  write(offsetBytes: number, source: Buffer): Promise<void> {
    return this.#runWrite({ offsetBytes, lengthBytes: source.length }, (range) => {
      this.#forEachPiece(range, (index, start, end, at) => {
        source.copy(this.#chunkForWrite(index), start, at, at + end - start);
      });
    });
  }

  flush(): Promise<void> {
    return this.#run({ offsetBytes: 0, lengthBytes: 0 }, () => undefined);
  }

  async unmap(ranges: readonly ByteRange[]): Promise<void> {
    for (const range of ranges) await this.#runWrite(range, () => undefined);
    for (const range of ranges) this.#zero(range);
  }

  writeZeroes(range: ByteRange): Promise<void> {
    return this.#runWrite(range, () => this.#zero(range));
  }

  blockStatus(range: ByteRange): Promise<readonly BlockExtent[]> {
    return this.#run(range, () => this.#extents(range));
  }

  onEvent(listener: (event: DeviceEvent) => void): () => void {
    return this.#events.on(listener);
  }

  /** Changes the size, as an administrator would on the array; what lies beyond a smaller size is gone. */
  resize(sizeBytes: number): void {
    checkSize(sizeBytes, this.#info.logicalBlockBytes);
    const oldBytes = this.#info.sizeBytes;
    if (sizeBytes < oldBytes) this.#zero({ offsetBytes: sizeBytes, lengthBytes: oldBytes - sizeBytes });
    this.#info = Object.freeze({ ...this.#info, sizeBytes });
    this.#events.emit({ kind: "info-changed", info: this.#info });
  }

  close(): Promise<void> {
    this.#isClosed = true;
    this.#chunks.clear();
    return Promise.resolve();
  }

  #runWrite<T>(range: ByteRange, work: (range: ByteRange) => T): Promise<T> {
    if (!this.#info.isReadOnly) return this.#run(range, work);
    return Promise.reject(new BlockError("BLOCK_READ_ONLY", "the memory device is read-only"));
  }

  #run<T>(range: ByteRange, work: (range: ByteRange) => T): Promise<T> {
    if (this.#isClosed) return Promise.reject(new BlockError("BLOCK_CLOSED", "the memory device is closed"));
    const { offsetBytes, lengthBytes } = range;
    const { sizeBytes, logicalBlockBytes } = this.#info;
    const isInside = offsetBytes >= 0 && lengthBytes >= 0 && offsetBytes + lengthBytes <= sizeBytes;
    if (isInside && offsetBytes % logicalBlockBytes === 0 && lengthBytes % logicalBlockBytes === 0) {
      return Promise.resolve(work(range));
    }
    const message = `${lengthBytes} bytes at ${offsetBytes} do not fit a device of ${sizeBytes} bytes in blocks of ${logicalBlockBytes}`;
    return Promise.reject(new BlockError("BLOCK_INVALID_RANGE", message));
  }

  #extents(range: ByteRange): BlockExtent[] {
    const extents: { offsetBytes: number; lengthBytes: number; isAllocated: boolean; readsZeroes: boolean }[] = [];
    const end = range.offsetBytes + range.lengthBytes;
    const append = (until: number, isAllocated: boolean): void => {
      const last = extents.at(-1);
      const from = last === undefined ? range.offsetBytes : last.offsetBytes + last.lengthBytes;
      if (until <= from) return;
      if (last?.isAllocated === isAllocated) last.lengthBytes += until - from;
      else extents.push({ offsetBytes: from, lengthBytes: until - from, isAllocated, readsZeroes: !isAllocated });
    };
    // The map's keys are walked, not the range: a sparse range may span millions of chunks that do not exist.
    const allocated = [...this.#chunks.keys()]
      .filter((index) => index * CHUNK_BYTES < end && (index + 1) * CHUNK_BYTES > range.offsetBytes)
      .sort((a, b) => a - b);
    for (const index of allocated) {
      append(index * CHUNK_BYTES, false);
      append(Math.min(end, (index + 1) * CHUNK_BYTES), true);
    }
    append(end, false);
    return extents;
  }

  #chunkForWrite(index: number): Buffer {
    let chunk = this.#chunks.get(index);
    if (chunk === undefined) {
      chunk = Buffer.alloc(CHUNK_BYTES);
      this.#chunks.set(index, chunk);
    }
    return chunk;
  }

  /** Whole chunks are given back, parts of chunks are cleared. */
  #zero(range: ByteRange): void {
    const first = Math.floor(range.offsetBytes / CHUNK_BYTES);
    const last = Math.floor((range.offsetBytes + range.lengthBytes - 1) / CHUNK_BYTES);
    // Of a range longer than the map, only the chunks that exist matter.
    const isLong = last - first > this.#chunks.size;
    const indexes = isLong
      ? [...this.#chunks.keys()]
      : Array.from({ length: last - first + 1 }, (_, step) => first + step);
    for (const index of indexes) {
      const start = Math.max(0, range.offsetBytes - index * CHUNK_BYTES);
      const end = Math.min(CHUNK_BYTES, range.offsetBytes + range.lengthBytes - index * CHUNK_BYTES);
      if (start >= end) continue;
      if (start === 0 && end === CHUNK_BYTES) this.#chunks.delete(index);
      else this.#chunks.get(index)?.fill(0, start, end);
    }
  }

  /** Calls `visit` for each chunk the range touches: its index, start and end inside it, and the offset in the range. */
  #forEachPiece(range: ByteRange, visit: (index: number, start: number, end: number, at: number) => void): void {
    let at = 0;
    while (at < range.lengthBytes) {
      const position = range.offsetBytes + at;
      const index = Math.floor(position / CHUNK_BYTES);
      const start = position - index * CHUNK_BYTES;
      const end = Math.min(CHUNK_BYTES, start + range.lengthBytes - at);
      visit(index, start, end, at);
      at += end - start;
    }
  }
}

function checkSize(sizeBytes: number, logicalBlockBytes: number): void {
  if (Number.isSafeInteger(sizeBytes) && sizeBytes >= 0 && sizeBytes % logicalBlockBytes === 0) return;
  throw new BlockError(
    "BLOCK_INVALID_RANGE",
    `${sizeBytes} bytes are not a whole number of ${logicalBlockBytes}-byte blocks`,
  );
}
