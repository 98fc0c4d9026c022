import { LUN_ZERO } from "../../../src/base/lun.js";
import {
  MAX_EARLY_DATA_PDUS,
  MAX_EARLY_R2TS,
  MAX_HELD_STATUS_PDUS,
  MAX_SNACK_TRIES,
} from "../../../src/base/limits.js";
import { DEFAULT_PARAMETERS } from "../../../src/login/parameters.js";
import { judgeReadyToTransfer } from "../../../src/session/data-transfer.js";
import { acceptDataIn, judgeDataIn, missingRun } from "../../../src/session/read-transfer.js";
import { Retransmission } from "../../../src/session/retransmission.js";
import { noRecovery } from "../../../src/session/session-events.js";
import { StatusSequence } from "../../../src/session/status-sequence.js";
import { TaskRecord } from "../../../src/session/task-record.js";
import { TaskTransfers } from "../../../src/session/task-transfers.js";
import { RESERVED_TAG, SnackType } from "../../../src/wire/constants.js";
import type {
  InitiatorPdu,
  ReadyToTransferPdu,
  ScsiDataInPdu,
  ScsiResponsePdu,
  SnackRequestPdu,
  TargetPdu,
  TargetSequence,
} from "../../../src/wire/pdu.js";

function recordOf(task: { readonly dataIn?: Buffer; readonly dataOut?: Buffer }): TaskRecord {
  const record = new TaskRecord({ lun: LUN_ZERO, cdb: Buffer.alloc(16), onDone: () => undefined, ...task }, 0);
  record.initiatorTaskTag = 7;
  record.segmentBytes = 8192;
  return record;
}

const numbers = { statSn: 0, expCmdSn: 1, maxCmdSn: 9 };

function dataIn(
  dataSn: number,
  bufferOffset: number,
  length: number,
  changes: Partial<ScsiDataInPdu> = {},
): ScsiDataInPdu {
  return {
    type: "scsi-data-in",
    isFinal: false,
    isAcknowledgeRequested: false,
    hasStatus: false,
    isOverflow: false,
    isUnderflow: false,
    status: 0,
    lun: LUN_ZERO,
    initiatorTaskTag: 7,
    targetTransferTag: RESERVED_TAG,
    ...numbers,
    dataSn,
    bufferOffset,
    residualCount: 0,
    data: Buffer.alloc(length),
    ...changes,
  };
}

function response(changes: Partial<ScsiResponsePdu> = {}): ScsiResponsePdu {
  return {
    type: "scsi-response",
    response: 0,
    status: 0,
    initiatorTaskTag: 7,
    snackTag: 0,
    ...numbers,
    expDataSn: 0,
    isBidirectionalOverflow: false,
    isBidirectionalUnderflow: false,
    isOverflow: false,
    isUnderflow: false,
    bidirectionalResidualCount: 0,
    residualCount: 0,
    data: Buffer.alloc(0),
    ...changes,
  };
}

function readyToTransfer(r2tSn: number, bufferOffset: number, length: number): ReadyToTransferPdu {
  return {
    type: "ready-to-transfer",
    lun: LUN_ZERO,
    initiatorTaskTag: 7,
    targetTransferTag: 40 + r2tSn,
    ...numbers,
    r2tSn,
    bufferOffset,
    desiredDataTransferLength: length,
  };
}

function transfersOf(record: TaskRecord, changes: Partial<typeof DEFAULT_PARAMETERS> = {}) {
  const sent: InitiatorPdu[] = [];
  const sequence = new StatusSequence<TargetPdu & TargetSequence>(100);
  const counters = noRecovery();
  const transfers = new TaskTransfers({
    parameters: { ...DEFAULT_PARAMETERS, errorRecoveryLevel: 1, ...changes },
    sequence,
    counters,
    snackTimeoutMs: 1000,
    send: (pdu) => sent.push(pdu),
    find: (tag) => (tag === 7 ? record : undefined),
    has: () => true,
  });
  const snacks = (): SnackRequestPdu[] => sent.filter((pdu): pdu is SnackRequestPdu => pdu.type === "snack-request");
  return { transfers, sent, snacks, sequence, counters };
}

describe("where a Data-In stands", () => {
  test("beyond the buffer is an error, also with an offset past its end", () => {
    const record = recordOf({ dataIn: Buffer.alloc(1024) });
    expect(() => judgeDataIn(record, 0, 0, 1025)).toThrow(/§11.7.6/);
    expect(() => judgeDataIn(record, 0, 4096, 1)).toThrow(/§11.7.6/);
    expect(() => judgeDataIn(recordOf({}), 0, 0, 1)).toThrow(/reads nothing/);
  });

  test("DataSN and offset must go together", () => {
    const record = recordOf({ dataIn: Buffer.alloc(1024) });
    acceptDataIn(record, dataIn(0, 0, 512), "next");
    expect(() => judgeDataIn(record, 1, 0, 512)).toThrow(/where 512 was due/);
    expect(() => judgeDataIn(record, 2, 0, 512)).toThrow(/before 512/);
    expect(judgeDataIn(record, 0, 0, 512)).toBe("duplicate");
  });

  test("pieces behind a gap must join where it closes", () => {
    const record = recordOf({ dataIn: Buffer.alloc(1536) });
    acceptDataIn(record, dataIn(1, 1024, 512), "early");
    expect(() => acceptDataIn(record, dataIn(0, 0, 512), "next")).toThrow(/where 512 was due/);
  });

  test("DataSN compares by RFC 1982, over its wrap", () => {
    const record = recordOf({ dataIn: Buffer.alloc(2048) });
    record.nextDataSn = 0xffff_ffff;
    record.requestedDataSn = 0xffff_ffff;
    expect(judgeDataIn(record, 0, 512, 512)).toBe("early");
    acceptDataIn(record, dataIn(0, 512, 512), "early");
    expect(missingRun(record, 1)).toEqual({ begin: 0xffff_ffff, count: 1 });
    acceptDataIn(record, dataIn(0xffff_ffff, 0, 512), "next");
    expect(record).toMatchObject({ nextDataSn: 1, receivedBytes: 1024, early: undefined });
  });

  test("notes of early pieces are bounded", () => {
    const record = recordOf({ dataIn: Buffer.alloc(1) });
    record.early = new Map(
      Array.from({ length: MAX_EARLY_DATA_PDUS }, (_, index) => [index + 5, { bufferOffset: 0, lengthBytes: 0 }]),
    );
    expect(() => acceptDataIn(record, dataIn(1, 0, 0), "early")).toThrow(/missing one/);
  });

  test("a reassigned read may begin anew (§7.2.2)", () => {
    const record = recordOf({ dataIn: Buffer.alloc(1024) });
    acceptDataIn(record, dataIn(0, 0, 512), "next");
    record.isReassigned = true;
    expect(judgeDataIn(record, 0, 0, 1024)).toBe("next");
    expect(record).toMatchObject({ nextDataSn: 0, receivedBytes: 0 });
  });
});

describe("R-Data (§11.16.3)", () => {
  test("asks for everything after the last DataACK, and drops what was cut for another length", () => {
    const record = recordOf({ dataIn: Buffer.alloc(2048) });
    const { transfers, snacks, counters } = transfersOf(record);
    transfers.onDataIn(record, dataIn(0, 0, 512, { isAcknowledgeRequested: true, targetTransferTag: 3 }), "next");
    transfers.onDataIn(record, dataIn(1, 512, 512), "next");
    record.segmentBytes = 512;
    transfers.onDataIn(record, dataIn(3, 1536, 512), "early");
    expect(snacks().map(({ snackType }) => snackType)).toEqual([SnackType.dataAck, SnackType.rData]);
    const { targetTransferTag, begRun, runLength, initiatorTaskTag } = snacks()[1]!;
    expect([begRun, runLength, initiatorTaskTag]).toEqual([0, 0, 7]);
    expect([0, RESERVED_TAG]).not.toContain(targetTransferTag);
    expect(record).toMatchObject({
      nextDataSn: 1,
      receivedBytes: 512,
      snackTag: targetTransferTag,
      segmentBytes: 8192,
    });
    expect(judgeDataIn(record, 1, 1024, 512)).toBe("duplicate");
    transfers.onDataIn(record, dataIn(1, 512, 1536), "next");
    expect(transfers.isWhole(response())).toBe(false);
    expect(transfers.isWhole(response({ snackTag: targetTransferTag }))).toBe(true);
    expect(counters.rDataSnacks).toBe(1);
  });

  test("pieces of before it that meet pieces of after it are forgotten, not believed", () => {
    const record = recordOf({ dataIn: Buffer.alloc(2048) });
    record.snackTag = 5;
    acceptDataIn(record, dataIn(1, 700, 100), "early");
    acceptDataIn(record, dataIn(0, 0, 512), "next");
    expect(record).toMatchObject({ nextDataSn: 1, receivedBytes: 512 });
  });
});

describe("asking again", () => {
  test("a request that is answered is over; one that is not is repeated and then given up", () => {
    const record = recordOf({ dataIn: Buffer.alloc(2048) });
    const { transfers, snacks } = transfersOf(record);
    transfers.onDataIn(record, dataIn(1, 512, 512), "early");
    transfers.sweep(0);
    transfers.onDataIn(record, dataIn(0, 0, 512), "next");
    transfers.sweep(5_000);
    expect(snacks()).toHaveLength(1);
    transfers.onDataIn(record, dataIn(3, 1536, 512), "early");
    let nowMs = 10_000;
    const sweepOn = (): void => {
      for (let tries = 0; tries < 10; tries += 1) transfers.sweep((nowMs += 1000));
    };
    expect(sweepOn).toThrow(/did not send lost data again/);
    expect(
      snacks()
        .slice(1)
        .map(({ begRun }) => begRun),
    ).toEqual(Array.from({ length: MAX_SNACK_TRIES + 1 }, () => 2));
  });

  test("status that never comes", () => {
    const { transfers, sequence, snacks } = transfersOf(recordOf({}));
    sequence.note(103);
    transfers.requestStatus();
    transfers.requestStatus();
    expect(snacks()).toMatchObject([{ snackType: SnackType.status, begRun: 100, runLength: 3 }]);
    sequence.note(105);
    transfers.requestStatus();
    expect(snacks()[1]).toMatchObject({ begRun: 103, runLength: 2 });
    expect(() => {
      for (let nowMs = 0; nowMs < 20_000; nowMs += 1000) transfers.sweep(nowMs);
    }).toThrow(/did not send lost status again/);
  });

  test("a task that has left is not asked about", () => {
    const sent: InitiatorPdu[] = [];
    const record = recordOf({ dataIn: Buffer.alloc(1024) });
    const retransmission = new Retransmission(
      {
        send: (pdu) => sent.push(pdu),
        expStatSn: 1,
        missingStatusCount: 0,
        segmentBytes: 8192,
        counters: noRecovery(),
        has: () => false,
      },
      { timeoutMs: 1 },
    );
    retransmission.requestOne(record, 0);
    for (let nowMs = 0; nowMs < 100; nowMs += 10) retransmission.sweep(nowMs);
    retransmission.forget(record);
    expect(sent).toHaveLength(1);
  });

  test("good status with bytes missing after something was discarded: the rest is asked for once", () => {
    const record = recordOf({ dataIn: Buffer.alloc(1024) });
    const { transfers, snacks } = transfersOf(record);
    expect(transfers.isWhole(response())).toBe(true);
    transfers.noteDiscarded();
    expect(transfers.isWhole(response())).toBe(false);
    expect(transfers.isWhole(response())).toBe(false);
    expect(snacks()).toMatchObject([{ snackType: SnackType.dataOrR2t, begRun: 0, runLength: 0 }]);
    expect(transfers.isWhole(response({ isUnderflow: true, residualCount: 1024 }))).toBe(true);
    expect(transfers.isWhole(response({ response: 1 }))).toBe(true);
    expect(transfers.isWhole(response({ status: 2 }))).toBe(true);
  });

  test("ExpDataSN tells of Data-In that never came (§11.4.8)", () => {
    const record = recordOf({ dataIn: Buffer.alloc(1024) });
    const { transfers, snacks } = transfersOf(record);
    expect(transfers.isWhole(response({ expDataSn: 2 }))).toBe(false);
    expect(snacks()).toMatchObject([{ begRun: 0 }]);
  });

  test("damaged Data-In that is there already is not asked for", () => {
    const record = recordOf({ dataIn: Buffer.alloc(2048) });
    const { transfers, snacks } = transfersOf(record);
    transfers.onDataIn(record, dataIn(0, 0, 512), "next");
    transfers.onBadDataIn(record, dataIn(0, 0, 512));
    expect(snacks()).toHaveLength(0);
    transfers.onBadDataIn(record, dataIn(2, 1024, 512));
    expect(snacks().map(({ begRun }) => begRun)).toEqual([1, 2]);
    transfers.onDataIn(record, dataIn(2, 1024, 512), "early");
    transfers.onBadDataIn(record, dataIn(2, 1024, 512));
    expect(snacks()).toHaveLength(2);
  });
});

describe("R2Ts", () => {
  const level = { ...DEFAULT_PARAMETERS, errorRecoveryLevel: 1 as const };

  test("what may not be asked for", () => {
    const record = recordOf({ dataOut: Buffer.alloc(2048) });
    expect(() => judgeReadyToTransfer(recordOf({}), readyToTransfer(0, 0, 1), level)).toThrow(/writes nothing/);
    expect(() => judgeReadyToTransfer(record, readyToTransfer(0, 0, 2049), level)).toThrow(/of a write of 2048/);
    expect(() => judgeReadyToTransfer(record, readyToTransfer(0, 1024, 512), level)).toThrow(/§13.19/);
    expect(() => judgeReadyToTransfer(record, readyToTransfer(1, 0, 512), DEFAULT_PARAMETERS)).toThrow(/§11.8.1/);
    const small = { ...level, maxBurstLength: 512 };
    expect(() => judgeReadyToTransfer(record, readyToTransfer(0, 0, 1024), small)).toThrow(/MaxBurstLength/);
  });

  test("one that comes again is dropped, those that wait are bounded", () => {
    const record = recordOf({ dataOut: Buffer.alloc(2048) });
    const { transfers, sent } = transfersOf(record);
    transfers.onReadyToTransfer(record, readyToTransfer(0, 0, 512));
    transfers.onReadyToTransfer(record, readyToTransfer(0, 0, 512));
    expect(sent).toHaveLength(1);
    for (let r2tSn = 2; r2tSn < 2 + MAX_EARLY_R2TS; r2tSn += 1) {
      transfers.onReadyToTransfer(record, readyToTransfer(r2tSn, 0, 512));
    }
    expect(() => transfers.onReadyToTransfer(record, readyToTransfer(900, 0, 512))).toThrow(/missing one/);
  });

  test("when a lost one is refused, the next one that came is answered", () => {
    const record = recordOf({ dataOut: Buffer.alloc(2048) });
    const { transfers, sent } = transfersOf(record);
    transfers.giveUpLost(record);
    transfers.onReadyToTransfer(record, readyToTransfer(2, 0, 512));
    transfers.giveUpLost(record);
    expect(sent.at(-1)).toMatchObject({ type: "scsi-data-out", targetTransferTag: 42 });
    expect(record.nextR2tSn).toBe(3);
  });

  test("with FastAbort, tasks that are being ended get no more data (§4.2.3.4)", () => {
    const record = recordOf({ dataOut: Buffer.alloc(2048) });
    const { transfers, sent } = transfersOf(record, { taskReporting: "FastAbort" });
    record.isBeingEnded = true;
    transfers.onReadyToTransfer(record, readyToTransfer(0, 0, 512));
    expect(sent).toHaveLength(0);
    record.isBeingEnded = false;
    transfers.onReadyToTransfer(record, readyToTransfer(0, 0, 512));
    expect(sent).toHaveLength(1);
  });
});

describe("the order of status", () => {
  test("over the wrap of StatSN", () => {
    const sequence = new StatusSequence<{ readonly statSn: number }>(0xffff_fffe);
    expect(sequence.place(0)).toBe("early");
    sequence.hold({ statSn: 0 }, false);
    expect(sequence.missingCount).toBe(2);
    sequence.advance();
    sequence.advance();
    expect(sequence.expStatSn).toBe(0);
    expect(sequence.peek()).toEqual({ pdu: { statSn: 0 }, isDone: false });
    expect(sequence.place(0xffff_ffff)).toBe("duplicate");
  });

  test("what waits is bounded", () => {
    const sequence = new StatusSequence<{ readonly statSn: number }>(0);
    for (let statSn = 1; statSn <= MAX_HELD_STATUS_PDUS; statSn += 1) sequence.hold({ statSn }, false);
    expect(() => sequence.hold({ statSn: 90_000 }, false)).toThrow(/missing StatSN/);
    expect(() => sequence.hold({ statSn: 1 }, true)).not.toThrow();
  });
});
