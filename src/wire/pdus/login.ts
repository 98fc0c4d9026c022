import { assert } from "../../base/assert.js";
import { LoginStage, Opcode } from "../constants.js";
import { fieldInvalid } from "../errors.js";
import { FINAL_BIT, IMMEDIATE_BIT, taskTagOf, writeSequence, readU32, writeU32 } from "../header.js";
import type { LoginRequestPdu, LoginResponsePdu } from "../pdu.js";

/** Login Request and Login Response, RFC 7143 §11.12 and §11.13. */

const TRANSIT_BIT = FINAL_BIT;
const CONTINUE_BIT = 0x40;
const CURRENT_STAGE_SHIFT = 2;
const STAGE_MASK = 0x03;

/** Length of the initiator's part of the session identifier, §11.12.5. */
export const ISID_BYTES = 6;

const stages: readonly (LoginStage | undefined)[] = [
  LoginStage.securityNegotiation,
  LoginStage.operationalNegotiation,
  undefined,
  LoginStage.fullFeature,
];

interface StageFields {
  readonly isTransit: boolean;
  readonly isContinued: boolean;
  readonly currentStage: LoginStage;
  readonly nextStage: LoginStage;
}

function stageFlags(fields: StageFields): number {
  return (
    (fields.isContinued ? CONTINUE_BIT : 0) |
    (fields.currentStage << CURRENT_STAGE_SHIFT) |
    // The next stage is reserved, so zero, unless there is a transition (§11.12.3).
    (fields.isTransit ? TRANSIT_BIT | fields.nextStage : 0)
  );
}

/** Without the T bit the next stage is reserved and reads as the current one. */
function readStages(header: Buffer, opcode: number, section: string): StageFields {
  const flags = header.readUInt8(1);
  const isTransit = (flags & TRANSIT_BIT) !== 0;
  const isContinued = (flags & CONTINUE_BIT) !== 0;
  if (isContinued && isTransit) throw fieldInvalid(opcode, section, "the C bit and the T bit are both set");
  const currentStage = stages[(flags >>> CURRENT_STAGE_SHIFT) & STAGE_MASK];
  const nextStage = isTransit ? stages[flags & STAGE_MASK] : currentStage;
  if (currentStage === undefined || nextStage === undefined) {
    throw fieldInvalid(opcode, "11.12.3", "login stage 2 is reserved");
  }
  return { isTransit, isContinued, currentStage, nextStage };
}

/** Writes the basic header without lengths. The bytes at `offset` are zero. */
export function writeLoginRequest(pdu: LoginRequestPdu, bytes: Buffer, offset: number): void {
  assert(pdu.isid.length === ISID_BYTES, "an ISID has six bytes");
  bytes[offset] = Opcode.loginRequest | IMMEDIATE_BIT;
  bytes[offset + 1] = stageFlags(pdu);
  bytes.writeUInt8(pdu.versionMax, offset + 2);
  bytes.writeUInt8(pdu.versionMin, offset + 3);
  pdu.isid.copy(bytes, offset + 8);
  bytes.writeUInt16BE(pdu.tsih, offset + 14);
  writeU32(bytes, offset + 16, pdu.initiatorTaskTag);
  bytes.writeUInt16BE(pdu.cid, offset + 20);
  writeU32(bytes, offset + 24, pdu.cmdSn);
  writeU32(bytes, offset + 28, pdu.expStatSn);
}

/** A Login Request counts as immediate whatever its I bit says (§11.12). `isid` is a copy. */
export function readLoginRequest(header: Buffer, data: Buffer): LoginRequestPdu {
  const fields = readStages(header, Opcode.loginRequest, "11.12.2");
  if (header.readUInt8(8) >>> 6 === 0b11) {
    throw fieldInvalid(Opcode.loginRequest, "11.12.5", "the ISID has the reserved type 11b");
  }
  return {
    type: "login-request",
    ...fields,
    versionMax: header.readUInt8(2),
    versionMin: header.readUInt8(3),
    isid: Buffer.from(header.subarray(8, 14)),
    tsih: header.readUInt16BE(14),
    initiatorTaskTag: taskTagOf(header),
    cid: header.readUInt16BE(20),
    cmdSn: readU32(header, 24),
    expStatSn: readU32(header, 28),
    data,
  };
}

/** Writes the basic header without lengths. The bytes at `offset` are zero. */
export function writeLoginResponse(pdu: LoginResponsePdu, bytes: Buffer, offset: number): void {
  assert(pdu.isid.length === ISID_BYTES, "an ISID has six bytes");
  bytes[offset] = Opcode.loginResponse;
  bytes[offset + 1] = stageFlags(pdu);
  bytes.writeUInt8(pdu.versionMax, offset + 2);
  bytes.writeUInt8(pdu.versionActive, offset + 3);
  pdu.isid.copy(bytes, offset + 8);
  bytes.writeUInt16BE(pdu.tsih, offset + 14);
  writeU32(bytes, offset + 16, pdu.initiatorTaskTag);
  writeSequence(pdu, bytes, offset);
  bytes.writeUInt8(pdu.statusClass, offset + 36);
  bytes.writeUInt8(pdu.statusDetail, offset + 37);
}

/**
 * A response that ends the login (status class other than 0) says all in its status: its stage fields are not looked
 * at and read as no transition. The numbers of such a response are not valid either (§11.13.5). `isid` is a copy.
 */
export function readLoginResponse(header: Buffer, data: Buffer): LoginResponsePdu {
  const statusClass = header.readUInt8(36);
  const fields: StageFields =
    statusClass === 0
      ? readStages(header, Opcode.loginResponse, "11.13.7")
      : {
          isTransit: false,
          isContinued: false,
          currentStage: LoginStage.securityNegotiation,
          nextStage: LoginStage.securityNegotiation,
        };
  return {
    type: "login-response",
    ...fields,
    versionMax: header.readUInt8(2),
    versionActive: header.readUInt8(3),
    isid: Buffer.from(header.subarray(8, 14)),
    tsih: header.readUInt16BE(14),
    initiatorTaskTag: taskTagOf(header),
    statSn: readU32(header, 24),
    expCmdSn: readU32(header, 28),
    maxCmdSn: readU32(header, 32),
    statusClass,
    statusDetail: header.readUInt8(37),
    data,
  };
}
