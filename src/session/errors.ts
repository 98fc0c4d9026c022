import { AppError } from "../base/errors.js";

export type SessionErrorCode =
  /** The session was closed by its owner. */
  | "SESSION_CLOSED"
  /** A bounded queue of the session is full. */
  | "SESSION_QUEUE_FULL"
  /** The connection was lost while a task ran that must not be sent a second time: its fate is unknown. */
  | "SESSION_TASK_LOST"
  /** The task ran longer than its time and is no longer running at the target. */
  | "SESSION_TASK_TIMEOUT"
  /** A reset that was asked for ended the task. */
  | "SESSION_TASK_ABORTED"
  /** The target refused the PDU of the task (Reject, RFC 7143 §11.17). */
  | "SESSION_TASK_REJECTED"
  /** iSCSI response other than "completed at target" (RFC 7143 §11.4.3). */
  | "SESSION_TARGET_FAILURE"
  /** Status was good, but not all of the data travelled. */
  | "SESSION_SHORT_TRANSFER"
  /** The path is gone for longer than the operator allows. */
  | "SESSION_UNAVAILABLE"
  /** What is behind the path after a reconnection was refused by the owner of the LUN. */
  | "SESSION_PATH_REFUSED"
  /** The peer broke the protocol; the connection is dropped. */
  | "SESSION_PROTOCOL"
  /** A data digest did not match; the connection is dropped at ErrorRecoveryLevel 0 (RFC 7143 §7.8). */
  | "SESSION_DIGEST"
  /** The peer did not answer a ping, a request or a login in time. */
  | "SESSION_TIMEOUT"
  /** The connection ended: by the peer, or because the peer asked for it. */
  | "SESSION_CONNECTION_LOST"
  /** There is no such connection in the session. */
  | "SESSION_CONNECTION_UNKNOWN"
  /** The last connection of a session cannot be removed. */
  | "SESSION_CONNECTION_LAST"
  /** The session has as many connections as it may have. */
  | "SESSION_CONNECTION_LIMIT"
  /** A task management function was answered with something other than success. */
  | "SESSION_TASK_MANAGEMENT_FAILED"
  /** The target refused the logout (RFC 7143 §11.15.1). */
  | "SESSION_LOGOUT_FAILED";

/** What a session, or a task given to it, fails with. */
export class SessionError extends AppError {
  declare readonly code: SessionErrorCode;

  constructor(code: SessionErrorCode, message: string, options: ConstructorParameters<typeof AppError>[3] = {}) {
    super("session", code, message, options);
  }
}

/** The peer did what RFC 7143 forbids; `section` is the paragraph that forbids it. */
export function protocolError(section: string, message: string, details: Record<string, unknown> = {}): SessionError {
  return new SessionError("SESSION_PROTOCOL", `${message} (RFC 7143 ${section})`, {
    retry: "same-path",
    details: { section, ...details },
  });
}

/** The owner closed the session, or had to because of `reason`. */
export function closedError(reason?: AppError): SessionError {
  return new SessionError("SESSION_CLOSED", "the session was closed", reason === undefined ? {} : { cause: reason });
}

/** The command window stays shut although the target has nothing of ours to do. */
export function stalledError(): SessionError {
  return new SessionError("SESSION_TIMEOUT", "the target has none of our commands, yet takes no more", {
    retry: "same-path",
  });
}

/** A connection that does not answer what is asked about it before it is used. */
export function silentError(): SessionError {
  return new SessionError("SESSION_TIMEOUT", "the target does not answer over the new connection", {
    retry: "other-path",
  });
}

/** What a task fails with when its connection went and it must not be sent again. */
export function taskLost(reason: AppError): SessionError {
  return new SessionError("SESSION_TASK_LOST", `the connection was lost while the command ran: ${reason.message}`, {
    retry: "same-path",
    cause: reason,
  });
}
