import { AppError } from "../base/errors.js";

export interface ProtocolErrorFacts {
  /** Where the rule stands, for example `RFC 7143 §11.8.4`. */
  readonly section: string;
  /** Opcode of the PDU at fault, when there is one. */
  readonly opcode?: number;
  readonly details?: Readonly<Record<string, unknown>>;
  readonly cause?: unknown;
}

/**
 * The peer broke the specification. `details` holds `section` and, for a PDU, `opcode`. What follows from it (close
 * the connection, recover the session: §7.7) is for the session to decide; the same bytes will not do better when
 * sent again, but another path may lead to a sounder target.
 */
export class ProtocolError extends AppError {
  constructor(code: string, message: string, facts: ProtocolErrorFacts) {
    const { section, opcode, details, cause } = facts;
    super("wire", code, `${message} (${section})`, {
      retry: "other-path",
      details: { ...details, section, ...(opcode === undefined ? {} : { opcode }) },
      ...(cause === undefined ? {} : { cause }),
    });
  }
}

/** A digest does not match what it covers (§7.8): bytes were changed on the way, so the same path may do better. */
export class DigestError extends AppError {
  constructor(code: string, message: string, details: Readonly<Record<string, unknown>>) {
    super("wire", code, message, { retry: "same-path", details: { section: "RFC 7143 §7.8", ...details } });
  }
}

/** Illegal contents of a header field, or fields that contradict each other: a format error of §7.7. */
export function fieldInvalid(opcode: number, section: string, message: string): ProtocolError {
  return new ProtocolError("PDU_FIELD_INVALID", message, { section: `RFC 7143 §${section}`, opcode });
}
