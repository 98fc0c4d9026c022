import { DEFAULT_VOLUME_BYTES, MAX_VOLUME_BYTES, MIN_VOLUME_BYTES, VOLUME_SIZE_STEP_BYTES } from "../base/limits.js";
import { formatSize } from "../base/size.js";
import { StorageError } from "./backend.js";

/** A range of sizes as CSI states it: 0 leaves that side open. */
export interface SizeRange {
  readonly requiredBytes: number;
  readonly limitBytes: number;
}

/**
 * The size a new volume gets: exactly what is required, rounded up to whole 4096-byte blocks; with no requirement
 * the default size, or the limit when that is less. STORAGE_INVALID for a range that is none,
 * STORAGE_OUT_OF_RANGE when no size of ours lies in it.
 */
export function chooseSize(range: SizeRange): number {
  const { requiredBytes, limitBytes } = range;
  checkRange(range);
  const wantedBytes = requiredBytes === 0 ? defaultSize(limitBytes) : roundUp(requiredBytes);
  const sizeBytes = Math.max(MIN_VOLUME_BYTES, wantedBytes);
  if (limitBytes !== 0 && sizeBytes > limitBytes) {
    throw outOfRange(
      `no volume of ${requiredBytes} to ${limitBytes} bytes: sizes are multiples of ${VOLUME_SIZE_STEP_BYTES} bytes ` +
        `from ${formatSize(MIN_VOLUME_BYTES)} on`,
    );
  }
  if (sizeBytes > MAX_VOLUME_BYTES) {
    throw outOfRange(`${formatSize(sizeBytes)} is over the largest volume, ${formatSize(MAX_VOLUME_BYTES)}`);
  }
  return sizeBytes;
}

/** Does an existing volume of `sizeBytes` satisfy the range? */
export function fitsRange(sizeBytes: number, range: SizeRange): boolean {
  return sizeBytes >= range.requiredBytes && (range.limitBytes === 0 || sizeBytes <= range.limitBytes);
}

function checkRange(range: SizeRange): void {
  for (const bytes of [range.requiredBytes, range.limitBytes]) {
    if (!Number.isSafeInteger(bytes) || bytes < 0) {
      throw new StorageError("STORAGE_INVALID", `${bytes} is not a number of bytes`);
    }
  }
  if (range.limitBytes !== 0 && range.requiredBytes > range.limitBytes) {
    throw new StorageError(
      "STORAGE_INVALID",
      `the required size, ${range.requiredBytes} bytes, is over the limit, ${range.limitBytes} bytes`,
    );
  }
}

function defaultSize(limitBytes: number): number {
  if (limitBytes === 0 || limitBytes >= DEFAULT_VOLUME_BYTES) return DEFAULT_VOLUME_BYTES;
  return limitBytes - (limitBytes % VOLUME_SIZE_STEP_BYTES);
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / VOLUME_SIZE_STEP_BYTES) * VOLUME_SIZE_STEP_BYTES;
}

function outOfRange(message: string): StorageError {
  return new StorageError("STORAGE_OUT_OF_RANGE", message);
}
