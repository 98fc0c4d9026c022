import { MAX_EARLY_R2TS } from "../base/limits.js";
import type { NegotiatedParameters } from "../login/parameters.js";
import { BHS_BYTES, Opcode, RejectReason } from "../wire/constants.js";
import { OPCODE_MASK } from "../wire/header.js";
import type {
  InitiatorPdu,
  ReadyToTransferPdu,
  ScsiDataInPdu,
  ScsiResponsePdu,
  TargetPdu,
  TargetSequence,
} from "../wire/pdu.js";
import { judgeReadyToTransfer, lostDataResult, resultOfDataIn, resultOfResponse } from "./data-transfer.js";
import { protocolError } from "./errors.js";
import { acceptDataIn } from "./read-transfer.js";
import { Retransmission } from "./retransmission.js";
import type { RecoveryCounters } from "./session-events.js";
import type { StatusSequence } from "./status-sequence.js";
import type { ScsiResult } from "./task.js";
import type { TaskRecord } from "./task-record.js";

export interface TaskTransfersOptions {
  readonly parameters: NegotiatedParameters;
  readonly sequence: StatusSequence<TargetPdu & TargetSequence>;
  readonly counters: RecoveryCounters;
  readonly snackTimeoutMs: number;
  readonly send: (pdu: InitiatorPdu) => void;
  /** The task of this connection with this tag. */
  readonly find: (initiatorTaskTag: number) => TaskRecord | undefined;
  /** Is the task this connection's, still? */
  readonly has: (record: TaskRecord) => boolean;
}

/** Data-In, R2T and Data-Out of the tasks of one connection, and the SNACKs that lost ones call for. */
export class TaskTransfers {
  readonly #options: TaskTransfersOptions;
  readonly #retransmission: Retransmission;
  readonly #isRecoverable: boolean;
  /** Has anything been discarded on this connection? Only then can data be missing without a gap. */
  #hasDiscarded = false;

  constructor(options: TaskTransfersOptions) {
    const { sequence, parameters, counters, send, has } = options;
    this.#options = options;
    this.#isRecoverable = parameters.errorRecoveryLevel > 0;
    this.#retransmission = new Retransmission(
      {
        send,
        has,
        counters,
        segmentBytes: parameters.initiatorMaxRecvDataSegmentLength,
        get expStatSn() {
          return sequence.expStatSn;
        },
        get missingStatusCount() {
          return sequence.missingCount;
        },
      },
      { timeoutMs: options.snackTimeoutMs },
    );
  }

  requestStatus(): void {
    this.#retransmission.requestStatus();
  }

  sweep(nowMs: number): void {
    this.#retransmission.sweep(nowMs);
  }

  forget(record: TaskRecord): void {
    this.#retransmission.forget(record);
  }

  /** A PDU of unknown kind was lost (its header could not be read). */
  noteDiscarded(): void {
    this.#hasDiscarded = true;
  }

  /** Data that was placed. */
  onDataIn(record: TaskRecord, pdu: ScsiDataInPdu, place: "next" | "early"): void {
    acceptDataIn(record, pdu, place);
    if (!this.#isRecoverable) return;
    if (place === "early") this.#retransmission.requestData(record, pdu.dataSn);
    // The status that follows at once acknowledges the data as well (§11.7.2).
    if (pdu.isAcknowledgeRequested && !pdu.hasStatus) record.wantedAcknowledgment = pdu.targetTransferTag;
    // §11.16.2: not while something before it is missing; and not twice, for a PDU that came twice.
    if (record.wantedAcknowledgment === undefined || record.early !== undefined) return;
    if (((record.nextDataSn - record.acknowledgedDataSn) | 0) > 0) {
      this.#retransmission.acknowledgeData(record, record.wantedAcknowledgment);
    }
    record.wantedAcknowledgment = undefined;
  }

  /** A Data-In that must not be used. */
  onBadDataIn(record: TaskRecord, pdu: ScsiDataInPdu): void {
    this.#hasDiscarded = true;
    if (((pdu.dataSn - record.nextDataSn) | 0) < 0 || record.early?.has(pdu.dataSn) === true) return;
    if (((pdu.dataSn - record.nextDataSn) | 0) > 0) this.#retransmission.requestData(record, pdu.dataSn);
    this.#retransmission.requestOne(record, pdu.dataSn);
  }

  /** Answers R2Ts in their order. */
  onReadyToTransfer(record: TaskRecord, pdu: ReadyToTransferPdu): void {
    // §4.2.3.4: no more data for tasks that a function under way ends. Otherwise it is answered all the same (§4.2.3.3).
    const { taskReporting } = this.#options.parameters;
    if (taskReporting === "FastAbort" && (record.isAborting || record.isBeingEnded)) return;
    const place = judgeReadyToTransfer(record, pdu, this.#options.parameters);
    if (place === "duplicate") return;
    if (place === "next") {
      this.#answer(record, pdu);
      this.#answerEarly(record);
      return;
    }
    record.earlyR2ts ??= new Map();
    if (record.earlyR2ts.size >= MAX_EARLY_R2TS) {
      throw protocolError("§11.8.1", `more than ${MAX_EARLY_R2TS} R2Ts wait for a missing one`);
    }
    const isFirst = record.earlyR2ts.size === 0;
    record.earlyR2ts.set(pdu.r2tSn, pdu);
    if (isFirst) {
      this.#retransmission.requestR2ts(record, record.nextR2tSn, (pdu.r2tSn - record.nextR2tSn) >>> 0);
    }
  }

  /** What was lost will not come: R2Ts go on with the next one there is, data is given up. */
  giveUpLost(record: TaskRecord): void {
    if (record.task.dataOut === undefined) {
      record.isDataLost = true;
      return;
    }
    const next = [...(record.earlyR2ts?.values() ?? [])].sort((a, b) => (a.r2tSn - b.r2tSn) | 0)[0];
    if (next === undefined) return;
    record.nextR2tSn = next.r2tSn;
    this.#answerEarly(record);
  }

  /**
   * May this PDU be worked on? Not the status of a task whose data is not all there (RFC 7143 §7.9); the data is
   * asked for then.
   */
  isWhole(pdu: TargetPdu): boolean {
    if (pdu.type !== "scsi-response" && pdu.type !== "scsi-data-in") return true;
    const record = this.#options.find(pdu.initiatorTaskTag);
    if (record?.task.dataIn === undefined || record.isDataLost) return true;
    if (pdu.type === "scsi-data-in") return this.#hasAll(record, (pdu.dataSn + 1) >>> 0);
    // §11.4.4: a status of before the R-Data SNACK is not the one.
    if (record.snackTag !== 0 && pdu.snackTag !== record.snackTag) return false;
    if (pdu.response !== 0) return true;
    return this.#hasAll(record, pdu.expDataSn) && this.#hasBytes(record, pdu);
  }

  /**
   * May the StatSN of a PDU that was worked on be acknowledged? LIO forgets a write with the Reject of one of its
   * Data-Out PDUs: that waits until the write has its status.
   */
  isFinished(pdu: TargetPdu): boolean {
    if (pdu.type !== "reject" || pdu.reason !== RejectReason.dataDigestError || pdu.data.length < BHS_BYTES)
      return true;
    const isDataOut = (pdu.data.readUInt8(0) & OPCODE_MASK) === Opcode.scsiDataOut;
    return !isDataOut || this.#options.find(pdu.data.readUInt32BE(16)) === undefined;
  }

  resultOf(record: TaskRecord, pdu: ScsiResponsePdu | ScsiDataInPdu): ScsiResult {
    if (record.isDataLost) return lostDataResult(record);
    return pdu.type === "scsi-response" ? resultOfResponse(record, pdu) : resultOfDataIn(record, pdu);
  }

  /** Data-Out from `start` to `end`; DataSN counts from 0 in each sequence (RFC 7143 §11.7.5). */
  sendDataOut(record: TaskRecord, source: Buffer, start: number, end: number, targetTransferTag: number): void {
    const { parameters, send, sequence } = this.#options;
    const segmentBytes = parameters.targetMaxRecvDataSegmentLength;
    let dataSn = 0;
    for (let offset = start; offset < end; offset += segmentBytes) {
      const next = Math.min(end, offset + segmentBytes);
      send({
        type: "scsi-data-out",
        isFinal: next === end,
        lun: record.task.lun,
        initiatorTaskTag: record.initiatorTaskTag,
        targetTransferTag,
        expStatSn: sequence.expStatSn,
        dataSn,
        bufferOffset: offset,
        data: source.subarray(offset, next),
      });
      dataSn += 1;
    }
  }

  #hasAll(record: TaskRecord, endDataSn: number): boolean {
    if (((endDataSn - record.nextDataSn) | 0) <= 0) return true;
    this.#retransmission.requestData(record, endDataSn);
    return false;
  }

  /** Not every target counts its Data-In in ExpDataSN: good status with bytes missing tells of lost ones as well. */
  #hasBytes(record: TaskRecord, pdu: ScsiResponsePdu): boolean {
    const dueBytes = record.expectedBytes - (pdu.isUnderflow ? pdu.residualCount : 0);
    if (!this.#hasDiscarded || pdu.status !== 0 || record.receivedBytes >= dueBytes) return true;
    if (((record.requestedDataSn - record.nextDataSn) | 0) <= 0) this.#retransmission.requestRest(record);
    return false;
  }

  #answer(record: TaskRecord, pdu: ReadyToTransferPdu): void {
    const source = record.task.dataOut;
    if (source === undefined) return;
    const end = pdu.bufferOffset + pdu.desiredDataTransferLength;
    if (pdu.bufferOffset < record.sentBytes) this.#options.counters.recoveryR2ts += 1;
    record.nextR2tSn = (pdu.r2tSn + 1) >>> 0;
    record.isReassigned = false;
    this.sendDataOut(record, source, pdu.bufferOffset, end, pdu.targetTransferTag);
    record.sentBytes = Math.max(record.sentBytes, end);
  }

  #answerEarly(record: TaskRecord): void {
    const early = record.earlyR2ts;
    if (early === undefined) return;
    for (let next = early.get(record.nextR2tSn); next !== undefined; next = early.get(record.nextR2tSn)) {
      early.delete(next.r2tSn);
      judgeReadyToTransfer(record, next, this.#options.parameters);
      this.#answer(record, next);
    }
    if (early.size === 0) record.earlyR2ts = undefined;
  }
}
