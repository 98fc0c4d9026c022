import { writeLun } from "../../base/lun.js";
import { Opcode, RESERVED_TAG, SnackType } from "../constants.js";
import { fieldInvalid } from "../errors.js";
import { FINAL_BIT, lunOf, refuseData, readU32, writeU32 } from "../header.js";
import type { SnackRequestPdu } from "../pdu.js";

/** SNACK Request, RFC 7143 §11.16. */

const TYPE_MASK = 0x0f;

const snackTypes: readonly SnackType[] = Object.values(SnackType);

/** Writes the basic header without lengths. The bytes at `offset` are zero. */
export function writeSnackRequest(pdu: SnackRequestPdu, bytes: Buffer, offset: number): void {
  bytes[offset] = Opcode.snackRequest;
  bytes[offset + 1] = FINAL_BIT | pdu.snackType;
  writeLun(pdu.lun, bytes, offset + 8);
  writeU32(bytes, offset + 16, pdu.initiatorTaskTag);
  writeU32(bytes, offset + 20, pdu.targetTransferTag);
  writeU32(bytes, offset + 28, pdu.expStatSn);
  writeU32(bytes, offset + 40, pdu.begRun);
  writeU32(bytes, offset + 44, pdu.runLength);
}

export function readSnackRequest(header: Buffer): SnackRequestPdu {
  refuseData(header, "11.2.1.6");
  const type = header.readUInt8(1) & TYPE_MASK;
  const snackType = snackTypes[type];
  if (snackType === undefined) throw snackInvalid("11.16.1", `type ${type} is reserved`);
  const pdu: SnackRequestPdu = {
    type: "snack-request",
    snackType,
    lun: lunOf(header),
    initiatorTaskTag: readU32(header, 16),
    targetTransferTag: readU32(header, 20),
    expStatSn: readU32(header, 28),
    begRun: readU32(header, 40),
    runLength: readU32(header, 44),
  };
  checkTags(pdu);
  checkRun(pdu);
  return pdu;
}

function checkTags(pdu: SnackRequestPdu): void {
  const hasTask = pdu.initiatorTaskTag !== RESERVED_TAG;
  const wantsTask = pdu.snackType === SnackType.dataOrR2t || pdu.snackType === SnackType.rData;
  if (hasTask !== wantsTask) {
    throw snackInvalid("11.16.4", `the initiator task tag ${wantsTask ? "is missing" : "must be 0xffffffff"}`);
  }
  const tag = pdu.targetTransferTag;
  switch (pdu.snackType) {
    case SnackType.rData:
      if (tag === 0 || tag === RESERVED_TAG) throw snackInvalid("11.16.5", "the SNACK tag is a reserved value");
      return;
    case SnackType.dataAck:
      if (tag === RESERVED_TAG) throw snackInvalid("11.16.5", "the target transfer tag is missing");
      return;
    case SnackType.dataOrR2t:
    case SnackType.status:
      if (tag !== RESERVED_TAG) throw snackInvalid("11.16.5", "the target transfer tag must be 0xffffffff");
      return;
  }
}

function checkRun(pdu: SnackRequestPdu): void {
  if (pdu.snackType === SnackType.rData && pdu.begRun !== 0) {
    throw snackInvalid("11.16.6", "BegRun of an R-Data SNACK must be 0");
  }
  const isRunless = pdu.snackType === SnackType.rData || pdu.snackType === SnackType.dataAck;
  if (isRunless && pdu.runLength !== 0) throw snackInvalid("11.16.7", "RunLength must be 0 for this type");
}

function snackInvalid(section: string, message: string): Error {
  return fieldInvalid(Opcode.snackRequest, section, message);
}
