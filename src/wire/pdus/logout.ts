import { LogoutReason, Opcode } from "../constants.js";
import { fieldInvalid } from "../errors.js";
import {
  FINAL_BIT,
  IMMEDIATE_BIT,
  isImmediateHeader,
  refuseData,
  taskTagOf,
  writeSequence,
  readU32,
  writeU32,
} from "../header.js";
import type { LogoutRequestPdu, LogoutResponsePdu } from "../pdu.js";

/** Logout Request and Logout Response, RFC 7143 §11.14 and §11.15. */

const REASON_MASK = 0x7f;
const LAST_RESPONSE = 3;

/** Writes the basic header without lengths. The bytes at `offset` are zero. */
export function writeLogoutRequest(pdu: LogoutRequestPdu, bytes: Buffer, offset: number): void {
  bytes[offset] = Opcode.logoutRequest | (pdu.isImmediate ? IMMEDIATE_BIT : 0);
  bytes[offset + 1] = FINAL_BIT | (pdu.reason & REASON_MASK);
  writeU32(bytes, offset + 16, pdu.initiatorTaskTag);
  bytes.writeUInt16BE(pdu.cid, offset + 20);
  writeU32(bytes, offset + 24, pdu.cmdSn);
  writeU32(bytes, offset + 28, pdu.expStatSn);
}

/** `cid` means nothing when the whole session is closed (§11.14.3). */
export function readLogoutRequest(header: Buffer): LogoutRequestPdu {
  refuseData(header, "11.14.2");
  const reason = header.readUInt8(1) & REASON_MASK;
  if (reason > LogoutReason.recovery) {
    throw fieldInvalid(Opcode.logoutRequest, "11.14.1", `reason code ${reason} is reserved`);
  }
  return {
    type: "logout-request",
    isImmediate: isImmediateHeader(header),
    reason,
    initiatorTaskTag: taskTagOf(header),
    cid: header.readUInt16BE(20),
    cmdSn: readU32(header, 24),
    expStatSn: readU32(header, 28),
  };
}

/** Writes the basic header without lengths. The bytes at `offset` are zero. */
export function writeLogoutResponse(pdu: LogoutResponsePdu, bytes: Buffer, offset: number): void {
  bytes[offset] = Opcode.logoutResponse;
  bytes[offset + 1] = FINAL_BIT;
  bytes.writeUInt8(pdu.response, offset + 2);
  writeU32(bytes, offset + 16, pdu.initiatorTaskTag);
  writeSequence(pdu, bytes, offset);
  bytes.writeUInt16BE(pdu.time2Wait, offset + 40);
  bytes.writeUInt16BE(pdu.time2Retain, offset + 42);
}

/** Times are in seconds. */
export function readLogoutResponse(header: Buffer): LogoutResponsePdu {
  refuseData(header, "11.15.2");
  const response = header.readUInt8(2);
  if (response > LAST_RESPONSE) {
    throw fieldInvalid(Opcode.logoutResponse, "11.15.1", `response code ${response} is not assigned`);
  }
  return {
    type: "logout-response",
    response,
    initiatorTaskTag: taskTagOf(header),
    statSn: readU32(header, 24),
    expCmdSn: readU32(header, 28),
    maxCmdSn: readU32(header, 32),
    time2Wait: header.readUInt16BE(40),
    time2Retain: header.readUInt16BE(42),
  };
}
