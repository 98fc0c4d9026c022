import fc from "fast-check";
import type { Lun } from "../../src/base/lun.js";
import { RESERVED_TAG } from "../../src/wire/constants.js";
import type { Pdu } from "../../src/wire/pdu.js";

/** Any PDU that the rules of RFC 7143 §11 allow, in the form in which a decoder gives it back. */

const u8 = fc.integer({ min: 0, max: 0xff });
const u16 = fc.integer({ min: 0, max: 0xffff });
/** The ends matter most: 0, 1, the sign bit, the last ones. */
const u32 = fc.oneof(
  fc.constantFrom(0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff),
  fc.integer({ min: 0, max: 0xffff_ffff }),
);
const tag = u32.filter((value) => value !== RESERVED_TAG);
const lun: fc.Arbitrary<Lun> = fc.record({ high: u32, low: u32 });
const flag = fc.boolean();
const empty = Buffer.alloc(0);

function bytes(minLength: number, maxLength: number): fc.Arbitrary<Buffer> {
  return fc.uint8Array({ minLength, maxLength }).map((array) => Buffer.from(array));
}

const data = fc.oneof({ weight: 1, arbitrary: fc.constant(empty) }, { weight: 4, arbitrary: bytes(0, 1100) });
const sequence = { statSn: u32, expCmdSn: u32, maxCmdSn: u32 };
const stage = fc.constantFrom(0 as const, 1 as const, 3 as const);
const isid = fc.tuple(fc.integer({ min: 0, max: 0xbf }), bytes(5, 5)).map(([type, rest]) => {
  return Buffer.concat([Buffer.from([type]), rest]);
});

type ArbitraryPdu<T extends Pdu["type"]> = fc.Arbitrary<Extract<Pdu, { type: T }>>;

const scsiCommand: ArbitraryPdu<"scsi-command"> = fc
  .record({
    type: fc.constant("scsi-command" as const),
    isImmediate: flag,
    isFinal: flag,
    isRead: flag,
    isWrite: flag,
    taskAttribute: fc.constantFrom(0 as const, 1 as const, 2 as const, 3 as const, 4 as const),
    lun,
    initiatorTaskTag: tag,
    expectedDataTransferLength: u32,
    cmdSn: u32,
    expStatSn: u32,
    cdb: fc.oneof(bytes(16, 16), bytes(17, 260)),
    bidirectionalReadLength: u32,
    commandPriority: fc.integer({ min: 0, max: 15 }),
    data,
  })
  .map(({ bidirectionalReadLength, commandPriority, ...pdu }) => ({
    ...pdu,
    isFinal: pdu.isFinal || !pdu.isWrite || pdu.data.length === pdu.expectedDataTransferLength,
    expectedDataTransferLength: pdu.isRead || pdu.isWrite ? pdu.expectedDataTransferLength : 0,
    ...(pdu.isRead && pdu.isWrite ? { bidirectionalReadLength } : {}),
    ...(commandPriority === 0 ? {} : { commandPriority }),
  }));

const scsiResponse: ArbitraryPdu<"scsi-response"> = fc
  .record({
    type: fc.constant("scsi-response" as const),
    response: fc.oneof(fc.constantFrom(0, 1), fc.integer({ min: 0x80, max: 0xff })),
    status: u8,
    initiatorTaskTag: tag,
    snackTag: u32,
    ...sequence,
    expDataSn: u32,
    isBidirectionalOverflow: flag,
    isBidirectionalUnderflow: flag,
    isOverflow: flag,
    isUnderflow: flag,
    bidirectionalResidualCount: u32,
    residualCount: u32,
    statusQualifier: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 0xffff })),
    data,
  })
  .map(({ statusQualifier, ...pdu }) => {
    const isCompleted = pdu.response === 0;
    const isBidirectionalOverflow = isCompleted && pdu.isBidirectionalOverflow;
    const isBidirectionalUnderflow = isCompleted && pdu.isBidirectionalUnderflow && !isBidirectionalOverflow;
    const isOverflow = isCompleted && pdu.isOverflow;
    const isUnderflow = isCompleted && pdu.isUnderflow && !isOverflow;
    return {
      ...pdu,
      ...{ isBidirectionalOverflow, isBidirectionalUnderflow, isOverflow, isUnderflow },
      bidirectionalResidualCount:
        isBidirectionalOverflow || isBidirectionalUnderflow ? pdu.bidirectionalResidualCount : 0,
      residualCount: isOverflow || isUnderflow ? pdu.residualCount : 0,
      ...(statusQualifier === 0 ? {} : { statusQualifier }),
    };
  });

const taskManagementRequest: ArbitraryPdu<"task-management-request"> = fc
  .record({
    type: fc.constant("task-management-request" as const),
    isImmediate: flag,
    function: fc.integer({ min: 0, max: 0x7f }),
    lun,
    initiatorTaskTag: tag,
    referencedTaskTag: tag,
    cmdSn: u32,
    expStatSn: u32,
    refCmdSn: u32,
    expDataSn: u32,
  })
  .map((pdu) => ({
    ...pdu,
    isImmediate: pdu.isImmediate || pdu.function === 8,
    referencedTaskTag: [1, 8, 9].includes(pdu.function) ? pdu.referencedTaskTag : RESERVED_TAG,
  }));

const taskManagementResponse: ArbitraryPdu<"task-management-response"> = fc.record({
  type: fc.constant("task-management-response" as const),
  response: fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 7, 255),
  initiatorTaskTag: tag,
  additionalResponse: fc.integer({ min: 0, max: 0xff_ffff }),
  ...sequence,
});

const scsiDataOut: ArbitraryPdu<"scsi-data-out"> = fc.record({
  type: fc.constant("scsi-data-out" as const),
  isFinal: flag,
  lun,
  initiatorTaskTag: tag,
  targetTransferTag: u32,
  expStatSn: u32,
  dataSn: u32,
  bufferOffset: u32,
  data,
});

const scsiDataIn: ArbitraryPdu<"scsi-data-in"> = fc
  .record({
    type: fc.constant("scsi-data-in" as const),
    isFinal: flag,
    isAcknowledgeRequested: flag,
    hasStatus: flag,
    isOverflow: flag,
    isUnderflow: flag,
    status: fc.constantFrom(0x00, 0x04, 0x10, 0x14),
    lun,
    initiatorTaskTag: tag,
    targetTransferTag: u32,
    ...sequence,
    dataSn: u32,
    bufferOffset: u32,
    residualCount: u32,
    data,
  })
  .map((pdu) => {
    const isOverflow = pdu.hasStatus && pdu.isOverflow;
    const isUnderflow = pdu.hasStatus && pdu.isUnderflow && !isOverflow;
    return {
      ...pdu,
      isFinal: pdu.isFinal || pdu.hasStatus,
      isOverflow,
      isUnderflow,
      status: pdu.hasStatus ? pdu.status : 0,
      statSn: pdu.hasStatus ? pdu.statSn : 0,
      residualCount: isOverflow || isUnderflow ? pdu.residualCount : 0,
    };
  });

const readyToTransfer: ArbitraryPdu<"ready-to-transfer"> = fc.record({
  type: fc.constant("ready-to-transfer" as const),
  lun,
  initiatorTaskTag: tag,
  targetTransferTag: tag,
  ...sequence,
  r2tSn: u32,
  bufferOffset: u32,
  desiredDataTransferLength: u32.filter((value) => value !== 0),
});

const asyncMessage: ArbitraryPdu<"async-message"> = fc.record({
  type: fc.constant("async-message" as const),
  lun,
  ...sequence,
  asyncEvent: u8,
  asyncVCode: u8,
  parameter1: u16,
  parameter2: u16,
  parameter3: u16,
  data,
});

const textRequest: ArbitraryPdu<"text-request"> = fc
  .record({
    type: fc.constant("text-request" as const),
    isImmediate: flag,
    isFinal: flag,
    isContinued: flag,
    lun,
    initiatorTaskTag: tag,
    targetTransferTag: u32,
    cmdSn: u32,
    expStatSn: u32,
    data,
  })
  .map((pdu) => ({ ...pdu, isContinued: pdu.isContinued && !pdu.isFinal }));

const textResponse: ArbitraryPdu<"text-response"> = fc
  .record({
    type: fc.constant("text-response" as const),
    isFinal: flag,
    isContinued: flag,
    lun,
    initiatorTaskTag: tag,
    targetTransferTag: tag,
    ...sequence,
    data,
  })
  .map((pdu) => ({
    ...pdu,
    isContinued: pdu.isContinued && !pdu.isFinal,
    targetTransferTag: pdu.isFinal ? RESERVED_TAG : pdu.targetTransferTag,
  }));

const loginRequest: ArbitraryPdu<"login-request"> = fc
  .record({
    type: fc.constant("login-request" as const),
    isTransit: flag,
    isContinued: flag,
    currentStage: stage,
    nextStage: stage,
    versionMax: u8,
    versionMin: u8,
    isid,
    tsih: u16,
    initiatorTaskTag: tag,
    cid: u16,
    cmdSn: u32,
    expStatSn: u32,
    data,
  })
  .map((pdu) => ({
    ...pdu,
    isContinued: pdu.isContinued && !pdu.isTransit,
    nextStage: pdu.isTransit ? pdu.nextStage : pdu.currentStage,
  }));

const loginResponse: ArbitraryPdu<"login-response"> = fc
  .record({
    type: fc.constant("login-response" as const),
    isTransit: flag,
    isContinued: flag,
    currentStage: stage,
    nextStage: stage,
    versionMax: u8,
    versionActive: u8,
    isid,
    tsih: u16,
    initiatorTaskTag: tag,
    ...sequence,
    statusClass: fc.oneof(fc.constant(0), u8),
    statusDetail: u8,
    data,
  })
  .map((pdu) => {
    if (pdu.statusClass !== 0) {
      return { ...pdu, isTransit: false, isContinued: false, currentStage: 0 as const, nextStage: 0 as const };
    }
    return {
      ...pdu,
      isContinued: pdu.isContinued && !pdu.isTransit,
      nextStage: pdu.isTransit ? pdu.nextStage : pdu.currentStage,
    };
  });

const logoutRequest: ArbitraryPdu<"logout-request"> = fc.record({
  type: fc.constant("logout-request" as const),
  isImmediate: flag,
  reason: fc.constantFrom(0, 1, 2),
  initiatorTaskTag: tag,
  cid: u16,
  cmdSn: u32,
  expStatSn: u32,
});

const logoutResponse: ArbitraryPdu<"logout-response"> = fc.record({
  type: fc.constant("logout-response" as const),
  response: fc.constantFrom(0, 1, 2, 3),
  initiatorTaskTag: tag,
  ...sequence,
  time2Wait: u16,
  time2Retain: u16,
});

const snackRequest: ArbitraryPdu<"snack-request"> = fc
  .record({
    type: fc.constant("snack-request" as const),
    snackType: fc.constantFrom(0 as const, 1 as const, 2 as const, 3 as const),
    lun,
    initiatorTaskTag: tag,
    targetTransferTag: tag.filter((value) => value !== 0),
    expStatSn: u32,
    begRun: u32,
    runLength: u32,
  })
  .map((pdu) => ({
    ...pdu,
    initiatorTaskTag: pdu.snackType === 1 || pdu.snackType === 2 ? RESERVED_TAG : pdu.initiatorTaskTag,
    targetTransferTag: pdu.snackType < 2 ? RESERVED_TAG : pdu.targetTransferTag,
    begRun: pdu.snackType === 3 ? 0 : pdu.begRun,
    runLength: pdu.snackType >= 2 ? 0 : pdu.runLength,
  }));

const reject: ArbitraryPdu<"reject"> = fc.record({
  type: fc.constant("reject" as const),
  reason: u8,
  ...sequence,
  dataSnOrR2tSn: u32,
  data,
});

const nopOut: ArbitraryPdu<"nop-out"> = fc
  .record({
    type: fc.constant("nop-out" as const),
    isImmediate: flag,
    lun,
    initiatorTaskTag: u32,
    targetTransferTag: u32,
    cmdSn: u32,
    expStatSn: u32,
    data,
  })
  .map((pdu) => ({ ...pdu, isImmediate: pdu.isImmediate || pdu.initiatorTaskTag === RESERVED_TAG }));

const nopIn: ArbitraryPdu<"nop-in"> = fc
  .record({
    type: fc.constant("nop-in" as const),
    lun,
    initiatorTaskTag: u32,
    targetTransferTag: u32,
    ...sequence,
    data,
  })
  .map((pdu) => {
    if (pdu.initiatorTaskTag === RESERVED_TAG) return { ...pdu, data: empty };
    return { ...pdu, targetTransferTag: RESERVED_TAG };
  });

/** All 18 PDUs by type: the compiler sees to it that none is missing. */
export const pduArbitraries: { readonly [T in Pdu["type"]]: ArbitraryPdu<T> } = {
  "scsi-command": scsiCommand,
  "scsi-response": scsiResponse,
  "task-management-request": taskManagementRequest,
  "task-management-response": taskManagementResponse,
  "scsi-data-out": scsiDataOut,
  "scsi-data-in": scsiDataIn,
  "ready-to-transfer": readyToTransfer,
  "async-message": asyncMessage,
  "text-request": textRequest,
  "text-response": textResponse,
  "login-request": loginRequest,
  "login-response": loginResponse,
  "logout-request": logoutRequest,
  "logout-response": logoutResponse,
  "snack-request": snackRequest,
  reject,
  "nop-out": nopOut,
  "nop-in": nopIn,
};

export const anyPdu: fc.Arbitrary<Pdu> = fc.oneof(...Object.values<fc.Arbitrary<Pdu>>(pduArbitraries));

export const anyDigests = fc.record({ header: fc.boolean(), data: fc.boolean() });
