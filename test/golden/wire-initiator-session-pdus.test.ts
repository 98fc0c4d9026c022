import { type GoldenPdu, testGolden } from "./golden.js";

/** Text, login, logout, SNACK and NOP an initiator sends. Bytes by hand from the figures of RFC 7143 §11; see each section. */

const textRequest: GoldenPdu = {
  name: "Text Request, SendTargets=All, §11.10",
  wire: `
    04 80 00 00              # F=1 C=0
    00 00 00 10
    00 00 00 00 00 00 00 00
    00 00 00 40
    ff ff ff ff              # a new request (§11.10.4)
    00 00 00 05
    00 00 00 06
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    53 65 6e 64 54 61 72 67 65 74 73 3d 41 6c 6c 00  # "SendTargets=All" and its NUL`,
  pdu: {
    type: "text-request",
    isImmediate: false,
    isFinal: true,
    isContinued: false,
    lun: { high: 0, low: 0 },
    initiatorTaskTag: 0x40,
    targetTransferTag: 0xffff_ffff,
    cmdSn: 5,
    expStatSn: 6,
    data: Buffer.from("SendTargets=All\0"),
  },
};

const loginRequest: GoldenPdu = {
  name: "Login Request, security to operational, §11.12",
  wire: `
    43 81 00 00              # I=1, opcode 03; T=1 C=0 CSG=0 NSG=1; versions 0
    00 00 00 0b
    80 12 34 56 00 07        # ISID: type 10b random, B and C, qualifier 7 (§11.12.5)
    00 00                    # TSIH 0: a new session
    00 00 00 01
    00 03 00 00              # CID 3, reserved
    00 00 00 7b              # CmdSN 123
    00 00 00 00
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    41 75 74 68 4d 65 74 68 6f 64 3d 00  # 11 bytes and one of padding: "AuthMethod="`,
  pdu: {
    type: "login-request",
    isTransit: true,
    isContinued: false,
    currentStage: 0,
    nextStage: 1,
    versionMax: 0,
    versionMin: 0,
    isid: Buffer.from("801234560007", "hex"),
    tsih: 0,
    initiatorTaskTag: 1,
    cid: 3,
    cmdSn: 123,
    expStatSn: 0,
    data: Buffer.from("AuthMethod="),
  },
};

const loginRequestContinued: GoldenPdu = {
  name: "Login Request, operational, text to be continued, §11.12.2, §11.12.3",
  wire: `
    43 44 00 00              # T=0 C=1 CSG=1 NSG reserved
    00 00 00 00
    00 02 3d 00 00 01        # ISID: type 00b OUI
    ab cd                    # TSIH
    00 00 00 02
    00 01 00 00
    00 00 00 7c
    00 00 00 09
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00`,
  pdu: {
    type: "login-request",
    isTransit: false,
    isContinued: true,
    currentStage: 1,
    nextStage: 1,
    versionMax: 0,
    versionMin: 0,
    isid: Buffer.from("00023d000001", "hex"),
    tsih: 0xabcd,
    initiatorTaskTag: 2,
    cid: 1,
    cmdSn: 0x7c,
    expStatSn: 9,
    data: Buffer.alloc(0),
  },
};

const logoutRequest: GoldenPdu = {
  name: "Logout Request, remove the connection for recovery, §11.14",
  wire: `
    46 82 00 00              # I=1, opcode 06; 1, reason 2
    00 00 00 00
    00 00 00 00 00 00 00 00
    00 00 00 50
    00 04 00 00              # CID 4
    00 00 00 11
    00 00 00 12
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00`,
  pdu: {
    type: "logout-request",
    isImmediate: true,
    reason: 2,
    initiatorTaskTag: 0x50,
    cid: 4,
    cmdSn: 0x11,
    expStatSn: 0x12,
  },
};

const dataAck: GoldenPdu = {
  name: "SNACK Request, DataACK, §11.16",
  wire: `
    10 82 00 00              # 1, type 2
    00 00 00 00
    00 01 00 00 00 00 00 00  # LUN and tag of the Data-In with the A bit (§11.16.5)
    ff ff ff ff              # no task for DataACK (§11.16.4)
    00 00 00 77
    00 00 00 00
    00 00 02 22              # ExpStatSN
    00 00 00 00 00 00 00 00
    00 00 00 0a              # BegRun: next expected DataSN
    00 00 00 00              # RunLength 0 (§11.16.7)`,
  pdu: {
    type: "snack-request",
    snackType: 2,
    lun: { high: 0x0001_0000, low: 0 },
    initiatorTaskTag: 0xffff_ffff,
    targetTransferTag: 0x77,
    expStatSn: 0x222,
    begRun: 10,
    runLength: 0,
  },
};

const rDataSnack: GoldenPdu = {
  name: "SNACK Request, R-Data with its SNACK tag, §11.16",
  wire: `
    10 83 00 00
    00 00 00 00
    00 00 00 00 00 00 00 00
    00 00 00 2a
    00 00 00 01              # SNACK tag, not 0 or ffffffff
    00 00 00 00
    00 00 02 23
    00 00 00 00 00 00 00 00
    00 00 00 00
    00 00 00 00`,
  pdu: {
    type: "snack-request",
    snackType: 3,
    lun: { high: 0, low: 0 },
    initiatorTaskTag: 0x2a,
    targetTransferTag: 1,
    expStatSn: 0x223,
    begRun: 0,
    runLength: 0,
  },
};

const nopOut: GoldenPdu = {
  name: "NOP-Out, ping with data, §11.18",
  wire: `
    00 80 00 00
    00 00 00 04
    00 00 00 00 00 00 00 00
    00 00 00 60
    ff ff ff ff
    00 00 00 21
    00 00 00 22
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    70 69 6e 67              # "ping"`,
  pdu: {
    type: "nop-out",
    isImmediate: false,
    lun: { high: 0, low: 0 },
    initiatorTaskTag: 0x60,
    targetTransferTag: 0xffff_ffff,
    cmdSn: 0x21,
    expStatSn: 0x22,
    data: Buffer.from("ping"),
  },
};

const nopOutAnswer: GoldenPdu = {
  name: "NOP-Out, answer to the target's ping, §11.18.1, §11.18.2",
  wire: `
    40 80 00 00              # I=1: no answer wanted
    00 00 00 00
    00 05 00 00 00 00 00 00  # LUN copied from the NOP-In
    ff ff ff ff
    00 00 00 0c              # tag copied from the NOP-In
    00 00 00 23
    00 00 00 24
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00`,
  pdu: {
    type: "nop-out",
    isImmediate: true,
    lun: { high: 0x0005_0000, low: 0 },
    initiatorTaskTag: 0xffff_ffff,
    targetTransferTag: 0x0c,
    cmdSn: 0x23,
    expStatSn: 0x24,
    data: Buffer.alloc(0),
  },
};

testGolden([
  textRequest,
  loginRequest,
  loginRequestContinued,
  logoutRequest,
  dataAck,
  rDataSnack,
  nopOut,
  nopOutAnswer,
]);
