import { writeLun } from "../../base/lun.js";
import { Opcode } from "../constants.js";
import { fieldInvalid } from "../errors.js";
import { FINAL_BIT, isFinalHeader, lunOf, taskTagOf, readU32, writeU32 } from "../header.js";
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
  writeU32(bytes, offset + 16, pdu.initiatorTaskTag);
  writeU32(bytes, offset + 20, pdu.targetTransferTag);
  writeU32(bytes, offset + 28, pdu.expStatSn);
  writeU32(bytes, offset + 36, pdu.dataSn);
  writeU32(bytes, offset + 40, pdu.bufferOffset);
}

export function readScsiDataOut(header: Buffer, data: Buffer): ScsiDataOutPdu {
  return {
    type: "scsi-data-out",
    isFinal: isFinalHeader(header),
    lun: lunOf(header),
    initiatorTaskTag: taskTagOf(header),
    targetTransferTag: readU32(header, 20),
    expStatSn: readU32(header, 28),
    dataSn: readU32(header, 36),
    bufferOffset: readU32(header, 40),
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
  writeU32(bytes, offset + 16, pdu.initiatorTaskTag);
  writeU32(bytes, offset + 20, pdu.targetTransferTag);
  writeU32(bytes, offset + 28, pdu.expCmdSn);
  writeU32(bytes, offset + 32, pdu.maxCmdSn);
  writeU32(bytes, offset + 36, pdu.dataSn);
  writeU32(bytes, offset + 40, pdu.bufferOffset);
  if (pdu.hasStatus) {
    flags |= STATUS_BIT | (pdu.isOverflow ? OVERFLOW_BIT : 0) | (pdu.isUnderflow ? UNDERFLOW_BIT : 0);
    bytes.writeUInt8(pdu.status, offset + 3);
    writeU32(bytes, offset + 24, pdu.statSn);
    writeU32(bytes, offset + 44, pdu.residualCount);
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
    targetTransferTag: readU32(header, 20),
    statSn: hasStatus ? readU32(header, 24) : 0,
    expCmdSn: readU32(header, 28),
    maxCmdSn: readU32(header, 32),
    dataSn: readU32(header, 36),
    bufferOffset: readU32(header, 40),
    residualCount: isOverflow || isUnderflow ? readU32(header, 44) : 0,
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
