import { AppError } from "./errors.js";

/**
 * A logical unit number: eight bytes with a structure (SAM-5 §4.7), not a number. Held as two halves so that
 * neither comparison nor encoding needs BigInt. Immutable; may be shared.
 */
export interface Lun {
  /** Bytes 0-3, big-endian, unsigned. */
  readonly high: number;
  /** Bytes 4-7, big-endian, unsigned. */
  readonly low: number;
}

export const LUN_ZERO: Lun = Object.freeze({ high: 0, low: 0 });

/**
 * A single-level LUN from its index: peripheral addressing (method 00) up to 255, flat addressing
 * (method 01) up to 16383, extended flat addressing (method 11, length 01, 0xd2) up to 2^24 - 1.
 */
export function lunFromNumber(index: number): Lun {
  if (!Number.isInteger(index) || index < 0 || index > 0xff_ffff) {
    throw new AppError("base", "LUN_OUT_OF_RANGE", `LUN ${index} is not a whole number from 0 to 16777215`);
  }
  if (index < 0x100) return { high: (index << 16) >>> 0, low: 0 };
  if (index < 0x4000) return { high: ((0x4000 | index) << 16) >>> 0, low: 0 };
  return { high: (0xd200_0000 | index) >>> 0, low: 0 };
}

/** The index of a single-level LUN, or undefined when it has more levels or another addressing method. */
export function lunToNumber(lun: Lun): number | undefined {
  if (lun.low !== 0) return undefined;
  if (lun.high >>> 24 === 0xd2) return lun.high & 0xff_ffff;
  if ((lun.high & 0xffff) !== 0) return undefined;
  const first = lun.high >>> 16;
  const method = first >>> 14;
  if (method === 0) return (first & 0x3f00) === 0 ? first & 0xff : undefined;
  return method === 1 ? first & 0x3fff : undefined;
}

export function lunEquals(a: Lun, b: Lun): boolean {
  return a.high === b.high && a.low === b.low;
}

export function readLun(bytes: Buffer, offset: number): Lun {
  return { high: bytes.readUInt32BE(offset), low: bytes.readUInt32BE(offset + 4) };
}

export function writeLun(lun: Lun, bytes: Buffer, offset: number): void {
  bytes.writeUInt32BE(lun.high, offset);
  bytes.writeUInt32BE(lun.low, offset + 4);
}

/** Decimal for a plain LUN, else 16 hexadecimal digits after `0x`. */
export function formatLun(lun: Lun): string {
  const index = lunToNumber(lun);
  if (index !== undefined) return String(index);
  return `0x${lun.high.toString(16).padStart(8, "0")}${lun.low.toString(16).padStart(8, "0")}`;
}
