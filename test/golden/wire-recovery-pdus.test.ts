import { encodePdu } from "../../src/wire/encode.js";
import { type GoldenPdu, testGolden } from "./golden.js";

/**
 * What recovery and RFC 7144 add: retransmission, tagged responses, queries, task termination, priorities. Bytes by hand
 * from the figures of RFC 7143 §11 and RFC 7144 §5 and §6.
 */

const sequenceBytes = "00 00 03 01  00 00 01 01  00 00 01 20";
const sequence = { statSn: 0x301, expCmdSn: 0x101, maxCmdSn: 0x120 };

const dataSnack: GoldenPdu = {
  name: "SNACK Request, Data/R2T: two from DataSN 5 on, §11.16",
  wire: `
    10 80 00 00              # 1, type 0
    00 00 00 00
    00 01 00 00 00 00 00 00
    00 00 00 2a              # the task (§11.16.4)
    ff ff ff ff              # reserved for this type (§11.16.5)
    00 00 00 00
    00 00 02 22              # ExpStatSN: not past the status of the task
    00 00 00 00 00 00 00 00
    00 00 00 05              # BegRun
    00 00 00 02              # RunLength`,
  pdu: {
    ...{ type: "snack-request", snackType: 0, lun: { high: 0x0001_0000, low: 0 }, initiatorTaskTag: 0x2a },
    ...{ targetTransferTag: 0xffff_ffff, expStatSn: 0x222, begRun: 5, runLength: 2 },
  },
};

const statusSnack: GoldenPdu = {
  name: "SNACK Request, Status: all from StatSN on, §11.16",
  wire: `
    10 81 00 00              # 1, type 1
    00 00 00 00
    00 00 00 00 00 00 00 00
    ff ff ff ff              # no task (§11.16.4)
    ff ff ff ff
    00 00 00 00
    00 00 02 22
    00 00 00 00 00 00 00 00
    00 00 02 22              # BegRun: the first StatSN that is missing
    00 00 00 00              # RunLength 0: all from there (§11.16.7)`,
  pdu: {
    ...{ type: "snack-request", snackType: 1, lun: { high: 0, low: 0 }, initiatorTaskTag: 0xffff_ffff },
    ...{ targetTransferTag: 0xffff_ffff, expStatSn: 0x222, begRun: 0x222, runLength: 0 },
  },
};

const taggedResponse: GoldenPdu = {
  name: "SCSI Response after R-Data, with the SNACK tag and ExpDataSN, §11.4.4, §11.16.3",
  wire: `
    21 80 00 00
    00 00 00 00
    00 00 00 00 00 00 00 00
    00 00 00 2a
    00 00 00 01              # a copy of the tag in the R-Data SNACK
    ${sequenceBytes}
    00 00 00 08              # ExpDataSN: eight Data-In after resegmentation
    00 00 00 00
    00 00 00 00`,
  pdu: {
    ...{ type: "scsi-response", response: 0, status: 0, initiatorTaskTag: 0x2a, snackTag: 1, ...sequence },
    ...{ expDataSn: 8, isBidirectionalOverflow: false, isBidirectionalUnderflow: false, isOverflow: false },
    ...{ isUnderflow: false, bidirectionalResidualCount: 0, residualCount: 0, data: Buffer.alloc(0) },
  },
};

function management(code: string, lun: string, referenced: string, refCmdSn: string): string {
  return `
    42 ${code} 00 00              # I=1, opcode 02; 1, function
    00 00 00 00
    ${lun}
    00 00 00 33
    ${referenced}
    00 00 01 07              # CmdSN, not used up
    00 00 02 05
    ${refCmdSn}
    00 00 00 00
    00 00 00 00 00 00 00 00`;
}

const request = { type: "task-management-request", isImmediate: true, initiatorTaskTag: 0x33, cmdSn: 0x107 } as const;

const queryTask: GoldenPdu = {
  name: "Task Management Function Request, QUERY TASK is 9 and names tag and CmdSN, RFC 7144 §6.3.2, §6.3.3",
  wire: management("89", "00 03 00 00 00 00 00 00", "00 00 00 2a", "00 00 01 02"),
  pdu: {
    ...{ ...request, function: 9, lun: { high: 0x0003_0000, low: 0 }, referencedTaskTag: 0x2a },
    ...{ expStatSn: 0x205, refCmdSn: 0x102, expDataSn: 0 },
  },
};

const queryTaskSet: GoldenPdu = {
  name: "Task Management Function Request, QUERY TASK SET is 10, RFC 7144 §6.3",
  wire: management("8a", "00 03 00 00 00 00 00 00", "ff ff ff ff", "00 00 00 00"),
  pdu: {
    ...{ ...request, function: 10, lun: { high: 0x0003_0000, low: 0 }, referencedTaskTag: 0xffff_ffff },
    ...{ expStatSn: 0x205, refCmdSn: 0, expDataSn: 0 },
  },
};

const nexusReset: GoldenPdu = {
  name: "Task Management Function Request, I_T NEXUS RESET is 11 and has no LUN, RFC 7144 §6.3.1",
  wire: management("8b", "00 00 00 00 00 00 00 00", "ff ff ff ff", "00 00 00 00"),
  pdu: {
    ...{ ...request, function: 11, lun: { high: 0, low: 0 }, referencedTaskTag: 0xffff_ffff },
    ...{ expStatSn: 0x205, refCmdSn: 0, expDataSn: 0 },
  },
};

const taskTermination: GoldenPdu = {
  name: "Asynchronous Message, task termination is 5 and names the unit, §11.9.1",
  wire: `
    32 80 00 00
    00 00 00 00
    00 01 00 00 00 00 00 00  # LUN
    ff ff ff ff
    00 00 00 00
    ${sequenceBytes}
    05 00 00 00
    00 00 00 00
    00 00 00 00`,
  pdu: {
    ...{ type: "async-message", lun: { high: 0x0001_0000, low: 0 }, ...sequence, asyncEvent: 5, asyncVCode: 0 },
    ...{ parameter1: 0, parameter2: 0, parameter3: 0, data: Buffer.alloc(0) },
  },
};

const terminationAnswer: GoldenPdu = {
  name: "NOP-Out that acknowledges task termination: no tags, the LUN of the event, §11.9.1, §11.18",
  wire: `
    40 80 00 00              # I=1
    00 00 00 00
    00 01 00 00 00 00 00 00
    ff ff ff ff
    ff ff ff ff
    00 00 01 07
    00 00 03 02              # ExpStatSN: one after that of the event
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00`,
  pdu: {
    ...{ type: "nop-out", isImmediate: true, lun: { high: 0x0001_0000, low: 0 }, initiatorTaskTag: 0xffff_ffff },
    ...{ targetTransferTag: 0xffff_ffff, cmdSn: 0x107, expStatSn: 0x302, data: Buffer.alloc(0) },
  },
};

const prioritised: GoldenPdu = {
  name: "SCSI Command with a priority, RFC 7144 §5.1.1",
  wire: `
    01 c1 50 00              # F=1 R=1, SIMPLE; PRI 5 in the upper half of byte 2
    00 00 00 00
    00 00 00 00 00 00 00 00
    00 00 00 2a
    00 00 02 00
    00 00 00 05
    00 00 00 06
    28 00 00 00 00 01 00 00 01 00 00 00 00 00 00 00`,
  pdu: {
    ...{ type: "scsi-command", isImmediate: false, isFinal: true, isRead: true, isWrite: false, taskAttribute: 1 },
    ...{ lun: { high: 0, low: 0 }, initiatorTaskTag: 0x2a, expectedDataTransferLength: 512, cmdSn: 5, expStatSn: 6 },
    ...{ cdb: Buffer.from("28000000000100000100000000000000", "hex"), commandPriority: 5, data: Buffer.alloc(0) },
  },
};

const qualified: GoldenPdu = {
  name: "SCSI Response, TASK SET FULL with a status qualifier, RFC 7144 §5.2.1",
  wire: `
    21 80 00 28
    00 00 00 00
    00 64 00 00 00 00 00 00  # Status Qualifier 100
    00 00 00 2a
    00 00 00 00
    ${sequenceBytes}
    00 00 00 00
    00 00 00 00
    00 00 00 00`,
  pdu: {
    ...{ type: "scsi-response", response: 0, status: 0x28, initiatorTaskTag: 0x2a, snackTag: 0, ...sequence },
    ...{ expDataSn: 0, isBidirectionalOverflow: false, isBidirectionalUnderflow: false, isOverflow: false },
    ...{ isUnderflow: false, bidirectionalResidualCount: 0, residualCount: 0, statusQualifier: 100 },
    data: Buffer.alloc(0),
  },
};

testGolden([
  dataSnack,
  statusSnack,
  taggedResponse,
  queryTask,
  queryTaskSet,
  nexusReset,
  taskTermination,
  terminationAnswer,
  prioritised,
  qualified,
]);

test("a priority of more than four bits and a qualifier of more than 16 do not fit", () => {
  const digests = { header: false, data: false };
  const priority = { ...prioritised.pdu, commandPriority: 16 } as typeof prioritised.pdu;
  const qualifier = { ...qualified.pdu, statusQualifier: 0x1_0000 } as typeof qualified.pdu;
  expect(() => encodePdu(priority, digests)).toThrow("out of range");
  expect(() => encodePdu(qualifier, digests)).toThrow("out of range");
});
