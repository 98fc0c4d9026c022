import type { Lun } from "../base/lun.js";
import type { ScsiCommandPdu } from "../wire/pdu.js";
import type { ScsiCommand } from "./scsi/command.js";
import type { TaskPlace } from "./scsi/task-set.js";

/** What a task waits for; `ended` is final. */
export type TaskState = "queued" | "receiving" | "executing" | "ended";

/** One transfer that we asked for with an R2T. */
export interface OpenR2t {
  readonly targetTransferTag: number;
  readonly offset: number;
  readonly length: number;
  received: number;
  nextDataSn: number;
}

/** One SCSI command of a session, from its PDU to its response. Changed by the session and its parts only. */
export class TargetTask {
  readonly initiatorTaskTag: number;
  readonly lun: Lun;
  readonly cmdSn: number;
  readonly isImmediate: boolean;
  /** Bytes the initiator means to send and to take. */
  readonly expectedOutBytes: number;
  readonly expectedInBytes: number;
  readonly isWrite: boolean;
  state: TaskState = "queued";
  isAborted = false;
  command: ScsiCommand | undefined;
  place: TaskPlace | undefined;
  /** Bytes the command asked for, and those of them the initiator announced. */
  wantedOutBytes = 0;
  transferBytes = 0;
  /** Where Data-Out goes; holds `transferBytes` once it is there. */
  buffer: Buffer | undefined;
  receivedBytes = 0;
  /** Unsolicited data still due: how far it may reach, and its next DataSN. */
  unsolicitedEnd = 0;
  isUnsolicitedOpen = false;
  nextUnsolicitedDataSn = 0;
  /** How much has been asked for with R2Ts (or came unasked). */
  solicitedBytes = 0;
  nextR2tSn = 0;
  readonly openR2ts: OpenR2t[] = [];
  /** Data this task holds in memory, counted against the connection's budget. */
  budgetBytes = 0;
  /** Called when the task has ended, whatever way: task management waits for it. */
  onEnded: (() => void) | undefined;

  constructor(pdu: ScsiCommandPdu) {
    this.initiatorTaskTag = pdu.initiatorTaskTag;
    this.lun = pdu.lun;
    this.cmdSn = pdu.cmdSn;
    this.isImmediate = pdu.isImmediate;
    this.isWrite = pdu.isWrite;
    this.expectedOutBytes = pdu.isWrite ? pdu.expectedDataTransferLength : 0;
    if (!pdu.isRead) this.expectedInBytes = 0;
    else this.expectedInBytes = pdu.isWrite ? (pdu.bidirectionalReadLength ?? 0) : pdu.expectedDataTransferLength;
  }
}
