import type { ReadyToTransferPdu } from "../wire/pdu.js";
import type { Connection } from "./connection.js";
import type { ScsiTask } from "./task.js";

/** A Data-In that came before others of its task (ErrorRecoveryLevel 1 and 2 only). */
export interface EarlyDataIn {
  readonly bufferOffset: number;
  readonly lengthBytes: number;
}

/** What the session knows of one task while it has it. Mutable and private to the session. */
export class TaskRecord {
  readonly task: ScsiTask;
  /** Order in which tasks were given to the session: the order in which they are sent again. */
  readonly sequence: number;
  readonly expectedBytes: number;
  /** Valid while the task is in the table. */
  initiatorTaskTag = 0;
  cmdSn = 0;
  /** Its allegiance (RFC 7143 §4.2.5.1): the only connection its PDUs may come from. None while it is being moved. */
  connection: Connection | undefined;
  /** Data-In bytes received, all of them from offset 0 without a gap. */
  receivedBytes = 0;
  nextDataSn = 0;
  /** Below this a Data-In was received or has been asked for again. */
  requestedDataSn = 0;
  /** Data-In received beyond a gap, by DataSN. */
  early: Map<number, EarlyDataIn> | undefined;
  /** Data-In up to here, and so many bytes, must not be asked for again (§7.2.2, §11.16.2). */
  acknowledgedDataSn = 0;
  acknowledgedBytes = 0;
  /** A DataACK that the target wants once all before it is there: the target transfer tag to give back. */
  wantedAcknowledgment: number | undefined;
  /** Of the last R-Data SNACK; the final response must carry it (§11.16.5). */
  snackTag = 0;
  /** Longest Data-In segment when the command was sent: when it changed since, retransmission means R-Data (§11.16.3). */
  segmentBytes = 0;
  /** The target refused to send data again: the status it ends with says nothing (§7.8, a.2). */
  isDataLost = false;
  /** Data-Out bytes handed to the connection, immediate ones included. */
  sentBytes = 0;
  nextR2tSn = 0;
  /** R2Ts received beyond a gap, by R2TSN. */
  earlyR2ts: Map<number, ReadyToTransferPdu> | undefined;
  /** The target may begin its count of R2Ts and Data-In anew: it has moved the task (§7.2.2). */
  isReassigned = false;
  /** On the coarse clock of the sweep. */
  deadlineMs = 0;
  /** When it was last sent, on the same clock. */
  sentMs = 0;
  /** Times it was put on a connection. */
  attempts = 0;
  /** Times it was sent again with the same CmdSN. */
  retries = 0;
  /** Since its deadline a climb of task management functions is under way to end it. */
  isAborting = false;
  /** A function that was asked for, and that ends it, is under way. */
  isBeingEnded = false;

  constructor(task: ScsiTask, sequence: number) {
    this.task = task;
    this.sequence = sequence;
    this.expectedBytes = task.dataIn?.length ?? task.dataOut?.length ?? 0;
  }

  /** Forgets the progress made: the command begins anew. */
  reset(): void {
    this.connection = undefined;
    this.receivedBytes = 0;
    this.nextDataSn = 0;
    this.requestedDataSn = 0;
    this.early = undefined;
    this.acknowledgedDataSn = 0;
    this.acknowledgedBytes = 0;
    this.wantedAcknowledgment = undefined;
    this.snackTag = 0;
    this.isDataLost = false;
    this.sentBytes = 0;
    this.nextR2tSn = 0;
    this.earlyR2ts = undefined;
    this.isReassigned = false;
    this.retries = 0;
    this.isAborting = false;
    this.isBeingEnded = false;
  }
}
