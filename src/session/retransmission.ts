import { MAX_SNACK_TRIES } from "../base/limits.js";
import { type Lun, LUN_ZERO } from "../base/lun.js";
import { RESERVED_TAG, SnackType } from "../wire/constants.js";
import type { SnackRequestPdu } from "../wire/pdu.js";
import { SessionError } from "./errors.js";
import { missingRun, rewindToAcknowledged } from "./read-transfer.js";
import type { RecoveryCounters } from "./session-events.js";
import type { TaskRecord } from "./task-record.js";

/** What asking again needs of its connection. */
export interface RetransmissionPort {
  send(pdu: SnackRequestPdu): void;
  readonly expStatSn: number;
  /** Numbered PDUs missing in a row from ExpStatSN on. */
  readonly missingStatusCount: number;
  /** The longest Data-In segment we declared on this connection. */
  readonly segmentBytes: number;
  readonly counters: RecoveryCounters;
  /** Is the task still unanswered on this connection? */
  has(record: TaskRecord): boolean;
}

interface DataRequest {
  /** All before it is missing or asked for. */
  endDataSn: number;
  /** Of the last sweep that saw progress. */
  sinceMs: number | undefined;
  lastDataSn: number;
  tries: number;
}

/**
 * The SNACKs of one connection (RFC 7143 §11.16): asks for data and status that were lost, asks again when nothing
 * comes, and gives the connection up when that does not help. ErrorRecoveryLevel 1 and 2 only.
 */
export class Retransmission {
  readonly #port: RetransmissionPort;
  readonly #timeoutMs: number;
  readonly #data = new Map<TaskRecord, DataRequest>();
  #statusSinceMs: number | undefined;
  #statusTries = 0;
  #requestedStatSn: number;
  #lastExpStatSn: number;
  #nextSnackTag = 1;

  constructor(port: RetransmissionPort, options: { readonly timeoutMs: number }) {
    this.#port = port;
    this.#timeoutMs = options.timeoutMs;
    this.#requestedStatSn = port.expStatSn;
    this.#lastExpStatSn = port.expStatSn;
  }

  /** Asks for the Data-In before `endDataSn` that has neither come nor been asked for. */
  requestData(record: TaskRecord, endDataSn: number): void {
    const { begin, count } = missingRun(record, endDataSn);
    if (count > 0) this.#snackData(record, begin, endDataSn);
  }

  /** Asks for one Data-In whose digest was wrong, whether it was asked for before or not. */
  requestOne(record: TaskRecord, dataSn: number): void {
    this.#snackData(record, dataSn, (dataSn + 1) >>> 0);
  }

  /** Asks for all Data-In that is not there: how many there are is not known. */
  requestRest(record: TaskRecord): void {
    this.#snackData(record, record.nextDataSn, (record.nextDataSn + 1) >>> 0);
  }

  /** Asks for the R2Ts that were lost before one that came (never because of a time of ours: §7.1.4.1). */
  requestR2ts(record: TaskRecord, begin: number, count: number): void {
    this.#send(record.task.lun, record.initiatorTaskTag, SnackType.dataOrR2t, RESERVED_TAG, begin, count);
    this.#port.counters.dataSnacks += 1;
  }

  /** Asks for the numbered PDUs that are missing from ExpStatSN on, once. */
  requestStatus(): void {
    const { expStatSn, missingStatusCount } = this.#port;
    const end = (expStatSn + missingStatusCount) >>> 0;
    if (missingStatusCount === 0 || ((end - this.#requestedStatSn) | 0) <= 0) return;
    const begin = ((this.#requestedStatSn - expStatSn) | 0) > 0 ? this.#requestedStatSn : expStatSn;
    this.#snackStatus(begin, (end - begin) >>> 0);
  }

  /** Tells the target that all Data-In before `nextDataSn` is there (§11.16.2). */
  acknowledgeData(record: TaskRecord, targetTransferTag: number): void {
    record.acknowledgedDataSn = record.nextDataSn;
    record.acknowledgedBytes = record.receivedBytes;
    this.#send(record.task.lun, RESERVED_TAG, SnackType.dataAck, targetTransferTag, record.nextDataSn, 0);
    this.#port.counters.dataAcks += 1;
  }

  /** The task is over, or this connection's no longer. */
  forget(record: TaskRecord): void {
    if (this.#data.size > 0) this.#data.delete(record);
  }

  /** Asks again for what has not come in time. Throws SESSION_DIGEST when it never comes. */
  sweep(nowMs: number): void {
    this.#sweepStatus(nowMs);
    for (const [record, request] of this.#data) {
      if (!this.#port.has(record) || ((record.nextDataSn - request.endDataSn) | 0) >= 0) this.#data.delete(record);
      else this.#sweepData(nowMs, record, request);
    }
  }

  #sweepData(nowMs: number, record: TaskRecord, request: DataRequest): void {
    if (request.sinceMs === undefined || request.lastDataSn !== record.nextDataSn) {
      request.sinceMs = nowMs;
      request.lastDataSn = record.nextDataSn;
      return;
    }
    if (nowMs - request.sinceMs < this.#timeoutMs) return;
    request.sinceMs = nowMs;
    request.tries += 1;
    if (request.tries > MAX_SNACK_TRIES) throw ignored("data");
    record.requestedDataSn = record.nextDataSn;
    this.requestData(record, request.endDataSn);
  }

  #sweepStatus(nowMs: number): void {
    const { expStatSn, missingStatusCount } = this.#port;
    if (missingStatusCount === 0 || expStatSn !== this.#lastExpStatSn || this.#statusSinceMs === undefined) {
      this.#lastExpStatSn = expStatSn;
      this.#statusTries = 0;
      this.#statusSinceMs = missingStatusCount === 0 ? undefined : nowMs;
      return;
    }
    if (nowMs - this.#statusSinceMs < this.#timeoutMs) return;
    this.#statusSinceMs = nowMs;
    this.#statusTries += 1;
    if (this.#statusTries > MAX_SNACK_TRIES) throw ignored("status");
    this.#snackStatus(expStatSn, missingStatusCount);
  }

  #snackStatus(begin: number, count: number): void {
    this.#requestedStatSn = (begin + count) >>> 0;
    this.#send(LUN_ZERO, RESERVED_TAG, SnackType.status, RESERVED_TAG, begin, count);
    this.#port.counters.statusSnacks += 1;
  }

  /** Asks for all from `begin` on: LIO refuses a run that ends with the last one it has sent. */
  #snackData(record: TaskRecord, begin: number, endDataSn: number): void {
    const known = this.#data.get(record);
    if (known === undefined) {
      this.#data.set(record, { endDataSn, sinceMs: undefined, lastDataSn: record.nextDataSn, tries: 0 });
    } else if (((endDataSn - known.endDataSn) | 0) > 0) {
      known.endDataSn = endDataSn;
    }
    if (((endDataSn - record.requestedDataSn) | 0) > 0) record.requestedDataSn = endDataSn;
    if (record.segmentBytes !== this.#port.segmentBytes) {
      this.#snackAll(record);
      return;
    }
    this.#send(record.task.lun, record.initiatorTaskTag, SnackType.dataOrR2t, RESERVED_TAG, begin, 0);
    this.#port.counters.dataSnacks += 1;
  }

  /** Our segment length has changed since the data was sent: all of it must come anew, cut to fit (§11.16.3). */
  #snackAll(record: TaskRecord): void {
    record.snackTag = this.#nextSnackTag;
    this.#nextSnackTag = this.#nextSnackTag + 1 === RESERVED_TAG ? 1 : this.#nextSnackTag + 1;
    record.segmentBytes = this.#port.segmentBytes;
    rewindToAcknowledged(record);
    this.#send(record.task.lun, record.initiatorTaskTag, SnackType.rData, record.snackTag, 0, 0);
    this.#port.counters.rDataSnacks += 1;
  }

  #send(
    lun: Lun,
    initiatorTaskTag: number,
    snackType: SnackType,
    targetTransferTag: number,
    begRun: number,
    runLength: number,
  ): void {
    const { expStatSn } = this.#port;
    this.#port.send({
      type: "snack-request",
      snackType,
      lun,
      initiatorTaskTag,
      targetTransferTag,
      expStatSn,
      begRun,
      runLength,
    });
  }
}

function ignored(what: string): SessionError {
  return new SessionError(
    "SESSION_DIGEST",
    `the target did not send lost ${what} again, asked ${MAX_SNACK_TRIES} times`,
    {
      retry: "same-path",
    },
  );
}
