import { type GoldenPdu, testGolden } from "./golden.js";

/** Messages, text, login, logout, Reject and NOP a target sends. Bytes by hand from the figures of RFC 7143 §11; see each section. */

/** StatSN, ExpCmdSN and MaxCmdSN at 24 to 35, as every figure of a target PDU has them. */
const sequenceBytes = "00 00 03 01  00 00 01 01  00 00 01 20";
const sequence = { statSn: 0x301, expCmdSn: 0x101, maxCmdSn: 0x120 };

const asyncMessage: GoldenPdu = {
  name: "Asynchronous Message, connection drop, §11.9",
  wire: `
    32 80 00 00
    00 00 00 00
    00 00 00 00 00 00 00 00
    ff ff ff ff
    00 00 00 00
    ${sequenceBytes}
    02 00 00 03              # event 2, vendor code 0, Parameter1: CID 3
    00 05 00 14              # Parameter2: Time2Wait 5, Parameter3: Time2Retain 20
    00 00 00 00`,
  pdu: {
    type: "async-message",
    lun: { high: 0, low: 0 },
    ...sequence,
    asyncEvent: 2,
    asyncVCode: 0,
    parameter1: 3,
    parameter2: 5,
    parameter3: 20,
    data: Buffer.alloc(0),
  },
};

const asyncVendor: GoldenPdu = {
  name: "Asynchronous Message, vendor event with data, §11.9.2, §11.9.4",
  wire: `
    32 80 00 00
    00 00 00 04
    00 06 00 00 00 00 00 00
    ff ff ff ff
    00 00 00 00
    ${sequenceBytes}
    ff 2a 00 00
    00 00 00 00
    00 00 00 00
    00 00 be ef              # SenseLength 0, event data`,
  pdu: {
    type: "async-message",
    lun: { high: 0x0006_0000, low: 0 },
    ...sequence,
    asyncEvent: 255,
    asyncVCode: 0x2a,
    parameter1: 0,
    parameter2: 0,
    parameter3: 0,
    data: Buffer.from("0000beef", "hex"),
  },
};

const textResponse: GoldenPdu = {
  name: "Text Response with more to come, §11.11",
  wire: `
    24 40 00 00              # F=0 C=1
    00 00 00 04
    00 07 00 00 00 00 00 00
    00 00 00 40
    12 34 56 78              # Target Transfer Tag for the next request
    ${sequenceBytes}
    00 00 00 00 00 00 00 00 00 00 00 00
    54 61 72 67              # "Targ": a pair may be cut anywhere`,
  pdu: {
    type: "text-response",
    isFinal: false,
    isContinued: true,
    lun: { high: 0x0007_0000, low: 0 },
    initiatorTaskTag: 0x40,
    targetTransferTag: 0x1234_5678,
    ...sequence,
    data: Buffer.from("Targ"),
  },
};

const loginResponse: GoldenPdu = {
  name: "Login Response, final, §11.13",
  wire: `
    23 87 00 00              # T=1 C=0 CSG=1 NSG=3; version max 0, active 0
    00 00 00 00
    80 12 34 56 00 07
    be ef                    # TSIH
    00 00 00 01
    00 00 00 00
    ${sequenceBytes}
    00 00 00 00              # status 0000
    00 00 00 00 00 00 00 00`,
  pdu: {
    type: "login-response",
    isTransit: true,
    isContinued: false,
    currentStage: 1,
    nextStage: 3,
    versionMax: 0,
    versionActive: 0,
    isid: Buffer.from("801234560007", "hex"),
    tsih: 0xbeef,
    initiatorTaskTag: 1,
    ...sequence,
    statusClass: 0,
    statusDetail: 0,
    data: Buffer.alloc(0),
  },
};

const loginRedirect: GoldenPdu = {
  name: "Login Response, target moved temporarily, §11.13.5",
  wire: `
    23 00 00 00
    00 00 00 05
    80 12 34 56 00 07
    00 00
    00 00 00 01
    00 00 00 00
    ${sequenceBytes}
    01 01 00 00              # status 0101
    00 00 00 00 00 00 00 00
    54 3d 61 3a 00 00 00 00  # five bytes of text, padding`,
  pdu: {
    type: "login-response",
    isTransit: false,
    isContinued: false,
    currentStage: 0,
    nextStage: 0,
    versionMax: 0,
    versionActive: 0,
    isid: Buffer.from("801234560007", "hex"),
    tsih: 0,
    initiatorTaskTag: 1,
    ...sequence,
    statusClass: 1,
    statusDetail: 1,
    data: Buffer.from("T=a:\0"),
  },
};

const logoutResponse: GoldenPdu = {
  name: "Logout Response, recovery not supported, §11.15",
  wire: `
    26 80 02 00              # response 2
    00 00 00 00
    00 00 00 00 00 00 00 00
    00 00 00 50
    00 00 00 00
    ${sequenceBytes}
    00 00 00 00
    00 02 00 14              # Time2Wait 2, Time2Retain 20
    00 00 00 00`,
  pdu: {
    type: "logout-response",
    response: 2,
    initiatorTaskTag: 0x50,
    ...sequence,
    time2Wait: 2,
    time2Retain: 20,
  },
};

const reject: GoldenPdu = {
  name: "Reject, protocol error with the header at fault, §11.17",
  wire: `
    3f 80 04 00              # reason 4
    00 00 00 30              # 48 bytes
    00 00 00 00 00 00 00 00
    ff ff ff ff
    00 00 00 00
    ${sequenceBytes}
    00 00 00 0d              # DataSN/R2TSN
    00 00 00 00 00 00 00 00
    10 80 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    00 00 00 2a ff ff ff ff 00 00 00 00 00 00 02 24
    00 00 00 00 00 00 00 00 00 00 00 20 00 00 00 01`,
  pdu: {
    type: "reject",
    reason: 4,
    ...sequence,
    dataSnOrR2tSn: 13,
    data: Buffer.from(
      "10800000000000000000000000000000" + "0000002affffffff0000000000000224" + "00000000000000000000002000000001",
      "hex",
    ),
  },
};

const nopInPing: GoldenPdu = {
  name: "NOP-In, the target's ping, §11.19",
  wire: `
    20 80 00 00
    00 00 00 00
    00 05 00 00 00 00 00 00  # LUN, valid with the tag (§11.19.3)
    ff ff ff ff
    00 00 00 0c
    ${sequenceBytes}
    00 00 00 00 00 00 00 00 00 00 00 00`,
  pdu: {
    type: "nop-in",
    lun: { high: 0x0005_0000, low: 0 },
    initiatorTaskTag: 0xffff_ffff,
    targetTransferTag: 0x0c,
    ...sequence,
    data: Buffer.alloc(0),
  },
};

const nopInAnswer: GoldenPdu = {
  name: "NOP-In, answer with returned data, §11.19",
  wire: `
    20 80 00 00
    00 00 00 04
    00 00 00 00 00 00 00 00
    00 00 00 60
    ff ff ff ff
    ${sequenceBytes}
    00 00 00 00 00 00 00 00 00 00 00 00
    70 69 6e 67`,
  pdu: {
    type: "nop-in",
    lun: { high: 0, low: 0 },
    initiatorTaskTag: 0x60,
    targetTransferTag: 0xffff_ffff,
    ...sequence,
    data: Buffer.from("ping"),
  },
};

testGolden([
  asyncMessage,
  asyncVendor,
  textResponse,
  loginResponse,
  loginRedirect,
  logoutResponse,
  reject,
  nopInPing,
  nopInAnswer,
]);
