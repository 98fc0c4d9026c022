import { MAX_EXTENSION_KEYS, MAX_TEXT_KEY_BYTES, MAX_TEXT_SIMPLE_VALUE_BYTES } from "../base/limits.js";
import { NegotiationError, showValue } from "./negotiate-error.js";

type Pair = readonly [key: string, value: string];

/** §6.1 standard-label after `X-`; §6.1 simple values: letters, digits and some signs. */
const keyPattern = /^X-[A-Za-z0-9.+@_-]+$/;
const valuePattern = /^[A-Za-z0-9.+@_/[\]:,-]+$/;

/**
 * Throws NegotiationError for keys that may not be offered: not of the form `X-` and a label (RFC 7143 §13.22), twice
 * the same, a value that is none of §6.1, or more than MAX_EXTENSION_KEYS.
 */
export function checkExtensionKeys(keys: readonly Pair[]): void {
  if (keys.length > MAX_EXTENSION_KEYS) {
    throw invalid("NEGOTIATION_KEY_NOT_ALLOWED", `more than ${MAX_EXTENSION_KEYS} extension keys`, "");
  }
  const names = new Set<string>();
  for (const [name, value] of keys) {
    if (!keyPattern.test(name) || Buffer.byteLength(name) > MAX_TEXT_KEY_BYTES) {
      throw invalid("NEGOTIATION_KEY_NOT_ALLOWED", `${showValue(name)} is not X-reversed.vendor.name`, name);
    }
    if (names.has(name)) throw invalid("NEGOTIATION_KEY_REPEATED", `${name} is there twice`, name);
    if (!valuePattern.test(value) || Buffer.byteLength(value) > MAX_TEXT_SIMPLE_VALUE_BYTES) {
      throw invalid("NEGOTIATION_VALUE_INVALID", `${name} cannot have the value ${showValue(value)}`, name);
    }
    names.add(name);
  }
}

function invalid(
  code: "NEGOTIATION_KEY_NOT_ALLOWED" | "NEGOTIATION_KEY_REPEATED" | "NEGOTIATION_VALUE_INVALID",
  problem: string,
  key: string,
): NegotiationError {
  return new NegotiationError(code, `extension keys: ${problem} (RFC 7143 §13.22)`, {
    key: key.slice(0, MAX_TEXT_KEY_BYTES),
    section: "RFC 7143 §13.22",
  });
}

/** The extension keys that one side offers, and what the other one says to them. */
export class ExtensionOffers {
  readonly #pending: Map<string, string>;
  readonly #answers: Pair[] = [];

  /** Throws as checkExtensionKeys. */
  constructor(keys: readonly Pair[]) {
    checkExtensionKeys(keys);
    this.#pending = new Map(keys);
  }

  /** What to send. */
  get offers(): readonly Pair[] {
    return [...this.#pending];
  }

  /** The answers so far, the three words that are no values included (§6.2). */
  get answers(): readonly Pair[] {
    return this.#answers;
  }

  /** Takes an answer; false when nothing of that name is open, so that it is the peer's own proposal. */
  take(name: string, value: string): boolean {
    if (!this.#pending.delete(name)) return false;
    this.#answers.push([name, value]);
    return true;
  }
}
