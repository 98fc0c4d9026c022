import type { ReadyToTransferPdu } from "../wire/pdu.js";
import type { Unnumbered } from "./connection-slot.js";
import type { DataInPlan } from "./data-in-plan.js";

/** Bytes of a command's data, from `offset` up to but not including `end`. */
export interface ByteRange {
  readonly offset: number;
  readonly end: number;
}

export type UnnumberedR2t = Unnumbered<ReadyToTransferPdu>;

/** What a task keeps above error recovery level 0, to repair its transfers and to repeat them (RFC 7143 §7.1.4). */
export class TaskRecovery {
  /** R2Ts that were sent, by R2TSN, while the data they ask for has not come. */
  readonly sentR2ts = new Map<number, UnnumberedR2t>();
  /** Data-Out that was due and did not come whole: to be asked for again, in this order. */
  readonly missing: ByteRange[] = [];
  recoveryR2tCount = 0;
  /** When Data-Out was last asked for or came. */
  lastDataMs = 0;
  /** How the Data-In of the task was cut, once it was sent. */
  plan: DataInPlan | undefined;
  /** The data acknowledgment reference number: Data-In before this DataSN has arrived (§11.5.6). */
  acknowledgedDataSn = 0;
  /** All Data-In that was sent has been acknowledged with DataACK: its memory may serve others. */
  isDataAcknowledged = false;
  /** Target Transfer Tag of Data-In with the A bit (§11.7.4); 0 while there is none. */
  dataAckTag = 0;
  /** The SNACK Tag that the response must carry (§11.16.3). */
  snackTag = 0;
  /** StatSN of the task's status on the connection it is allegiant to, once that was sent. */
  statSn: number | undefined;
  /** Batches of Data-In that the transport still borrows. */
  sendsInFlight = 0;
}
