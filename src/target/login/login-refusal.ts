import { TargetError } from "../errors.js";

/** RFC 7143 §11.13.5: class in the upper byte, detail in the lower. */
export const LoginStatus = {
  success: 0x0000,
  movedTemporarily: 0x0101,
  movedPermanently: 0x0102,
  initiatorError: 0x0200,
  authenticationFailure: 0x0201,
  authorizationFailure: 0x0202,
  targetNotFound: 0x0203,
  targetRemoved: 0x0204,
  unsupportedVersion: 0x0205,
  tooManyConnections: 0x0206,
  missingParameter: 0x0207,
  cannotIncludeInSession: 0x0208,
  unsupportedSessionType: 0x0209,
  sessionDoesNotExist: 0x020a,
  invalidDuringLogin: 0x020b,
  targetError: 0x0300,
  serviceUnavailable: 0x0301,
  outOfResources: 0x0302,
} as const;
export type LoginStatus = (typeof LoginStatus)[keyof typeof LoginStatus];

/** A login that is refused: the status goes to the initiator, the message into the log. */
export class LoginRefusal extends TargetError {
  readonly status: LoginStatus;
  /** Goes with the status: where a target has moved to. */
  readonly text: readonly (readonly [string, string])[];

  constructor(status: LoginStatus, message: string, text: readonly (readonly [string, string])[] = []) {
    super("TARGET_PEER_PROTOCOL", message, { details: { status: `0x${status.toString(16).padStart(4, "0")}` } });
    this.status = status;
    this.text = text;
  }
}
