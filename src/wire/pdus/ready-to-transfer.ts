import { writeLun } from "../../base/lun.js";
import { Opcode, RESERVED_TAG } from "../constants.js";
import { fieldInvalid } from "../errors.js";
import { FINAL_BIT, lunOf, refuseData, taskTagOf, writeSequence } from "../header.js";
import type { ReadyToTransferPdu } from "../pdu.js";

/** Ready To Transfer (R2T), RFC 7143 §11.8. */

/** Writes the basic header without lengths. The bytes at `offset` are zero. */
export function writeReadyToTransfer(pdu: ReadyToTransferPdu, bytes: Buffer, offset: number): void {
  bytes[offset] = Opcode.readyToTransfer;
  bytes[offset + 1] = FINAL_BIT;
  writeLun(pdu.lun, bytes, offset + 8);
  bytes.writeUInt32BE(pdu.initiatorTaskTag, offset + 16);
  bytes.writeUInt32BE(pdu.targetTransferTag, offset + 20);
  writeSequence(pdu, bytes, offset);
  bytes.writeUInt32BE(pdu.r2tSn, offset + 36);
  bytes.writeUInt32BE(pdu.bufferOffset, offset + 40);
  bytes.writeUInt32BE(pdu.desiredDataTransferLength, offset + 44);
}

/** That the length keeps to MaxBurstLength and to the task is the session's to check. */
export function readReadyToTransfer(header: Buffer): ReadyToTransferPdu {
  refuseData(header, "11.8.1");
  const targetTransferTag = header.readUInt32BE(20);
  if (targetTransferTag === RESERVED_TAG) {
    throw fieldInvalid(Opcode.readyToTransfer, "11.8.5", "the target transfer tag is the reserved 0xffffffff");
  }
  const desiredDataTransferLength = header.readUInt32BE(44);
  if (desiredDataTransferLength === 0) {
    throw fieldInvalid(Opcode.readyToTransfer, "11.8.4", "the desired data transfer length is 0");
  }
  return {
    type: "ready-to-transfer",
    lun: lunOf(header),
    initiatorTaskTag: taskTagOf(header),
    targetTransferTag,
    statSn: header.readUInt32BE(24),
    expCmdSn: header.readUInt32BE(28),
    maxCmdSn: header.readUInt32BE(32),
    r2tSn: header.readUInt32BE(36),
    bufferOffset: header.readUInt32BE(40),
    desiredDataTransferLength,
  };
}
