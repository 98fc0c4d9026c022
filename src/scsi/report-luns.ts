import { readLun, writeLun, type Lun } from "../base/lun.js";
import { requireBytes } from "./bytes.js";

const HEADER_BYTES = 8;
const LUN_BYTES = 8;

/** Bytes the complete answer has, from the first four bytes of it: ask again with this allocation length. */
export function reportLunsRequiredBytes(bytes: Buffer): number {
  requireBytes(bytes, 4, "REPORT LUNS data");
  return HEADER_BYTES + bytes.readUInt32BE(0);
}

/**
 * The logical units of REPORT LUNS data (SPC-5 §6.33). Fails with SCSI_DATA_TRUNCATED, whose `details.requiredBytes`
 * is the allocation length to ask with, when the list goes on beyond `bytes`.
 */
export function decodeReportLuns(bytes: Buffer): Lun[] {
  const requiredBytes = reportLunsRequiredBytes(bytes);
  requireBytes(bytes, requiredBytes, "REPORT LUNS data");
  const luns: Lun[] = [];
  for (let at = HEADER_BYTES; at + LUN_BYTES <= requiredBytes; at += LUN_BYTES) luns.push(readLun(bytes, at));
  return luns;
}

/** The complete answer; the caller cuts it to the allocation length. */
export function encodeReportLuns(luns: readonly Lun[]): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + luns.length * LUN_BYTES);
  bytes.writeUInt32BE(luns.length * LUN_BYTES, 0);
  luns.forEach((lun, index) => writeLun(lun, bytes, HEADER_BYTES + index * LUN_BYTES));
  return bytes;
}
