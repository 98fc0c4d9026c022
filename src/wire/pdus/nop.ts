import { writeLun } from "../../base/lun.js";
import { Opcode, RESERVED_TAG } from "../constants.js";
import { fieldInvalid } from "../errors.js";
import {
  FINAL_BIT,
  IMMEDIATE_BIT,
  isImmediateHeader,
  lunOf,
  refuseData,
  writeSequence,
  readU32,
  writeU32,
} from "../header.js";
import type { NopInPdu, NopOutPdu } from "../pdu.js";

/** NOP-Out and NOP-In, RFC 7143 §11.18 and §11.19. */

/** Writes the basic header without lengths. The bytes at `offset` are zero. */
export function writeNopOut(pdu: NopOutPdu, bytes: Buffer, offset: number): void {
  bytes[offset] = Opcode.nopOut | (pdu.isImmediate ? IMMEDIATE_BIT : 0);
  bytes[offset + 1] = FINAL_BIT;
  writeLun(pdu.lun, bytes, offset + 8);
  writeU32(bytes, offset + 16, pdu.initiatorTaskTag);
  writeU32(bytes, offset + 20, pdu.targetTransferTag);
  writeU32(bytes, offset + 24, pdu.cmdSn);
  writeU32(bytes, offset + 28, pdu.expStatSn);
}

export function readNopOut(header: Buffer, data: Buffer): NopOutPdu {
  const isImmediate = isImmediateHeader(header);
  const initiatorTaskTag = readU32(header, 16);
  if (initiatorTaskTag === RESERVED_TAG && !isImmediate) {
    throw fieldInvalid(Opcode.nopOut, "11.18.1", "a NOP-Out that asks for no answer must be immediate");
  }
  return {
    type: "nop-out",
    isImmediate,
    lun: lunOf(header),
    initiatorTaskTag,
    targetTransferTag: readU32(header, 20),
    cmdSn: readU32(header, 24),
    expStatSn: readU32(header, 28),
    data,
  };
}

/** Writes the basic header without lengths. The bytes at `offset` are zero. */
export function writeNopIn(pdu: NopInPdu, bytes: Buffer, offset: number): void {
  bytes[offset] = Opcode.nopIn;
  bytes[offset + 1] = FINAL_BIT;
  writeLun(pdu.lun, bytes, offset + 8);
  writeU32(bytes, offset + 16, pdu.initiatorTaskTag);
  writeU32(bytes, offset + 20, pdu.targetTransferTag);
  writeSequence(pdu, bytes, offset);
}

export function readNopIn(header: Buffer, data: Buffer): NopInPdu {
  const initiatorTaskTag = readU32(header, 16);
  const targetTransferTag = readU32(header, 20);
  if (initiatorTaskTag === RESERVED_TAG) {
    refuseData(header, "11.19");
  } else if (targetTransferTag !== RESERVED_TAG) {
    throw fieldInvalid(Opcode.nopIn, "11.19.1", "both the initiator task tag and the target transfer tag are valid");
  }
  return {
    type: "nop-in",
    lun: lunOf(header),
    initiatorTaskTag,
    targetTransferTag,
    statSn: readU32(header, 24),
    expCmdSn: readU32(header, 28),
    maxCmdSn: readU32(header, 32),
    data,
  };
}
