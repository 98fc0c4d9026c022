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
  VOLUME_SUPERSEDED: status.FAILED_PRECONDITION,
  DEVICE_BUSY: status.FAILED_PRECONDITION,
  DATAPLANE_UNREACHABLE: status.UNAVAILABLE,
  VOLUME_INVALID: status.INVALID_ARGUMENT,
  INITIATOR_SETTING_INVALID: status.INVALID_ARGUMENT,
  VOLUME_SHRUNK: status.FAILED_PRECONDITION,
  VOLUME_LIMIT: status.RESOURCE_EXHAUSTED,
  VOLUME_DEVICE_LOST: status.FAILED_PRECONDITION,
  RECORD_NEWER: status.FAILED_PRECONDITION,
  DATAPLANE_STOPPING: status.UNAVAILABLE,
  DATAPLANE_TIMEOUT: status.DEADLINE_EXCEEDED,
  HOST_PROGRAM_MISSING: status.FAILED_PRECONDITION,
  HOST_MOUNT_OCCUPIED: status.FAILED_PRECONDITION,
  HOST_MOUNT_BUSY: status.FAILED_PRECONDITION,
  HOST_MOUNT_POINT_INVALID: status.FAILED_PRECONDITION,
  HOST_MOUNT_OPTION_INVALID: status.INVALID_ARGUMENT,
  HOST_FILESYSTEM_DAMAGED: status.FAILED_PRECONDITION,
  BLOCK_IDENTITY_MISMATCH: status.FAILED_PRECONDITION,
  BLOCK_UNAVAILABLE: status.UNAVAILABLE,
  BLOCK_NO_SUCH_LUN: status.NOT_FOUND,
  SEALING_OPEN_FAILED: status.FAILED_PRECONDITION,
  SEALING_FORMAT: status.INVALID_ARGUMENT,

  // Trying again with the same credentials cannot help; what helps is in the message.
  LOGIN_AUTHENTICATION_FAILED: status.UNAUTHENTICATED,
  LOGIN_AUTHORIZATION_FAILED: status.PERMISSION_DENIED,
  LOGIN_TARGET_NOT_FOUND: status.NOT_FOUND,
  LOGIN_TARGET_REMOVED: status.NOT_FOUND,
  AUTH_TARGET_NOT_PROVEN: status.UNAUTHENTICATED,
  AUTH_METHOD_REFUSED: status.UNAUTHENTICATED,
  AUTH_ALGORITHM_REFUSED: status.UNAUTHENTICATED,
  AUTH_EXCHANGE_BROKEN: status.UNAUTHENTICATED,
  AUTH_REFLECTED: status.UNAUTHENTICATED,
  AUTH_SECRETS_EQUAL: status.INVALID_ARGUMENT,
  AUTH_SECRET_TOO_SHORT: status.INVALID_ARGUMENT,
  AUTH_CREDENTIALS_INCOMPLETE: status.INVALID_ARGUMENT,
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
