import { AppError, type AppErrorOptions } from "../base/errors.js";

export type TargetErrorCode =
  /** A definition or a call that cannot be meant. */
  | "TARGET_INVALID"
  | "TARGET_EXISTS"
  | "TARGET_NOT_FOUND"
  /** The server was stopped or never started. */
  | "TARGET_STOPPED"
  /** A portal could not be bound. */
  | "TARGET_PORTAL"
  /** The initiator broke the protocol; its connection ends. */
  | "TARGET_PEER_PROTOCOL"
  /** The initiator did not answer in time; its connection ends. */
  | "TARGET_PEER_TIMEOUT"
  /** The session was ended from our side: removed target, changed access, reinstatement, shutdown. */
  | "TARGET_SESSION_ENDED";

/** What the embedded target raises on purpose. */
export class TargetError extends AppError {
  declare readonly code: TargetErrorCode;

  constructor(code: TargetErrorCode, message: string, options: AppErrorOptions = {}) {
    super("target", code, message, options);
  }
}
