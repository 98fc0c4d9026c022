import { type GoldenPdu, testGolden } from "./golden.js";

/** SCSI responses, data and R2T a target sends. Bytes by hand from the figures of RFC 7143 §11; see each section. */

/** StatSN, ExpCmdSN and MaxCmdSN at 24 to 35, as every figure of a target PDU has them. */
const sequenceBytes = "00 00 03 01  00 00 01 01  00 00 01 20";
const sequence = { statSn: 0x301, expCmdSn: 0x101, maxCmdSn: 0x120 };

const scsiResponse: GoldenPdu = {
  name: "SCSI Response, GOOD with underflow, §11.4",
  wire: `
    21 82 00 00              # 1, U=1; response 0, status GOOD
    00 00 00 00
    00 00 00 00 00 00 00 00  # reserved
    00 00 00 2a
    00 00 00 00              # SNACK tag
    ${sequenceBytes}
    00 00 00 02              # ExpDataSN: two Data-In PDUs
    00 00 00 00              # bidirectional residual
    00 00 02 00              # residual 512`,
  pdu: {
    type: "scsi-response",
    response: 0,
    status: 0,
    initiatorTaskTag: 0x2a,
    snackTag: 0,
    ...sequence,
    expDataSn: 2,
    isBidirectionalOverflow: false,
    isBidirectionalUnderflow: false,
    isOverflow: false,
    isUnderflow: true,
    bidirectionalResidualCount: 0,
    residualCount: 512,
    data: Buffer.alloc(0),
  },
};

const scsiResponseSense: GoldenPdu = {
  name: "SCSI Response, CHECK CONDITION with sense, both residuals, §11.4.1, §11.4.7",
  wire: `
    21 94 00 02              # 1, o=1 O=1; status CHECK CONDITION
    00 00 00 14              # 2 + 18 bytes
    00 00 00 00 00 00 00 00
    00 00 00 2b
    00 00 00 05              # SNACK tag
    ${sequenceBytes}
    00 00 00 00
    00 00 00 40              # bidirectional residual
    00 00 00 80              # residual
    00 12                    # SenseLength 18
    70 00 05 00 00 00 00 0a 00 00 00 00 24 00 00 00 00 00`,
  pdu: {
    type: "scsi-response",
    response: 0,
    status: 2,
    initiatorTaskTag: 0x2b,
    snackTag: 5,
    ...sequence,
    expDataSn: 0,
    isBidirectionalOverflow: true,
    isBidirectionalUnderflow: false,
    isOverflow: true,
    isUnderflow: false,
    bidirectionalResidualCount: 0x40,
    residualCount: 0x80,
    data: Buffer.from("0012" + "70000500000000" + "0a000000002400" + "00000000", "hex"),
  },
};

const targetFailure: GoldenPdu = {
  name: "SCSI Response, target failure, §11.4.3",
  wire: `
    21 80 01 00
    00 00 00 00
    00 00 00 00 00 00 00 00
    00 00 00 2c
    00 00 00 00
    ${sequenceBytes}
    00 00 00 00
    00 00 00 00
    00 00 00 00`,
  pdu: {
    type: "scsi-response",
    response: 1,
    status: 0,
    initiatorTaskTag: 0x2c,
    snackTag: 0,
    ...sequence,
    expDataSn: 0,
    isBidirectionalOverflow: false,
    isBidirectionalUnderflow: false,
    isOverflow: false,
    isUnderflow: false,
    bidirectionalResidualCount: 0,
    residualCount: 0,
    data: Buffer.alloc(0),
  },
};

const taskManagementResponse: GoldenPdu = {
  name: "Task Management Function Response, function succeeded with more, §11.6, RFC 7144 §6.4",
  wire: `
    22 80 07 00              # 1; response 7
    00 00 00 00
    01 02 03 00 00 00 00 00  # Additional Response Information, reserved
    00 00 00 31
    00 00 00 00
    ${sequenceBytes}
    00 00 00 00 00 00 00 00 00 00 00 00`,
  pdu: {
    type: "task-management-response",
    response: 7,
    initiatorTaskTag: 0x31,
    additionalResponse: 0x01_0203,
    ...sequence,
  },
};

const dataIn: GoldenPdu = {
  name: "SCSI Data-In, acknowledgement wanted, no status, §11.7",
  wire: `
    25 c0 00 00              # F=1 A=1 S=0
    00 00 00 03
    00 01 00 00 00 00 00 00  # LUN and tag are valid with A=1 (§11.7.4)
    00 00 00 2a
    00 00 00 77
    00 00 00 00              # StatSN reserved
    00 00 01 01
    00 00 01 20
    00 00 00 09              # DataSN
    00 00 40 00              # Buffer Offset
    00 00 00 00              # residual
    01 02 03 00`,
  pdu: {
    type: "scsi-data-in",
    isFinal: true,
    isAcknowledgeRequested: true,
    hasStatus: false,
    isOverflow: false,
    isUnderflow: false,
    status: 0,
    lun: { high: 0x0001_0000, low: 0 },
    initiatorTaskTag: 0x2a,
    targetTransferTag: 0x77,
    ...sequence,
    statSn: 0,
    dataSn: 9,
    bufferOffset: 0x4000,
    residualCount: 0,
    data: Buffer.from([1, 2, 3]),
  },
};

const dataInStatus: GoldenPdu = {
  name: "SCSI Data-In, status CONDITION MET and overflow with it, §11.7.3",
  wire: `
    25 85 00 04              # F=1 O=1 S=1; status 4
    00 00 00 04
    00 00 00 00 00 00 00 00
    00 00 00 2a
    ff ff ff ff
    ${sequenceBytes}
    00 00 00 00
    00 00 00 00
    00 00 10 00              # residual
    ca fe ba be`,
  pdu: {
    type: "scsi-data-in",
    isFinal: true,
    isAcknowledgeRequested: false,
    hasStatus: true,
    isOverflow: true,
    isUnderflow: false,
    status: 4,
    lun: { high: 0, low: 0 },
    initiatorTaskTag: 0x2a,
    targetTransferTag: 0xffff_ffff,
    ...sequence,
    dataSn: 0,
    bufferOffset: 0,
    residualCount: 4096,
    data: Buffer.from("cafebabe", "hex"),
  },
};

const readyToTransfer: GoldenPdu = {
  name: "Ready To Transfer, §11.8",
  wire: `
    31 80 00 00
    00 00 00 00
    00 01 00 00 00 00 00 00
    00 00 00 2c
    00 00 00 99
    ${sequenceBytes}
    00 00 00 01              # R2TSN
    00 04 00 00              # Buffer Offset
    00 02 00 00              # Desired Data Transfer Length`,
  pdu: {
    type: "ready-to-transfer",
    lun: { high: 0x0001_0000, low: 0 },
    initiatorTaskTag: 0x2c,
    targetTransferTag: 0x99,
    ...sequence,
    r2tSn: 1,
    bufferOffset: 0x4_0000,
    desiredDataTransferLength: 0x2_0000,
  },
};

testGolden([
  scsiResponse,
  scsiResponseSense,
  targetFailure,
  taskManagementResponse,
  dataIn,
  dataInStatus,
  readyToTransfer,
]);
