import type { AppErrorOptions } from "../base/errors.js";
import { AppError } from "../base/errors.js";

/** The target refused the login, or may not be logged in to. `details` carries the status when there is one. */
export class LoginError extends AppError {
  constructor(code: string, message: string, options: AppErrorOptions = {}) {
    super("login", code, message, options);
  }
}

export type AuthErrorCode =
  /** Status 0201: the target refused our name or secret. */
  | "LOGIN_AUTHENTICATION_FAILED"
  /** The target did not choose a method or algorithm that we offered and allow. */
  | "AUTH_METHOD_REFUSED"
  | "AUTH_ALGORITHM_REFUSED"
  /** The target skipped a step of CHAP, or sent a value that is none. */
  | "AUTH_EXCHANGE_BROKEN"
  /** The target's proof of itself is missing or wrong. */
  | "AUTH_TARGET_NOT_PROVEN"
  /** The target sent a challenge or response back to us that is ours (RFC 7143 §9.2.1). */
  | "AUTH_REFLECTED"
  /** The configured secrets break §9.2.1: too short, or one for both directions. */
  | "AUTH_SECRET_TOO_SHORT"
  | "AUTH_SECRETS_EQUAL"
  | "AUTH_CREDENTIALS_INCOMPLETE";

/** Authentication failed on either side. Never carries a secret, a challenge or a response. */
export class AuthError extends LoginError {
  declare readonly code: AuthErrorCode;

  constructor(code: AuthErrorCode, message: string, options: AppErrorOptions = {}) {
    super(code, message, options);
  }
}
