import { Opcode, RESERVED_TAG } from "../constants.js";
import { FINAL_BIT, writeSequence } from "../header.js";
import type { RejectPdu } from "../pdu.js";

/** Reject, RFC 7143 §11.17. */

/** Writes the basic header without lengths. The bytes at `offset` are zero. */
export function writeReject(pdu: RejectPdu, bytes: Buffer, offset: number): void {
  bytes[offset] = Opcode.reject;
  bytes[offset + 1] = FINAL_BIT;
  bytes.writeUInt8(pdu.reason, offset + 2);
  bytes.writeUInt32BE(RESERVED_TAG, offset + 16);
  writeSequence(pdu, bytes, offset);
  bytes.writeUInt32BE(pdu.dataSnOrR2tSn, offset + 36);
}

/** Whether the data holds a whole header is for the reader of that header to check. */
export function readReject(header: Buffer, data: Buffer): RejectPdu {
  return {
    type: "reject",
    reason: header.readUInt8(2),
    statSn: header.readUInt32BE(24),
    expCmdSn: header.readUInt32BE(28),
    maxCmdSn: header.readUInt32BE(32),
    dataSnOrR2tSn: header.readUInt32BE(36),
    data,
  };
}
