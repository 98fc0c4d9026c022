import type { RetryAdvice } from "../base/errors.js";
import { AuthError, LoginError } from "./errors.js";

/** One row of RFC 7143 §11.13.5. */
export interface LoginStatus {
  readonly statusClass: number;
  readonly statusDetail: number;
  readonly code: string;
  readonly reason: string;
  readonly remedy: string;
  readonly retry: RetryAdvice;
}

type Row = readonly [status: number, code: string, reason: string, remedy: string, retry: RetryAdvice];

const rows: readonly Row[] = [
  [
    0x0101,
    "LOGIN_MOVED_TEMPORARILY",
    "the target has moved for the time being",
    "log in at the address given",
    "other-path",
  ],
  [
    0x0102,
    "LOGIN_MOVED_PERMANENTLY",
    "the target has moved for good",
    "log in at the address given and keep it",
    "other-path",
  ],
  [0x0200, "LOGIN_INITIATOR_ERROR", "the target calls the request wrong", "see the target's log", "never"],
  [
    0x0201,
    "LOGIN_AUTHENTICATION_FAILED",
    "the target did not accept our credentials, or cannot prove itself to us",
    "check the CHAP user and secret of both directions, and that the target knows this initiator's name",
    "never",
  ],
  [
    0x0202,
    "LOGIN_AUTHORIZATION_FAILED",
    "this initiator may not use the target",
    "add the initiator's name to the target's access list",
    "never",
  ],
  [
    0x0203,
    "LOGIN_TARGET_NOT_FOUND",
    "no target of that name is here",
    "check the target's name and the portal",
    "never",
  ],
  [0x0204, "LOGIN_TARGET_REMOVED", "the target has been removed", "find out where the volume is now", "never"],
  [
    0x0205,
    "LOGIN_UNSUPPORTED_VERSION",
    "the target speaks another version of iSCSI",
    "use a target of version 0",
    "never",
  ],
  [
    0x0206,
    "LOGIN_TOO_MANY_CONNECTIONS",
    "the session has as many connections as the target allows",
    "lower the number of connections per session",
    "never",
  ],
  [0x0207, "LOGIN_MISSING_PARAMETER", "the target misses a parameter", "see the target's log", "never"],
  [
    0x0208,
    "LOGIN_CANNOT_INCLUDE_IN_SESSION",
    "the session cannot span to this address",
    "use portals of one portal group for one session",
    "other-path",
  ],
  [
    0x0209,
    "LOGIN_SESSION_TYPE_NOT_SUPPORTED",
    "the target refuses this kind of session",
    "check that the portal allows discovery or normal sessions from this initiator",
    "never",
  ],
  [0x020a, "LOGIN_SESSION_DOES_NOT_EXIST", "the session to be joined is gone", "open a new session", "never"],
  [
    0x020b,
    "LOGIN_INVALID_DURING_LOGIN",
    "the target got a request that is not allowed in login",
    "see the target's log",
    "never",
  ],
  [0x0300, "LOGIN_TARGET_ERROR", "the target has a hardware or software error", "see the target's log", "same-path"],
  [
    0x0301,
    "LOGIN_SERVICE_UNAVAILABLE",
    "the target is not in operation now",
    "wait, or use another portal",
    "other-path",
  ],
  [
    0x0302,
    "LOGIN_OUT_OF_RESOURCES",
    "the target has no room for another session",
    "wait, or end other sessions",
    "other-path",
  ],
];

/** Every status that is an exception, by class and detail. */
export const LOGIN_STATUSES: readonly LoginStatus[] = Object.freeze(
  rows.map(([status, code, reason, remedy, retry]) =>
    Object.freeze({ statusClass: status >>> 8, statusDetail: status & 0xff, code, reason, remedy, retry }),
  ),
);

/** What a simple initiator knows when only the class is familiar (§11.13.5). */
const byClass: Readonly<Record<number, Pick<LoginStatus, "code" | "reason" | "remedy" | "retry">>> = {
  1: {
    code: "LOGIN_REDIRECTED",
    reason: "the target has moved",
    remedy: "log in at the address given",
    retry: "other-path",
  },
  2: {
    code: "LOGIN_INITIATOR_ERROR",
    reason: "the target calls the request wrong",
    remedy: "see the target's log",
    retry: "never",
  },
  3: {
    code: "LOGIN_TARGET_ERROR",
    reason: "the target cannot serve the login now",
    remedy: "wait and try again",
    retry: "same-path",
  },
};

/** The row of a status, by class alone when the detail is unknown; undefined for success and for unknown classes. */
export function describeLoginStatus(statusClass: number, statusDetail: number): LoginStatus | undefined {
  const exact = LOGIN_STATUSES.find((row) => row.statusClass === statusClass && row.statusDetail === statusDetail);
  if (exact !== undefined) return exact;
  const general = byClass[statusClass];
  return general === undefined ? undefined : { statusClass, statusDetail, ...general };
}

/** The error for a Login Response whose Status-Class is not 0. `subject` names what was logged in to. */
export function loginStatusError(statusClass: number, statusDetail: number, subject: string): LoginError {
  const row = describeLoginStatus(statusClass, statusDetail);
  const hex = ((statusClass << 8) | statusDetail).toString(16).padStart(4, "0");
  const details = { statusClass, statusDetail, subject };
  if (row === undefined) {
    return new LoginError("LOGIN_STATUS_UNKNOWN", `login to ${subject} failed: unknown status 0x${hex}`, { details });
  }
  const message = `login to ${subject} failed: ${row.reason} (status 0x${hex}); ${row.remedy}`;
  const options = { details, retry: row.retry };
  return row.code === "LOGIN_AUTHENTICATION_FAILED"
    ? new AuthError("LOGIN_AUTHENTICATION_FAILED", message, options)
    : new LoginError(row.code, message, options);
}
