import { AppError } from "../base/errors.js";

export type NegotiationErrorCode =
  /** A key was declared or negotiated twice in one phase (RFC 7143 §6.3). */
  | "NEGOTIATION_KEY_REPEATED"
  /** The key may not be sent by this side, in this stage or in this kind of session. */
  | "NEGOTIATION_KEY_NOT_ALLOWED"
  /** A declared value, or an answer, that the key's definition does not admit. */
  | "NEGOTIATION_VALUE_INVALID"
  /** An answer that was not among the values offered (§6.2.1), or against the result function (§6.2.2). */
  | "NEGOTIATION_VALUE_NOT_OFFERED"
  /** `Reject`, `Irrelevant` or `NotUnderstood` where only a value may stand (§6.2). */
  | "NEGOTIATION_RESERVED_VALUE"
  /** A key every peer must know was answered `NotUnderstood` (§6.2). */
  | "NEGOTIATION_NOT_UNDERSTOOD"
  /** The negotiation ended while a proposal of ours had no answer. */
  | "NEGOTIATION_INCOMPLETE"
  /** The outcome is legal but not one we may work with, such as no digest where one is demanded. */
  | "NEGOTIATION_UNACCEPTABLE";

const SHOWN_CHARACTERS = 64;

/** A value for people: bounded, without control characters. */
export function showValue(value: string): string {
  const shown = value.length > SHOWN_CHARACTERS ? `${value.slice(0, SHOWN_CHARACTERS)}…` : value;
  return JSON.stringify(shown);
}

/** The two ends cannot agree, or the peer broke the rules of agreeing. `details` carries `key` and `section`. */
export class NegotiationError extends AppError {
  declare readonly code: NegotiationErrorCode;

  constructor(
    code: NegotiationErrorCode,
    message: string,
    details: { readonly key?: string; readonly section?: string; readonly keys?: readonly string[] },
  ) {
    super("login", code, message, { details });
  }
}
