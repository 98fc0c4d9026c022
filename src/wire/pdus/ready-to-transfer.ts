import { writeLun } from "../../base/lun.js";
import { Opcode, RESERVED_TAG } from "../constants.js";
import { fieldInvalid } from "../errors.js";
import { FINAL_BIT, lunOf, refuseData, taskTagOf, writeSequence, readU32, writeU32 } from "../header.js";
import type { ReadyToTransferPdu } from "../pdu.js";

/** Ready To Transfer (R2T), RFC 7143 §11.8. */

/** Writes the basic header without lengths. The bytes at `offset` are zero. */
export function writeReadyToTransfer(pdu: ReadyToTransferPdu, bytes: Buffer, offset: number): void {
  bytes[offset] = Opcode.readyToTransfer;
  bytes[offset + 1] = FINAL_BIT;
  writeLun(pdu.lun, bytes, offset + 8);
  writeU32(bytes, offset + 16, pdu.initiatorTaskTag);
  writeU32(bytes, offset + 20, pdu.targetTransferTag);
  writeSequence(pdu, bytes, offset);
  writeU32(bytes, offset + 36, pdu.r2tSn);
  writeU32(bytes, offset + 40, pdu.bufferOffset);
  writeU32(bytes, offset + 44, pdu.desiredDataTransferLength);
}

/** That the length keeps to MaxBurstLength and to the task is the session's to check. */
export function readReadyToTransfer(header: Buffer): ReadyToTransferPdu {
  refuseData(header, "11.8.1");
  const targetTransferTag = readU32(header, 20);
  if (targetTransferTag === RESERVED_TAG) {
    throw fieldInvalid(Opcode.readyToTransfer, "11.8.5", "the target transfer tag is the reserved 0xffffffff");
  }
  const desiredDataTransferLength = readU32(header, 44);
  if (desiredDataTransferLength === 0) {
    throw fieldInvalid(Opcode.readyToTransfer, "11.8.4", "the desired data transfer length is 0");
  }
  return {
    type: "ready-to-transfer",
    lun: lunOf(header),
    initiatorTaskTag: taskTagOf(header),
    targetTransferTag,
    statSn: readU32(header, 24),
    expCmdSn: readU32(header, 28),
    maxCmdSn: readU32(header, 32),
    r2tSn: readU32(header, 36),
    bufferOffset: readU32(header, 40),
    desiredDataTransferLength,
  };
}
