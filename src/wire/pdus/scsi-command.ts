import { writeLun } from "../../base/lun.js";
import { CDB_FIELD_BYTES, readAhs } from "../ahs.js";
import { Opcode, TaskAttribute } from "../constants.js";
import { fieldInvalid } from "../errors.js";
import {
  FINAL_BIT,
  IMMEDIATE_BIT,
  isImmediateHeader,
  lunOf,
  taskTagOf,
  writeSequence,
  readU32,
  writeU32,
} from "../header.js";
import type { ScsiCommandPdu, ScsiResponsePdu } from "../pdu.js";

/** SCSI Command and SCSI Response, RFC 7143 §11.3 and §11.4 with RFC 7144 §5. */

const READ_BIT = 0x40;
const WRITE_BIT = 0x20;
const ATTRIBUTE_MASK = 0x07;
/** Byte 2, the upper half: RFC 7144 §5.1.1. */
const PRIORITY_SHIFT = 4;

const BIDIRECTIONAL_OVERFLOW_BIT = 0x10;
const BIDIRECTIONAL_UNDERFLOW_BIT = 0x08;
const OVERFLOW_BIT = 0x04;
const UNDERFLOW_BIT = 0x02;

const RESPONSE_COMPLETED = 0x00;
const RESPONSE_TARGET_FAILURE = 0x01;
const RESPONSE_FIRST_VENDOR = 0x80;

const taskAttributes: readonly TaskAttribute[] = Object.values(TaskAttribute);

/** Writes the basic header without lengths; the AHS is the caller's. The bytes at `offset` are zero. */
export function writeScsiCommand(pdu: ScsiCommandPdu, bytes: Buffer, offset: number): void {
  bytes[offset] = Opcode.scsiCommand | (pdu.isImmediate ? IMMEDIATE_BIT : 0);
  bytes[offset + 1] =
    (pdu.isFinal ? FINAL_BIT : 0) |
    (pdu.isRead ? READ_BIT : 0) |
    (pdu.isWrite ? WRITE_BIT : 0) |
    (pdu.taskAttribute & ATTRIBUTE_MASK);
  if (pdu.commandPriority !== undefined) bytes.writeUInt8(pdu.commandPriority << PRIORITY_SHIFT, offset + 2);
  writeLun(pdu.lun, bytes, offset + 8);
  writeU32(bytes, offset + 16, pdu.initiatorTaskTag);
  writeU32(bytes, offset + 20, pdu.expectedDataTransferLength);
  writeU32(bytes, offset + 24, pdu.cmdSn);
  writeU32(bytes, offset + 28, pdu.expStatSn);
  const { cdb } = pdu;
  const fieldBytes = Math.min(cdb.length, CDB_FIELD_BYTES);
  // At most 16 bytes: a loop costs less than the view that copy() makes.
  for (let index = 0; index < fieldBytes; index += 1) bytes[offset + 32 + index] = cdb[index] ?? 0;
}

/** A decoded CDB has at least 16 bytes: how many of them count is known to the SCSI layer only. */
export function readScsiCommand(header: Buffer, ahs: Buffer | undefined, data: Buffer): ScsiCommandPdu {
  const flags = header.readUInt8(1);
  const isFinal = (flags & FINAL_BIT) !== 0;
  const isRead = (flags & READ_BIT) !== 0;
  const isWrite = (flags & WRITE_BIT) !== 0;
  if (!isFinal && !isWrite) throw commandInvalid("11.3.1", "neither the W bit nor the F bit is set");
  const taskAttribute = taskAttributes[flags & ATTRIBUTE_MASK];
  if (taskAttribute === undefined) {
    throw commandInvalid("11.3.1", `task attribute ${flags & ATTRIBUTE_MASK} is reserved`);
  }
  const initiatorTaskTag = taskTagOf(header);
  const expectedDataTransferLength = readU32(header, 20);
  const additional = ahs === undefined ? undefined : readAhs(ahs);
  const readLength = additional?.bidirectionalReadLength;
  if (!isRead && !isWrite && (expectedDataTransferLength !== 0 || (readLength ?? 0) !== 0)) {
    throw commandInvalid("11.3.1", "a transfer is expected but neither the R bit nor the W bit is set");
  }
  if (isRead && isWrite && readLength === undefined) {
    throw commandInvalid("11.3.4", "a bidirectional command has no bidirectional read length");
  }
  if (isWrite && !isFinal && data.length === expectedDataTransferLength) {
    throw commandInvalid("11.3.4", "all data is immediate, so no more follows and the F bit must be set");
  }
  const pdu: ScsiCommandPdu = {
    type: "scsi-command",
    isImmediate: isImmediateHeader(header),
    isFinal,
    isRead,
    isWrite,
    taskAttribute,
    lun: lunOf(header),
    initiatorTaskTag,
    expectedDataTransferLength,
    cmdSn: readU32(header, 24),
    expStatSn: readU32(header, 28),
    cdb: joinCdb(header, additional?.cdbRest),
    data,
  };
  const commandPriority = header.readUInt8(2) >>> PRIORITY_SHIFT;
  const isBidirectional = isRead && isWrite && readLength !== undefined;
  if (!isBidirectional && commandPriority === 0) return pdu;
  return {
    ...pdu,
    ...(isBidirectional ? { bidirectionalReadLength: readLength } : {}),
    ...(commandPriority === 0 ? {} : { commandPriority }),
  };
}

/** A copy: the header buffer is used again for the next PDU. */
function joinCdb(header: Buffer, rest: Buffer | undefined): Buffer {
  const first = header.subarray(32, 32 + CDB_FIELD_BYTES);
  return rest === undefined ? Buffer.from(first) : Buffer.concat([first, rest]);
}

function commandInvalid(section: string, message: string): Error {
  return fieldInvalid(Opcode.scsiCommand, section, message);
}

/** Writes the basic header without lengths. The bytes at `offset` are zero. */
export function writeScsiResponse(pdu: ScsiResponsePdu, bytes: Buffer, offset: number): void {
  bytes[offset] = Opcode.scsiResponse;
  bytes[offset + 1] =
    FINAL_BIT |
    (pdu.isBidirectionalOverflow ? BIDIRECTIONAL_OVERFLOW_BIT : 0) |
    (pdu.isBidirectionalUnderflow ? BIDIRECTIONAL_UNDERFLOW_BIT : 0) |
    (pdu.isOverflow ? OVERFLOW_BIT : 0) |
    (pdu.isUnderflow ? UNDERFLOW_BIT : 0);
  bytes.writeUInt8(pdu.response, offset + 2);
  bytes.writeUInt8(pdu.status, offset + 3);
  if (pdu.statusQualifier !== undefined) bytes.writeUInt16BE(pdu.statusQualifier, offset + 8);
  writeU32(bytes, offset + 16, pdu.initiatorTaskTag);
  writeU32(bytes, offset + 20, pdu.snackTag);
  writeSequence(pdu, bytes, offset);
  writeU32(bytes, offset + 36, pdu.expDataSn);
  writeU32(bytes, offset + 40, pdu.bidirectionalResidualCount);
  writeU32(bytes, offset + 44, pdu.residualCount);
}

/**
 * Flags of a response other than "completed at target" are undefined (§11.4.3) and read as false; a residual count
 * without its flag must be ignored (§11.4.5.1) and reads as 0. Sense in the data segment is not looked at here.
 */
export function readScsiResponse(header: Buffer, data: Buffer): ScsiResponsePdu {
  const response = header.readUInt8(2);
  if (response > RESPONSE_TARGET_FAILURE && response < RESPONSE_FIRST_VENDOR) {
    throw fieldInvalid(Opcode.scsiResponse, "11.4.3", `response code ${response} is reserved`);
  }
  const flags = response === RESPONSE_COMPLETED ? header.readUInt8(1) : 0;
  const isBidirectionalOverflow = (flags & BIDIRECTIONAL_OVERFLOW_BIT) !== 0;
  const isBidirectionalUnderflow = (flags & BIDIRECTIONAL_UNDERFLOW_BIT) !== 0;
  const isOverflow = (flags & OVERFLOW_BIT) !== 0;
  const isUnderflow = (flags & UNDERFLOW_BIT) !== 0;
  if ((isOverflow && isUnderflow) || (isBidirectionalOverflow && isBidirectionalUnderflow)) {
    throw fieldInvalid(Opcode.scsiResponse, "11.4.1", "overflow and underflow are both set");
  }
  const pdu: ScsiResponsePdu = {
    type: "scsi-response",
    response,
    status: header.readUInt8(3),
    initiatorTaskTag: taskTagOf(header),
    snackTag: readU32(header, 20),
    statSn: readU32(header, 24),
    expCmdSn: readU32(header, 28),
    maxCmdSn: readU32(header, 32),
    expDataSn: readU32(header, 36),
    isBidirectionalOverflow,
    isBidirectionalUnderflow,
    isOverflow,
    isUnderflow,
    bidirectionalResidualCount: isBidirectionalOverflow || isBidirectionalUnderflow ? readU32(header, 40) : 0,
    residualCount: isOverflow || isUnderflow ? readU32(header, 44) : 0,
    data,
  };
  const statusQualifier = header.readUInt16BE(8);
  return statusQualifier === 0 ? pdu : { ...pdu, statusQualifier };
}
