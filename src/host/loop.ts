import { constants } from "node:fs";
import { open, readdir, readFile, type FileHandle } from "node:fs/promises";
import { errorCode } from "../base/errors.js";
import { HostError } from "./errors.js";
import { ioctl, ioctlBuffer } from "./ffi.js";

/** Loop devices through the kernel's own interface (linux/loop.h): one call makes one, so none is left half made. */

const LOOP_CLR_FD = 0x4c01;
const LOOP_SET_STATUS64 = 0x4c04;
const LOOP_GET_STATUS64 = 0x4c05;
/** Linux 5.8. */
const LOOP_CONFIGURE = 0x4c0a;
const LOOP_CTL_GET_FREE = 0x4c82;

const LO_FLAGS_READ_ONLY = 1;
const LO_FLAGS_DIRECT_IO = 16;

/*
 * struct loop_config: fd u32, block size u32, loop_info64 (232 bytes), reserved u64[8].
 * struct loop_info64: device, inode, rdevice, offset, sizelimit: u64; number, encryption type, its key size, flags:
 * u32; file name 64 bytes; …
 */
const CONFIG_BYTES = 304;
const CONFIG_INFO_OFFSET = 8;
const INFO_BYTES = 232;
const INFO_SIZE_LIMIT_OFFSET = 32;
const INFO_FLAGS_OFFSET = 52;
const INFO_NAME_OFFSET = 56;
const INFO_NAME_BYTES = 63;

/** Tries to win a free device against others who look for one too. */
const MAX_ATTEMPTS = 32;

export interface LoopOptions {
  readonly backingPath: string;
  /** Bytes of the backing file that the device shows. */
  readonly sizeBytes: number;
  readonly blockBytes: number;
  readonly isReadOnly: boolean;
}

function writeU64(bytes: Buffer, position: number, value: number): void {
  bytes.writeUInt32LE(value % 0x1_0000_0000, position);
  bytes.writeUInt32LE(Math.floor(value / 0x1_0000_0000), position + 4);
}

/** The structure of LOOP_CONFIGURE. Direct I/O: nothing is cached twice, and a flush reaches the backing file. */
export function encodeLoopConfig(backingFd: number, options: LoopOptions): Buffer {
  const bytes = Buffer.alloc(CONFIG_BYTES);
  bytes.writeUInt32LE(backingFd, 0);
  bytes.writeUInt32LE(options.blockBytes, 4);
  writeU64(bytes, CONFIG_INFO_OFFSET + INFO_SIZE_LIMIT_OFFSET, options.sizeBytes);
  const flags = LO_FLAGS_DIRECT_IO | (options.isReadOnly ? LO_FLAGS_READ_ONLY : 0);
  bytes.writeUInt32LE(flags, CONFIG_INFO_OFFSET + INFO_FLAGS_OFFSET);
  bytes.write(options.backingPath.slice(-INFO_NAME_BYTES), CONFIG_INFO_OFFSET + INFO_NAME_OFFSET, "latin1");
  return bytes;
}

async function withFile<T>(path: string, flags: number, work: (file: FileHandle) => Promise<T>): Promise<T> {
  const file = await open(path, flags).catch((error: unknown) => {
    throw new HostError(`HOST_${errorCode(error) ?? "OPEN_FAILED"}`, `${path} cannot be opened`, { cause: error });
  });
  try {
    return await work(file);
  } finally {
    await file.close();
  }
}

/** Makes a loop device with direct I/O over a file; its index N of /dev/loopN. */
export async function createLoop(options: LoopOptions): Promise<number> {
  const access = options.isReadOnly ? constants.O_RDONLY : constants.O_RDWR;
  return withFile(options.backingPath, access | constants.O_DIRECT, (backing) =>
    withFile("/dev/loop-control", constants.O_RDWR, async (control) => {
      const config = encodeLoopConfig(backing.fd, options);
      for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
        const index = await ioctl(control.fd, LOOP_CTL_GET_FREE, 0);
        try {
          await withFile(`/dev/loop${index}`, access, (loop) => ioctlBuffer(loop.fd, LOOP_CONFIGURE, config));
          return index;
        } catch (error) {
          // Somebody else took it in between.
          if (!(error instanceof HostError && error.code === "HOST_EBUSY")) throw error;
        }
      }
      throw new HostError("HOST_NO_FREE_LOOP", `no free loop device was won in ${MAX_ATTEMPTS} attempts`);
    }),
  );
}

/**
 * Shows another number of bytes of the backing file. HOST_EAGAIN: kernels before 6.15 refuse while pages of the device
 * are cached, which they are as long as it is mounted.
 */
export async function resizeLoop(index: number, sizeBytes: number): Promise<void> {
  await withFile(`/dev/loop${index}`, constants.O_RDWR, async (loop) => {
    const info = Buffer.alloc(INFO_BYTES);
    await ioctlBuffer(loop.fd, LOOP_GET_STATUS64, info);
    writeU64(info, INFO_SIZE_LIMIT_OFFSET, sizeBytes);
    await ioctlBuffer(loop.fd, LOOP_SET_STATUS64, info);
  });
}

/** Takes a loop device away; no error when it is gone. In use, the kernel does it when the last user closes. */
export async function removeLoop(index: number): Promise<void> {
  try {
    await withFile(`/dev/loop${index}`, constants.O_RDONLY, (loop) => ioctl(loop.fd, LOOP_CLR_FD, 0));
  } catch (error) {
    if (!(error instanceof HostError && error.code === "HOST_ENXIO")) throw error;
  }
}

export interface LoopDevice {
  readonly index: number;
  /**
   * As the kernel shows it; ` (deleted)` at the end when the name is gone, `/` alone when the mount that the file was
   * on went away with its mount namespace.
   */
  readonly backingPath: string;
  /** Another one each time a device of this index gets a backing file, for as long as the host runs; Linux 5.15. */
  readonly sequence: string;
}

/** Loop devices that have a backing file. */
export async function listLoops(): Promise<readonly LoopDevice[]> {
  const names = (await readdir("/sys/block").catch(() => [])).filter((name) => /^loop\d+$/.test(name));
  const loops = names.map(async (name) => {
    const [backingPath, sequence] = await Promise.all([
      readFile(`/sys/block/${name}/loop/backing_file`, "utf8").catch(() => ""),
      loopSequence(Number(name.slice("loop".length))),
    ]);
    return { index: Number(name.slice("loop".length)), backingPath: backingPath.trimEnd(), sequence };
  });
  return (await Promise.all(loops)).filter((loop) => loop.backingPath !== "");
}

/** The sequence number of a loop device as it is now; empty where the kernel has none. */
export async function loopSequence(index: number): Promise<string> {
  return (await readFile(`/sys/block/loop${index}/diskseq`, "utf8").catch(() => "")).trim();
}
