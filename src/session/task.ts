import type { Lun } from "../base/lun.js";
import type { TaskAttribute } from "../wire/constants.js";
import type { SessionError } from "./errors.js";

/**
 * One SCSI command as its caller describes it. The session borrows `cdb`, `dataIn` and `dataOut` from `execute`
 * until it calls `onDone`, once; it may send the command more than once in that time (see `isRetryable`).
 */
export interface ScsiTask {
  readonly lun: Lun;
  readonly cdb: Buffer;
  /** Filled from offset 0; its length is the expected data transfer length. Never together with `dataOut`. */
  readonly dataIn?: Buffer | undefined;
  readonly dataOut?: Buffer | undefined;
  /** Default simple. */
  readonly attribute?: TaskAttribute | undefined;
  /** From the moment it is sent; default `SessionTimers.taskTimeoutMs`. A task that waits for a path has no deadline. */
  readonly timeoutMs?: number | undefined;
  /**
   * The answer may be shorter than the buffer (INQUIRY, MODE SENSE), or the target may leave parts of a parameter list
   * unused (UNMAP); default no: a short transfer fails.
   */
  readonly allowUnderflow?: boolean | undefined;
  /** May be sent again after the connection was lost; default yes. Set to false for what must not happen twice. */
  readonly isRetryable?: boolean | undefined;
  /**
   * Sent while a reconnected session is still held back for its guards, and never kept over a lost connection:
   * for the questions a guard asks.
   */
  readonly isProbe?: boolean | undefined;
  onDone(result: ScsiResult): void;
}

export type Residual =
  | { readonly kind: "none" }
  | { readonly kind: "underflow"; readonly bytes: number }
  | { readonly kind: "overflow"; readonly bytes: number };

export const NO_RESIDUAL: Residual = Object.freeze({ kind: "none" });

export interface ScsiStatusResult {
  readonly kind: "status";
  /** SAM status byte. */
  readonly status: number;
  /** Raw sense data, when the target sent any; owned by the receiver. */
  readonly sense: Buffer | undefined;
  readonly residual: Residual;
  /** Bytes that are in `dataIn`, or that the target took of `dataOut`. */
  readonly transferredBytes: number;
}

export interface ScsiFailure {
  readonly kind: "failed";
  readonly error: SessionError;
}

/** The end of a task. `status` GOOD means that every byte asked for has travelled. */
export type ScsiResult = ScsiStatusResult | ScsiFailure;
