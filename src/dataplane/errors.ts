import { AppError, CancelledError } from "../base/errors.js";

export type DataplaneErrorCode =
  /** The request itself is wrong. */
  | "VOLUME_INVALID"
  /** Attached with other parameters than asked. */
  | "VOLUME_MISMATCH"
  | "VOLUME_NOT_FOUND"
  /** Still held by users of an earlier publication, whose writes must not reach the volume any more. */
  | "VOLUME_SUPERSEDED"
  /** The LUN is smaller than the device made of it. */
  | "VOLUME_SHRUNK"
  /** It has one session: there are no paths to look after. */
  | "VOLUME_NOT_MULTIPATH"
  /** This node has as many volumes as it takes. */
  | "VOLUME_LIMIT"
  /** The kernel device of an attached volume is gone. */
  | "VOLUME_DEVICE_LOST"
  /** Attached, but its I/O is refused: the message says why. */
  | "VOLUME_FAILED"
  /** Mounted or open: the message names the holders. */
  | "DEVICE_BUSY"
  /** A record was written by a newer version. */
  | "RECORD_NEWER"
  /** Something in the state directory cannot be read or written. */
  | "STATE_FAILED"
  | "DATAPLANE_UNREACHABLE"
  | "DATAPLANE_ALREADY_RUNNING"
  | "DATAPLANE_STOPPING"
  | "DATAPLANE_TIMEOUT"
  | "DATAPLANE_PROTOCOL"
  | "DATAPLANE_TOO_MANY_WATCHERS"
  | "DATAPLANE_INTERNAL";

/** What an operation of the dataplane fails with. */
export class DataplaneError extends AppError {
  declare readonly code: DataplaneErrorCode;

  constructor(code: DataplaneErrorCode, message: string, options: ConstructorParameters<typeof AppError>[3] = {}) {
    super("dataplane", code, message, options);
  }
}

/** What an aborted operation throws: the signal's own reason when it is one of ours, else DATAPLANE_CANCELLED. */
export function cancellationOf(signal: AbortSignal): AppError {
  const reason: unknown = signal.reason;
  if (reason instanceof AppError) return reason;
  return new CancelledError("dataplane", "DATAPLANE_CANCELLED", "the caller withdrew the request", { cause: reason });
}

/** Throws when the signal has aborted: to be called after every await. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw cancellationOf(signal);
}
