import { ScsiError } from "./errors.js";

const TWO_TO_32 = 0x1_0000_0000;

/** Fails with SCSI_DATA_TRUNCATED unless `bytes` holds at least `requiredBytes`. `what` names the data for people. */
export function requireBytes(bytes: Buffer, requiredBytes: number, what: string): void {
  if (bytes.length >= requiredBytes) return;
  throw new ScsiError(
    "SCSI_DATA_TRUNCATED",
    `${what} needs ${requiredBytes} bytes, the device gave ${bytes.length}; ask again with a larger allocation length`,
    { details: { what, requiredBytes, lengthBytes: bytes.length } },
  );
}

/** A big-endian u64 that must be a safe integer, else SCSI_VALUE_TOO_LARGE. The caller has checked the length. */
export function readU64(bytes: Buffer, offset: number, what: string): number {
  const value = readU64Rounded(bytes, offset);
  if (!Number.isSafeInteger(value)) {
    throw new ScsiError("SCSI_VALUE_TOO_LARGE", `${what} is beyond 2^53 - 1, more than any device Hawser can address`, {
      details: { what },
    });
  }
  return value;
}

/** A big-endian u64 as a number: beyond 2^53 the low bits are lost, but it stays beyond 2^53. */
export function readU64Rounded(bytes: Buffer, offset: number): number {
  return bytes.readUInt32BE(offset) * TWO_TO_32 + bytes.readUInt32BE(offset + 4);
}

/** Writes a safe non-negative integer as big-endian u64. */
export function writeU64(value: number, bytes: Buffer, offset: number): void {
  bytes.writeUInt32BE(Math.floor(value / TWO_TO_32), offset);
  bytes.writeUInt32BE(value % TWO_TO_32, offset + 4);
}

/** Is `mask` set in the byte at `offset`? False beyond the end. */
export function hasBit(bytes: Buffer, offset: number, mask: number): boolean {
  return ((bytes[offset] ?? 0) & mask) !== 0;
}

/** The byte at `offset`, 0 beyond the end: short pages mean "not reported", which the standards write as zero. */
export function byteAt(bytes: Buffer, offset: number): number {
  return bytes[offset] ?? 0;
}

/** Big-endian u16 at `offset`, 0 when it does not lie inside `bytes`. */
export function u16At(bytes: Buffer, offset: number): number {
  return offset + 2 <= bytes.length ? bytes.readUInt16BE(offset) : 0;
}

/** Big-endian u32 at `offset`, 0 when it does not lie inside `bytes`. */
export function u32At(bytes: Buffer, offset: number): number {
  return offset + 4 <= bytes.length ? bytes.readUInt32BE(offset) : 0;
}

/** A text field: up to the first NUL, without surrounding blanks, anything not printable ASCII shown as `?`. */
export function readText(bytes: Buffer, start: number, end: number): string {
  const field = bytes.subarray(Math.min(start, bytes.length), Math.min(end, bytes.length)).toString("latin1");
  const beforeNul = field.split("\0", 1)[0] ?? "";
  return beforeNul.replace(/[^\x20-\x7e]/g, "?").trim();
}

/** Writes `text` as ASCII, cut or padded with blanks to `lengthBytes` (SPC-5 §4.3.1, left-aligned). */
export function writeText(text: string, bytes: Buffer, offset: number, lengthBytes: number): void {
  bytes.fill(0x20, offset, offset + lengthBytes);
  bytes.write(text.slice(0, lengthBytes), offset, lengthBytes, "latin1");
}

/** Fails with SCSI_ARGUMENT_INVALID unless `value` is a whole number from 0 to `maximum`. */
export function checkField(name: string, value: number, maximum: number): void {
  if (Number.isSafeInteger(value) && value >= 0 && value <= maximum) return;
  throw new ScsiError("SCSI_ARGUMENT_INVALID", `${name} ${value} is not a whole number from 0 to ${maximum}`, {
    details: { name, value, maximum },
  });
}
