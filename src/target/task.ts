import type { Lun } from "../base/lun.js";
import type { ScsiCommandPdu } from "../wire/pdu.js";
import type { ConnectionSlot } from "./connection-slot.js";
import type { ScsiCommand } from "./scsi/command.js";
import type { ScsiOutcome } from "./scsi/device-server.js";
import type { TaskPlace } from "./scsi/task-set.js";
import type { TaskRecovery } from "./task-recovery.js";

/**
 * What a task waits for. A `concluded` one has its outcome, and waits until the initiator has acknowledged that
 * (above error recovery level 0 only); `ended` is final.
 */
export type TaskState = "queued" | "receiving" | "executing" | "concluded" | "ended";

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
  /** The connection the task is allegiant to (RFC 7143 §4.2.5.1); TASK REASSIGN changes it. */
  slot: ConnectionSlot;
  state: TaskState = "queued";
  isAborted = false;
  /** Aborted as soon as the data that was asked for has come (RFC 7143 §4.2.3.3). */
  isDraining = false;
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
  /** What it ended with, while that may have to be sent again. */
  outcome: ScsiOutcome | undefined;
  /** What it takes to repair or repeat its transfers. Absent at error recovery level 0. */
  recovery: TaskRecovery | undefined;
  /** Data this task holds in memory, counted against the session's budget. */
  budgetBytes = 0;
  /** A connection is receiving into `buffer`, which must stay until that is over. */
  isBeingPlaced = false;
  /** Called when the transport has let go of some of the task's data. Above error recovery level 0 only. */
  onDataSent: (() => void) | undefined;
  /** Called when the task has ended, whatever way: task management waits for it. */
  onEnded: (() => void) | undefined;

  constructor(pdu: ScsiCommandPdu, slot: ConnectionSlot) {
    this.slot = slot;
    this.initiatorTaskTag = pdu.initiatorTaskTag;
    this.lun = pdu.lun;
    this.cmdSn = pdu.cmdSn;
    this.isImmediate = pdu.isImmediate;
    this.isWrite = pdu.isWrite;
    this.expectedOutBytes = pdu.isWrite ? pdu.expectedDataTransferLength : 0;
    if (!pdu.isRead) this.expectedInBytes = 0;
    else this.expectedInBytes = pdu.isWrite ? (pdu.bidirectionalReadLength ?? 0) : pdu.expectedDataTransferLength;
  }

  /** Is data on its way that was asked for, or need not be? */
  get isDataDue(): boolean {
    return this.isUnsolicitedOpen || this.openR2ts.length > 0;
  }
}
