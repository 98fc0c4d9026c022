import { writeLun } from "../../base/lun.js";
import { Opcode } from "../constants.js";
import { fieldInvalid } from "../errors.js";
import { FINAL_BIT, isFinalHeader, lunOf, taskTagOf } from "../header.js";
import type { ScsiDataInPdu, ScsiDataOutPdu } from "../pdu.js";

/** SCSI Data-Out and SCSI Data-In, RFC 7143 §11.7. */

const ACKNOWLEDGE_BIT = 0x40;
const OVERFLOW_BIT = 0x04;
const UNDERFLOW_BIT = 0x02;
const STATUS_BIT = 0x01;

const STATUS_GOOD = 0x00;
const STATUS_CONDITION_MET = 0x04;
const STATUS_INTERMEDIATE = 0x10;
const STATUS_INTERMEDIATE_CONDITION_MET = 0x14;

/** Writes the basic header without lengths. The bytes at `offset` are zero. */
export function writeScsiDataOut(pdu: ScsiDataOutPdu, bytes: Buffer, offset: number): void {
  bytes[offset] = Opcode.scsiDataOut;
  bytes[offset + 1] = pdu.isFinal ? FINAL_BIT : 0;
  writeLun(pdu.lun, bytes, offset + 8);
  bytes.writeUInt32BE(pdu.initiatorTaskTag, offset + 16);
  bytes.writeUInt32BE(pdu.targetTransferTag, offset + 20);
  bytes.writeUInt32BE(pdu.expStatSn, offset + 28);
  bytes.writeUInt32BE(pdu.dataSn, offset + 36);
  bytes.writeUInt32BE(pdu.bufferOffset, offset + 40);
}

export function readScsiDataOut(header: Buffer, data: Buffer): ScsiDataOutPdu {
  return {
    type: "scsi-data-out",
    isFinal: isFinalHeader(header),
    lun: lunOf(header),
    initiatorTaskTag: taskTagOf(header),
    targetTransferTag: header.readUInt32BE(20),
    expStatSn: header.readUInt32BE(28),
    dataSn: header.readUInt32BE(36),
    bufferOffset: header.readUInt32BE(40),
    data,
  };
}

/**
 * Writes the basic header without lengths. The bytes at `offset` are zero. Without status its fields stay zero, as
 * reserved ones must.
 */
export function writeScsiDataIn(pdu: ScsiDataInPdu, bytes: Buffer, offset: number): void {
  bytes[offset] = Opcode.scsiDataIn;
  let flags = (pdu.isFinal ? FINAL_BIT : 0) | (pdu.isAcknowledgeRequested ? ACKNOWLEDGE_BIT : 0);
  writeLun(pdu.lun, bytes, offset + 8);
  bytes.writeUInt32BE(pdu.initiatorTaskTag, offset + 16);
  bytes.writeUInt32BE(pdu.targetTransferTag, offset + 20);
  bytes.writeUInt32BE(pdu.expCmdSn, offset + 28);
  bytes.writeUInt32BE(pdu.maxCmdSn, offset + 32);
  bytes.writeUInt32BE(pdu.dataSn, offset + 36);
  bytes.writeUInt32BE(pdu.bufferOffset, offset + 40);
  if (pdu.hasStatus) {
    flags |= STATUS_BIT | (pdu.isOverflow ? OVERFLOW_BIT : 0) | (pdu.isUnderflow ? UNDERFLOW_BIT : 0);
    bytes.writeUInt8(pdu.status, offset + 3);
    bytes.writeUInt32BE(pdu.statSn, offset + 24);
    bytes.writeUInt32BE(pdu.residualCount, offset + 44);
  }
  bytes[offset + 1] = flags;
}

/** Without the S bit, StatSN, status, residual and their flags have no meaning (§11.7.3) and read as 0 and false. */
export function readScsiDataIn(header: Buffer, data: Buffer): ScsiDataInPdu {
  const flags = header.readUInt8(1);
  const isFinal = (flags & FINAL_BIT) !== 0;
  const hasStatus = (flags & STATUS_BIT) !== 0;
  const isOverflow = hasStatus && (flags & OVERFLOW_BIT) !== 0;
  const isUnderflow = hasStatus && (flags & UNDERFLOW_BIT) !== 0;
  const status = hasStatus ? header.readUInt8(3) : 0;
  if (hasStatus) {
    if (!isFinal) throw dataInInvalid("11.7.3", "the S bit is set without the F bit");
    if (isOverflow && isUnderflow) throw dataInInvalid("11.4.1", "overflow and underflow are both set");
    if (!isStatusAllowed(status)) {
      throw dataInInvalid("11.7.3", `status 0x${status.toString(16)} must come in a SCSI Response`);
    }
  }
  return {
    type: "scsi-data-in",
    isFinal,
    isAcknowledgeRequested: (flags & ACKNOWLEDGE_BIT) !== 0,
    hasStatus,
    isOverflow,
    isUnderflow,
    status,
    lun: lunOf(header),
    initiatorTaskTag: taskTagOf(header),
    targetTransferTag: header.readUInt32BE(20),
    statSn: hasStatus ? header.readUInt32BE(24) : 0,
    expCmdSn: header.readUInt32BE(28),
    maxCmdSn: header.readUInt32BE(32),
    dataSn: header.readUInt32BE(36),
    bufferOffset: header.readUInt32BE(40),
    residualCount: isOverflow || isUnderflow ? header.readUInt32BE(44) : 0,
    data,
  };
}

function isStatusAllowed(status: number): boolean {
  return (
    status === STATUS_GOOD ||
    status === STATUS_CONDITION_MET ||
    status === STATUS_INTERMEDIATE ||
    status === STATUS_INTERMEDIATE_CONDITION_MET
  );
}

function dataInInvalid(section: string, message: string): Error {
  return fieldInvalid(Opcode.scsiDataIn, section, message);
}
