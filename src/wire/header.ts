import { LUN_ZERO, type Lun, readLun } from "../base/lun.js";
import { RESERVED_TAG } from "./constants.js";
import { fieldInvalid } from "./errors.js";
import type { TargetSequence } from "./pdu.js";

/** What the fields of RFC 7143 §11 have in common. Offsets are those of the basic header segment. */

/** Bit 0 of byte 1 (the RFC counts from the left): Final, or Transit in the login PDUs. */
export const FINAL_BIT = 0x80;

/** Bit 1 of byte 0: immediate delivery, §11.2.1.1. */
export const IMMEDIATE_BIT = 0x40;

/** Byte 0, bits 2 to 7: the opcode, §11.2.1.2. */
export const OPCODE_MASK = 0x3f;

/** The data of a PDU without data segment. Shared; it has no bytes to change. */
export const NO_DATA: Buffer = Buffer.alloc(0);

/**
 * Reads 32 bits, unsigned, where the bytes are known to be there (a header has 48). Plain indexing and whole-number
 * arithmetic: half the cost of `readUInt32BE`, which checks what is known here.
 */
export function readU32(bytes: Buffer, offset: number): number {
  const high = ((bytes[offset] as number) << 8) | (bytes[offset + 1] as number);
  const low = ((bytes[offset + 2] as number) << 8) | (bytes[offset + 3] as number);
  return ((high << 16) | low) >>> 0;
}

/** Writes 32 bits where there is room. RangeError for a value that is not a whole number from 0 to 2^32 - 1. */
export function writeU32(bytes: Buffer, offset: number, value: number): void {
  if (value >>> 0 !== value) throw new RangeError(`${value} is not an unsigned 32-bit number`);
  bytes[offset] = value >>> 24;
  bytes[offset + 1] = value >>> 16;
  bytes[offset + 2] = value >>> 8;
  bytes[offset + 3] = value;
}

/** TotalAHSLength in bytes, §11.2.1.5: at most 1020. */
export function ahsLengthBytes(header: Buffer): number {
  return header.readUInt8(4) * 4;
}

/** DataSegmentLength in bytes without padding, §11.2.1.6: at most 2^24 - 1. */
export function dataSegmentLengthBytes(header: Buffer): number {
  return readU32(header, 4) & 0xff_ffff;
}

/** Bytes that fill `lengthBytes` up to a whole number of words, §11.1. */
export function paddingBytes(lengthBytes: number): number {
  return -lengthBytes & 3;
}

export function isImmediateHeader(header: Buffer): boolean {
  return (header.readUInt8(0) & IMMEDIATE_BIT) !== 0;
}

export function isFinalHeader(header: Buffer): boolean {
  return (header.readUInt8(1) & FINAL_BIT) !== 0;
}

/** The LUN field, bytes 8 to 15. LUN 0, the common one, costs no allocation. */
export function lunOf(header: Buffer): Lun {
  const lun = readLun(header, 8);
  return lun.high === 0 && lun.low === 0 ? LUN_ZERO : lun;
}

/** The initiator task tag where it names a task: the reserved value is forbidden, §11.2.1.8. */
export function taskTagOf(header: Buffer): number {
  const tag = readU32(header, 16);
  if (tag === RESERVED_TAG) {
    throw fieldInvalid(
      header.readUInt8(0) & OPCODE_MASK,
      "11.2.1.8",
      "the initiator task tag is the reserved 0xffffffff",
    );
  }
  return tag;
}

/** Refuses a data segment in a PDU that has none. */
export function refuseData(header: Buffer, section: string): void {
  const lengthBytes = dataSegmentLengthBytes(header);
  if (lengthBytes !== 0) {
    throw fieldInvalid(header.readUInt8(0) & OPCODE_MASK, section, `DataSegmentLength is ${lengthBytes} and must be 0`);
  }
}

/** StatSN, ExpCmdSN and MaxCmdSN at their place in every target PDU. */
export function writeSequence(sequence: TargetSequence, bytes: Buffer, offset: number): void {
  writeU32(bytes, offset + 24, sequence.statSn);
  writeU32(bytes, offset + 28, sequence.expCmdSn);
  writeU32(bytes, offset + 32, sequence.maxCmdSn);
}
