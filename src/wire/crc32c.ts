import { crc32c as nativeCrc32c } from "@node-rs/crc32";
import { crc32cTable } from "./crc32c-table.js";

/**
 * The digest of RFC 7143 §13.1: CRC32C. A digest travels with its least significant byte first (§13.1 maps x^31, which
 * the reflected form keeps in bit 0, to bit 7 of the first byte; the vectors of appendix A.4 show it).
 */

/** Below this the call into native code costs more than the table does; measured by test/bench/wire.bench.ts. */
export const NATIVE_CRC_MIN_BYTES = 112;

/** CRC32C of `bytes`, unsigned 32 bits. `previous` is the CRC of the bytes before them. Borrows `bytes`. */
export function crc32c(bytes: Buffer, previous = 0): number {
  return bytes.length < NATIVE_CRC_MIN_BYTES
    ? crc32cTable(bytes, 0, bytes.length, previous)
    : nativeCrc32c(bytes, previous);
}

/** CRC32C of the part of `bytes` from `start` up to `end`, without making a view of a short one. */
export function crc32cRange(bytes: Buffer, start: number, end: number, previous = 0): number {
  return end - start < NATIVE_CRC_MIN_BYTES
    ? crc32cTable(bytes, start, end, previous)
    : nativeCrc32c(bytes.subarray(start, end), previous);
}
