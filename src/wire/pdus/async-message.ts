import { writeLun } from "../../base/lun.js";
import { Opcode, RESERVED_TAG } from "../constants.js";
import { FINAL_BIT, lunOf, writeSequence, readU32, writeU32 } from "../header.js";
import type { AsyncMessagePdu } from "../pdu.js";

/** Asynchronous Message, RFC 7143 §11.9. */

/** Writes the basic header without lengths. The bytes at `offset` are zero. */
export function writeAsyncMessage(pdu: AsyncMessagePdu, bytes: Buffer, offset: number): void {
  bytes[offset] = Opcode.asyncMessage;
  bytes[offset + 1] = FINAL_BIT;
  writeLun(pdu.lun, bytes, offset + 8);
  writeU32(bytes, offset + 16, RESERVED_TAG);
  writeSequence(pdu, bytes, offset);
  bytes.writeUInt8(pdu.asyncEvent, offset + 36);
  bytes.writeUInt8(pdu.asyncVCode, offset + 37);
  bytes.writeUInt16BE(pdu.parameter1, offset + 38);
  bytes.writeUInt16BE(pdu.parameter2, offset + 40);
  bytes.writeUInt16BE(pdu.parameter3, offset + 42);
}

/** Events without a meaning in §11.9.1 are handed on: what to do about them is the session's to decide. */
export function readAsyncMessage(header: Buffer, data: Buffer): AsyncMessagePdu {
  return {
    type: "async-message",
    lun: lunOf(header),
    statSn: readU32(header, 24),
    expCmdSn: readU32(header, 28),
    maxCmdSn: readU32(header, 32),
    asyncEvent: header.readUInt8(36),
    asyncVCode: header.readUInt8(37),
    parameter1: header.readUInt16BE(38),
    parameter2: header.readUInt16BE(40),
    parameter3: header.readUInt16BE(42),
    data,
  };
}
