import { Opcode, RESERVED_TAG } from "../constants.js";
import { FINAL_BIT, writeSequence, readU32, writeU32 } from "../header.js";
import type { RejectPdu } from "../pdu.js";

/** Reject, RFC 7143 §11.17. */

/** Writes the basic header without lengths. The bytes at `offset` are zero. */
export function writeReject(pdu: RejectPdu, bytes: Buffer, offset: number): void {
  bytes[offset] = Opcode.reject;
  bytes[offset + 1] = FINAL_BIT;
  bytes.writeUInt8(pdu.reason, offset + 2);
  writeU32(bytes, offset + 16, RESERVED_TAG);
  writeSequence(pdu, bytes, offset);
  writeU32(bytes, offset + 36, pdu.dataSnOrR2tSn);
}

/** Whether the data holds a whole header is for the reader of that header to check. */
export function readReject(header: Buffer, data: Buffer): RejectPdu {
  return {
    type: "reject",
    reason: header.readUInt8(2),
    statSn: readU32(header, 24),
    expCmdSn: readU32(header, 28),
    maxCmdSn: readU32(header, 32),
    dataSnOrR2tSn: readU32(header, 36),
    data,
  };
}
