import { status } from "@grpc/grpc-js";
import { AppError, CancelledError, TimeoutError, type ErrorLayer } from "../base/errors.js";

/** A gRPC status as a caller gets it. */
export interface CsiStatus {
  readonly code: status;
  readonly details: string;
}

const byCode: Readonly<Record<string, status>> = {
  CSI_INVALID_ARGUMENT: status.INVALID_ARGUMENT,
  CSI_NOT_FOUND: status.NOT_FOUND,
  CSI_ALREADY_EXISTS: status.ALREADY_EXISTS,
  CSI_FAILED_PRECONDITION: status.FAILED_PRECONDITION,
  CSI_ABORTED: status.ABORTED,
  CSI_OUT_OF_RANGE: status.OUT_OF_RANGE,
  CSI_UNIMPLEMENTED: status.UNIMPLEMENTED,
  CSI_UNAUTHENTICATED: status.UNAUTHENTICATED,
  CSI_UNAVAILABLE: status.UNAVAILABLE,
  CSI_INTERNAL: status.INTERNAL,

  STORAGE_NOT_FOUND: status.NOT_FOUND,
  STORAGE_ALREADY_EXISTS: status.ALREADY_EXISTS,
  STORAGE_NO_SPACE: status.RESOURCE_EXHAUSTED,
  STORAGE_INVALID: status.INVALID_ARGUMENT,
  STORAGE_OUT_OF_RANGE: status.OUT_OF_RANGE,
  STORAGE_TOKEN_INVALID: status.ABORTED,
  STORAGE_BUSY: status.FAILED_PRECONDITION,
  STORAGE_NOT_SUPPORTED: status.UNIMPLEMENTED,
  STORAGE_FAILED: status.INTERNAL,

  VOLUME_MISMATCH: status.ALREADY_EXISTS,
  VOLUME_NOT_FOUND: status.NOT_FOUND,
  DEVICE_BUSY: status.FAILED_PRECONDITION,
  DATAPLANE_UNREACHABLE: status.UNAVAILABLE,
  HOST_PROGRAM_MISSING: status.FAILED_PRECONDITION,
  BLOCK_IDENTITY_MISMATCH: status.FAILED_PRECONDITION,
  BLOCK_UNAVAILABLE: status.UNAVAILABLE,
  SEALING_OPEN_FAILED: status.FAILED_PRECONDITION,
  SEALING_FORMAT: status.INVALID_ARGUMENT,
  LOGIN_AUTH_FAILED: status.UNAUTHENTICATED,
};

/** For codes not named above: what a failure of the layer most likely is to the caller. */
const byLayer: Partial<Record<ErrorLayer, status>> = {
  transport: status.UNAVAILABLE,
  session: status.UNAVAILABLE,
  login: status.UNAVAILABLE,
};

/**
 * The only place where an error becomes a gRPC status. What is not an AppError is our own fault, and its message may
 * say anything: the caller only learns that it is in the log.
 */
export function toStatus(error: unknown): CsiStatus {
  if (!(error instanceof AppError)) {
    return { code: status.INTERNAL, details: "internal error; the driver's log has the details" };
  }
  return { code: codeOf(error), details: error.message };
}

function codeOf(error: AppError): status {
  const known = byCode[error.code];
  if (known !== undefined) return known;
  if (error instanceof TimeoutError) return status.DEADLINE_EXCEEDED;
  if (error instanceof CancelledError) return status.CANCELLED;
  return byLayer[error.layer] ?? status.INTERNAL;
}
