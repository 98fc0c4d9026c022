import { close, constants, fdatasync, open, read, write, type BigIntStats } from "node:fs";
import { open as openHandle, type FileHandle } from "node:fs/promises";
import { Emitter } from "../base/emitter.js";
import { errorCode, errorMessage } from "../base/errors.js";
import { lockExclusive, punchHole, seekData, seekHole, zeroRange } from "../host/ffi.js";
import type {
  BlockDevice,
  BlockDeviceInfo,
  BlockExtent,
  ByteRange,
  DeviceEvent,
  DeviceIdentity,
  WriteOptions,
  WriteZeroesOptions,
} from "./device.js";
import { BlockError } from "./errors.js";
import { localIdentity } from "./local-identity.js";

export interface FileDeviceOptions {
  readonly path: string;
  /** Absent: as large as the file is. Given: the file is made or grown to it, never shrunk. */
  readonly sizeBytes?: number;
  /** 512 (default) or 4096. */
  readonly logicalBlockBytes?: number;
  readonly isReadOnly?: boolean;
  /** Default: made from the path. */
  readonly identity?: DeviceIdentity;
}

/** Extents looked up for one question: bounds its time on a file in many pieces. */
const MAX_EXTENTS = 1024;

/** Zeroes are written in pieces of this size where the file system cannot zero a range itself. */
const ZERO_PIECE_BYTES = 1_048_576;

/** One read or write: what libuv's threads do without holding each other up for long. */
const MAX_TRANSFER_BYTES = 4_194_304;

/**
 * A sparse file as a device. Writes go to the page cache (a volatile cache, and said to be one); `flush` is
 * fdatasync, FUA a synchronous write. After a failed flush the kernel forgets which pages were lost, so every later
 * flush and FUA write fails too, until the device is opened anew. The file is locked against a second opener.
 */
export class FileDevice implements BlockDevice {
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #syncedFd: number;
  readonly #events = new Emitter<DeviceEvent>();
  #info: BlockDeviceInfo;
  #inFlight = 0;
  #onIdle: (() => void) | undefined;
  #closing: Promise<void> | undefined;
  #flushFailure: BlockError | undefined;
  #canZeroRange = true;
  #canPunchHole = true;

  private constructor(path: string, file: FileHandle, syncedFd: number, info: BlockDeviceInfo) {
    this.#path = path;
    this.#file = file;
    this.#syncedFd = syncedFd;
    this.#info = info;
  }

  /** Opens (and makes or grows) the file. Fails with BLOCK_UNAVAILABLE when another process has it open. */
  static async open(options: FileDeviceOptions): Promise<FileDevice> {
    const { path, isReadOnly = false } = options;
    let file: FileHandle | undefined;
    try {
      file = await openHandle(path, isReadOnly ? constants.O_RDONLY : constants.O_RDWR | constants.O_CREAT, 0o600);
      await lock(file, path);
      const sizeBytes = await settleSize(file, options);
      const info = describe(options, sizeBytes, await file.stat({ bigint: true }));
      const syncedFd = isReadOnly ? -1 : await openSynced(path);
      return new FileDevice(path, file, syncedFd, info);
    } catch (error) {
      await file?.close();
      throw error instanceof BlockError ? error : failure("open", path, error);
    }
  }

  get info(): BlockDeviceInfo {
    return this.#info;
  }

  read(offsetBytes: number, target: Buffer): Promise<void> {
    return this.#run({ offsetBytes, lengthBytes: target.length }, () => readAll(this.#file.fd, offsetBytes, target));
  }

  write(offsetBytes: number, source: Buffer, options?: WriteOptions): Promise<void> {
    const isSynced = options?.fua === true;
    return this.#run({ offsetBytes, lengthBytes: source.length }, async () => {
      this.#requireWritable();
      if (!isSynced) return writeAll(this.#file.fd, offsetBytes, source);
      this.#requireFlushable();
      return this.#noteFlush(() => writeAll(this.#syncedFd, offsetBytes, source));
    });
  }

  flush(): Promise<void> {
    return this.#run({ offsetBytes: 0, lengthBytes: 0 }, () => this.#flush());
  }

  unmap(ranges: readonly ByteRange[]): Promise<void> {
    for (const range of ranges) {
      const refusal = this.#refusal(range);
      if (refusal !== undefined) return Promise.reject(refusal);
    }
    return this.#run({ offsetBytes: 0, lengthBytes: 0 }, async () => {
      this.#requireWritable();
      for (const { offsetBytes, lengthBytes } of ranges) {
        if (lengthBytes > 0) await this.#zero({ offsetBytes, lengthBytes }, true);
      }
    });
  }

  writeZeroes(range: ByteRange, options?: WriteZeroesOptions): Promise<void> {
    return this.#run(range, async () => {
      this.#requireWritable();
      if (range.lengthBytes === 0) return;
      await this.#zero(range, options?.mayUnmap === true);
      if (options?.fua === true) await this.#flush();
    });
  }

  async blockStatus(range: ByteRange): Promise<readonly BlockExtent[]> {
    let extents: BlockExtent[] = [];
    await this.#run(range, async () => {
      extents = await this.#extents(range);
    });
    return extents;
  }

  onEvent(listener: (event: DeviceEvent) => void): () => void {
    return this.#events.on(listener);
  }

  /** Grows the file. A device is never shrunk: blocks beyond the end would be lost. */
  async resize(sizeBytes: number): Promise<void> {
    if (sizeBytes < this.#info.sizeBytes || sizeBytes % this.#info.logicalBlockBytes !== 0) {
      throw new BlockError(
        "BLOCK_INVALID_RANGE",
        `${this.#path} cannot be resized to ${sizeBytes} bytes; it can only grow`,
      );
    }
    if (sizeBytes === this.#info.sizeBytes) return;
    await this.#run({ offsetBytes: 0, lengthBytes: 0 }, async () => {
      this.#requireWritable();
      await this.#file.truncate(sizeBytes);
      await this.#flush();
    });
    this.#info = Object.freeze({ ...this.#info, sizeBytes });
    this.#events.emit({ kind: "info-changed", info: this.#info });
  }

  /** Flushes and closes, after outstanding operations. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
    try {
      if (!this.#info.isReadOnly) await this.#file.datasync();
    } finally {
      if (this.#syncedFd !== -1) await closeFd(this.#syncedFd);
      await this.#file.close();
    }
  }

  async #run(range: ByteRange, work: () => Promise<void>): Promise<void> {
    const refusal = this.#refusal(range);
    if (refusal !== undefined) throw refusal;
    this.#inFlight += 1;
    try {
      await work();
    } catch (error) {
      throw error instanceof BlockError ? error : failure("access", this.#path, error);
    } finally {
      this.#inFlight -= 1;
      if (this.#inFlight === 0) this.#onIdle?.();
    }
  }

  #refusal({ offsetBytes, lengthBytes }: ByteRange): BlockError | undefined {
    if (this.#closing !== undefined) return new BlockError("BLOCK_CLOSED", `${this.#path} is closed`);
    const { sizeBytes, logicalBlockBytes } = this.#info;
    const isInside = offsetBytes >= 0 && lengthBytes >= 0 && offsetBytes + lengthBytes <= sizeBytes;
    if (isInside && offsetBytes % logicalBlockBytes === 0 && lengthBytes % logicalBlockBytes === 0) return undefined;
    const message = `${lengthBytes} bytes at ${offsetBytes} do not fit ${this.#path} of ${sizeBytes} bytes`;
    return new BlockError("BLOCK_INVALID_RANGE", message);
  }

  #requireWritable(): void {
    if (this.#info.isReadOnly) throw new BlockError("BLOCK_READ_ONLY", `${this.#path} is read-only`);
  }

  #requireFlushable(): void {
    if (this.#flushFailure !== undefined) throw this.#flushFailure;
  }

  #flush(): Promise<void> {
    if (this.#info.isReadOnly) return Promise.resolve();
    this.#requireFlushable();
    return this.#noteFlush(() => sync(this.#file.fd));
  }

  async #noteFlush(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#flushFailure ??= failure("flush", this.#path, error);
      throw this.#flushFailure;
    }
  }

  async #zero(range: ByteRange, mayUnmap: boolean): Promise<void> {
    const can = mayUnmap ? this.#canPunchHole : this.#canZeroRange;
    if (can) {
      try {
        await (mayUnmap ? punchHole : zeroRange)(this.#file.fd, range.offsetBytes, range.lengthBytes);
        return;
      } catch (error) {
        if (errorCode(error) !== "HOST_EOPNOTSUPP") throw error;
        if (mayUnmap) this.#canPunchHole = false;
        else this.#canZeroRange = false;
      }
    }
    const zeroes = Buffer.alloc(Math.min(range.lengthBytes, ZERO_PIECE_BYTES));
    for (let done = 0; done < range.lengthBytes; done += zeroes.length) {
      const piece = zeroes.subarray(0, Math.min(zeroes.length, range.lengthBytes - done));
      await writeAll(this.#file.fd, range.offsetBytes + done, piece);
    }
  }

  /** Data from its first block to its last, holes between, by SEEK_DATA and SEEK_HOLE. */
  async #extents(range: ByteRange): Promise<BlockExtent[]> {
    const extents: BlockExtent[] = [];
    const block = this.#info.logicalBlockBytes;
    const end = range.offsetBytes + range.lengthBytes;
    const add = (from: number, until: number, isAllocated: boolean): void => {
      if (until > from) {
        extents.push({ offsetBytes: from, lengthBytes: until - from, isAllocated, readsZeroes: !isAllocated });
      }
    };
    let at = range.offsetBytes;
    while (at < end && extents.length < MAX_EXTENTS) {
      const data = Math.min(end, (await seekData(this.#file.fd, at)) ?? end);
      const dataStart = Math.max(at, data - (data % block));
      add(at, dataStart, false);
      if (dataStart >= end) break;
      const hole = Math.min(end, (await seekHole(this.#file.fd, data)) ?? end);
      const dataEnd = Math.min(end, Math.ceil(hole / block) * block);
      add(dataStart, dataEnd, true);
      at = dataEnd;
    }
    return extents;
  }
}

async function lock(file: FileHandle, path: string): Promise<void> {
  try {
    await lockExclusive(file.fd);
  } catch (error) {
    if (errorCode(error) !== "HOST_EAGAIN") throw error;
    throw new BlockError("BLOCK_UNAVAILABLE", `${path} is in use as a device already; stop whoever serves it`);
  }
}

async function settleSize(file: FileHandle, options: FileDeviceOptions): Promise<number> {
  const block = options.logicalBlockBytes ?? 512;
  const { size } = await file.stat();
  const wanted = options.sizeBytes ?? size;
  if (wanted < size)
    throw new BlockError("BLOCK_INVALID_RANGE", `${options.path} has ${size} bytes, more than ${wanted}`);
  if (wanted === 0 || wanted % block !== 0) {
    throw new BlockError(
      "BLOCK_INVALID_RANGE",
      `${options.path}: ${wanted} bytes are no whole number of ${block}-byte blocks`,
    );
  }
  if (wanted > size) {
    await file.truncate(wanted);
    await file.sync();
  }
  return wanted;
}

function describe(options: FileDeviceOptions, sizeBytes: number, stats: BigIntStats): BlockDeviceInfo {
  const logicalBlockBytes = options.logicalBlockBytes ?? 512;
  const fileBlockBytes = Math.min(65_536, Math.max(logicalBlockBytes, Number(stats.blksize)));
  return Object.freeze({
    sizeBytes,
    logicalBlockBytes,
    physicalBlockBytes: Math.max(4096, logicalBlockBytes),
    maxTransferBytes: MAX_TRANSFER_BYTES,
    optimalTransferBytes: 0,
    isReadOnly: options.isReadOnly ?? false,
    hasVolatileCache: true,
    canUnmap: !(options.isReadOnly ?? false),
    unmapReadsZeroes: true,
    canWriteZeroes: !(options.isReadOnly ?? false),
    canReportBlockStatus: true,
    unmapGranularityBytes: fileBlockBytes,
    identity: options.identity ?? localIdentity(options.path),
  });
}

function failure(what: string, path: string, cause: unknown): BlockError {
  const code = errorCode(cause)?.replace("HOST_", "");
  const isFull = code === "ENOSPC" || code === "EDQUOT" || code === "EFBIG";
  const message = `cannot ${what} ${path}: ${errorMessage(cause)}`;
  return new BlockError(isFull ? "BLOCK_NO_SPACE" : "BLOCK_IO", message, { cause, details: { path, code } });
}

function openSynced(path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    open(path, constants.O_RDWR | constants.O_DSYNC, (error, fd) => (error === null ? resolve(fd) : reject(error)));
  });
}

function closeFd(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    close(fd, (error) => (error ? reject(error) : resolve()));
  });
}

function sync(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    fdatasync(fd, (error) => (error === null ? resolve() : reject(error)));
  });
}

function readAll(fd: number, offsetBytes: number, target: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const step = (done: number): void => {
      if (done >= target.length) {
        resolve();
        return;
      }
      read(fd, target, done, target.length - done, offsetBytes + done, (error, count) => {
        if (error !== null) reject(error);
        else if (count === 0) reject(new BlockError("BLOCK_IO", `the file ends before byte ${offsetBytes + done}`));
        else step(done + count);
      });
    };
    step(0);
  });
}

function writeAll(fd: number, offsetBytes: number, source: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const step = (done: number): void => {
      if (done >= source.length) {
        resolve();
        return;
      }
      write(fd, source, done, source.length - done, offsetBytes + done, (error, count) => {
        if (error !== null) reject(error);
        else step(done + count);
      });
    };
    step(0);
  });
}
