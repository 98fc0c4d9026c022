import { writeLun } from "../../base/lun.js";
import { Opcode, RESERVED_TAG } from "../constants.js";
import { fieldInvalid } from "../errors.js";
import {
  FINAL_BIT,
  IMMEDIATE_BIT,
  isFinalHeader,
  isImmediateHeader,
  lunOf,
  taskTagOf,
  writeSequence,
  readU32,
  writeU32,
} from "../header.js";
import type { TextRequestPdu, TextResponsePdu } from "../pdu.js";

/** Text Request and Text Response, RFC 7143 §11.10 and §11.11. */

const CONTINUE_BIT = 0x40;

/** Writes the basic header without lengths. The bytes at `offset` are zero. */
export function writeTextRequest(pdu: TextRequestPdu, bytes: Buffer, offset: number): void {
  bytes[offset] = Opcode.textRequest | (pdu.isImmediate ? IMMEDIATE_BIT : 0);
  bytes[offset + 1] = (pdu.isFinal ? FINAL_BIT : 0) | (pdu.isContinued ? CONTINUE_BIT : 0);
  writeLun(pdu.lun, bytes, offset + 8);
  writeU32(bytes, offset + 16, pdu.initiatorTaskTag);
  writeU32(bytes, offset + 20, pdu.targetTransferTag);
  writeU32(bytes, offset + 24, pdu.cmdSn);
  writeU32(bytes, offset + 28, pdu.expStatSn);
}

/** Throws ProtocolError when the C bit comes with the F bit. */
export function readTextRequest(header: Buffer, data: Buffer): TextRequestPdu {
  const isFinal = isFinalHeader(header);
  const isContinued = (header.readUInt8(1) & CONTINUE_BIT) !== 0;
  if (isContinued && isFinal) {
    throw fieldInvalid(Opcode.textRequest, "11.10.2", "the C bit and the F bit are both set");
  }
  return {
    type: "text-request",
    isImmediate: isImmediateHeader(header),
    isFinal,
    isContinued,
    lun: lunOf(header),
    initiatorTaskTag: taskTagOf(header),
    targetTransferTag: readU32(header, 20),
    cmdSn: readU32(header, 24),
    expStatSn: readU32(header, 28),
    data,
  };
}

/** Writes the basic header without lengths. The bytes at `offset` are zero. */
export function writeTextResponse(pdu: TextResponsePdu, bytes: Buffer, offset: number): void {
  bytes[offset] = Opcode.textResponse;
  bytes[offset + 1] = (pdu.isFinal ? FINAL_BIT : 0) | (pdu.isContinued ? CONTINUE_BIT : 0);
  writeLun(pdu.lun, bytes, offset + 8);
  writeU32(bytes, offset + 16, pdu.initiatorTaskTag);
  writeU32(bytes, offset + 20, pdu.targetTransferTag);
  writeSequence(pdu, bytes, offset);
}

/**
 * The tag of a final response must be ignored (§11.10.4) and reads as reserved, whatever was sent; one that is not
 * final must have a tag, or there would be no way to ask for the rest.
 */
export function readTextResponse(header: Buffer, data: Buffer): TextResponsePdu {
  const isFinal = isFinalHeader(header);
  const isContinued = (header.readUInt8(1) & CONTINUE_BIT) !== 0;
  const targetTransferTag = isFinal ? RESERVED_TAG : readU32(header, 20);
  if (isContinued && isFinal) {
    throw fieldInvalid(Opcode.textResponse, "11.11.2", "the C bit and the F bit are both set");
  }
  if (!isFinal && targetTransferTag === RESERVED_TAG) {
    throw fieldInvalid(Opcode.textResponse, "11.11.1", "the response is not final but has no target transfer tag");
  }
  return {
    type: "text-response",
    isFinal,
    isContinued,
    lun: lunOf(header),
    initiatorTaskTag: taskTagOf(header),
    targetTransferTag,
    statSn: readU32(header, 24),
    expCmdSn: readU32(header, 28),
    maxCmdSn: readU32(header, 32),
    data,
  };
}
