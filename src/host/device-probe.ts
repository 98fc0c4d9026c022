import { readFile, stat } from "node:fs/promises";
import { errorCode, errorMessage } from "../base/errors.js";
import { ZERO_CHECK_BYTES } from "../base/limits.js";
import { HostError } from "./errors.js";
import type { RunCommand } from "./exec.js";
import type { DeviceNumbers } from "./mountinfo.js";

/** What the kernel says of a block device now. */
export interface BlockDeviceProbe extends DeviceNumbers {
  readonly sizeBytes: number;
  readonly isReadOnly: boolean;
  readonly logicalBlockBytes: number;
}

/** Splits Linux's 64-bit device number as Node gives it in `stat`. */
export function splitDeviceNumber(device: number): DeviceNumbers {
  const high = Math.floor(device / 0x1_0000_0000);
  const low = device % 0x1_0000_0000;
  return {
    major: ((low >>> 8) & 0xfff) + (high & ~0xfff),
    minor: (low & 0xff) | ((low >>> 12) & 0xf_ff00),
  };
}

/** The numbers of the block device node at `path`, undefined when there is no block device node. */
export async function blockDeviceNumbers(path: string): Promise<DeviceNumbers | undefined> {
  try {
    const info = await stat(path);
    return info.isBlockDevice() ? splitDeviceNumber(info.rdev) : undefined;
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ENOTDIR") return undefined;
    throw hostError("HOST_DEVICE_UNREADABLE", `cannot look at ${path}`, error);
  }
}

/** Size and state of the block device at `path`, from sysfs. HostError HOST_DEVICE_MISSING when it is not one. */
export async function probeBlockDevice(path: string): Promise<BlockDeviceProbe> {
  const numbers = await blockDeviceNumbers(path);
  if (numbers === undefined) throw new HostError("HOST_DEVICE_MISSING", `${path} is not a block device of this host`);
  const folder = `/sys/dev/block/${numbers.major}:${numbers.minor}`;
  const sectors = await readNumber(`${folder}/size`);
  if (sectors === undefined) {
    throw new HostError("HOST_DEVICE_MISSING", `${path}: the kernel has no device ${numbers.major}:${numbers.minor}`);
  }
  return {
    ...numbers,
    // sysfs counts in units of 512 bytes whatever the block size.
    sizeBytes: sectors * 512,
    isReadOnly: (await readNumber(`${folder}/ro`)) === 1,
    logicalBlockBytes: (await readNumber(`${folder}/queue/logical_block_size`)) ?? 512,
  };
}

/** Is the device alive: known to the kernel and with a size (a disconnected nbd device has none)? */
export async function isDeviceAlive({ major, minor }: DeviceNumbers): Promise<boolean> {
  return ((await readNumber(`/sys/dev/block/${major}:${minor}/size`)) ?? 0) > 0;
}

/**
 * Are the first and the last MiB of the device all zeroes? Reads past the page cache, which may hold what an earlier
 * device of the same name had. An error while reading is an error, never "zero".
 */
export async function isZeroed(devicePath: string, sizeBytes: number, run: RunCommand): Promise<boolean> {
  const lengthBytes = Math.min(sizeBytes, ZERO_CHECK_BYTES);
  if (lengthBytes <= 0) throw new HostError("HOST_DEVICE_UNREADABLE", `${devicePath} has no size; is it connected?`);
  for (const offsetBytes of [0, sizeBytes - lengthBytes]) {
    const bytes = await readDirect({ devicePath, offsetBytes, lengthBytes }, run);
    if (bytes.some((byte) => byte !== 0)) return false;
  }
  return true;
}

/** Reads from the device itself, not from the page cache. All of the range or HostError HOST_DEVICE_UNREADABLE. */
export async function readDirect(
  range: { readonly devicePath: string; readonly offsetBytes: number; readonly lengthBytes: number },
  run: RunCommand,
): Promise<Buffer> {
  const { devicePath, offsetBytes, lengthBytes } = range;
  const args = [
    `if=${devicePath}`,
    `bs=${lengthBytes}`,
    "count=1",
    `skip=${offsetBytes}`,
    "iflag=direct,skip_bytes,fullblock",
    "status=none",
  ];
  let bytes: Buffer;
  try {
    // dd allocates the aligned memory that direct reads need; a Buffer's address cannot be chosen.
    bytes = (await run("dd", args)).stdoutBytes;
  } catch (error) {
    throw error instanceof HostError && error.code !== "HOST_PROGRAM_MISSING"
      ? hostError("HOST_DEVICE_UNREADABLE", `cannot read ${devicePath} at ${offsetBytes}`, error)
      : error;
  }
  if (bytes.length === lengthBytes) return bytes;
  throw new HostError(
    "HOST_DEVICE_UNREADABLE",
    `${devicePath} gave ${bytes.length} of ${lengthBytes} bytes at ${offsetBytes}; is it smaller than it says?`,
  );
}

async function readNumber(path: string): Promise<number | undefined> {
  try {
    return Number((await readFile(path, "utf8")).trim());
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ENODEV") return undefined;
    throw hostError("HOST_DEVICE_UNREADABLE", `cannot read ${path}`, error);
  }
}

function hostError(code: string, what: string, error: unknown): HostError {
  return new HostError(code, `${what}: ${errorMessage(error)}`, { cause: error });
}
