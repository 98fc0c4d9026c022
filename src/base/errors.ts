/** What the one who receives an error may do about it. */
export type RetryAdvice = "never" | "same-path" | "other-path";

export type ErrorLayer =
  | "base"
  | "wire"
  | "scsi"
  | "host"
  | "login"
  | "transport"
  | "session"
  | "discovery"
  | "block"
  | "multipath"
  | "nbd"
  | "initiator"
  | "target"
  | "dataplane"
  | "storage"
  | "csi"
  | "config"
  | "cli";

export interface AppErrorOptions {
  readonly retry?: RetryAdvice;
  /** Facts for logs and tests. Never a secret, never a payload. */
  readonly details?: Readonly<Record<string, unknown>>;
  readonly cause?: unknown;
}

/**
 * Root of every error Hawser raises on purpose. `code` is stable and machine-readable
 * (`LOGIN_AUTHENTICATION_FAILED`), `message` names the thing, the reason and, where there is one, the remedy.
 */
export class AppError extends Error {
  readonly code: string;
  readonly layer: ErrorLayer;
  readonly retry: RetryAdvice;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(layer: ErrorLayer, code: string, message: string, options: AppErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.layer = layer;
    this.code = code;
    this.retry = options.retry ?? "never";
    this.details = options.details ?? {};
  }
}

/** The time given for something ran out. */
export class TimeoutError extends AppError {}

/** The caller withdrew what it asked for. */
export class CancelledError extends AppError {}

/**
 * The error itself, when it was raised on purpose. Anything else is a mistake of ours, which must not pass for a failure of
 * the peer: it is thrown on.
 */
export function asAppError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  throw error;
}

/** A human-readable line for any thrown value. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The `code` of an AppError or of a Node system error (`ECONNREFUSED`), if there is one. */
export function errorCode(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}
