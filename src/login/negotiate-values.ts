import type { KeyDefinition, KeyValueType, ReservedAnswer } from "./keys.js";
import { isReservedAnswer } from "./keys.js";
import { NegotiationError, showValue } from "./negotiate-error.js";

/** What one side wants of one key: acceptable values in order, a Boolean, or a number. */
export type Preference = readonly string[] | boolean | number;

/** An acceptor's decision. `value` is absent when the key keeps the value it has. */
export interface Answer {
  readonly text: string;
  readonly value?: string;
  /** The proposal alone determined the outcome, so the answer may stay away (RFC 7143 §6.2.2). */
  readonly isOptional: boolean;
}

const REJECTED: Answer = { text: "Reject", isOptional: false };

/** A numerical-value of RFC 7143 §6.1 that fits a safe integer: decimal without leading zeros, or hexadecimal. */
export function parseNumericalValue(text: string): number | undefined {
  if (text.length > 18 || !/^(?:0|[1-9][0-9]*|0[xX][0-9a-fA-F]+)$/.test(text)) return undefined;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** `Yes` and `No` of §6.1, nothing else. */
export function parseBooleanValue(text: string): boolean | undefined {
  if (text === "Yes") return true;
  return text === "No" ? false : undefined;
}

/** The values of a list proposal, in the proposer's order. */
export function parseListValue(text: string): readonly string[] {
  return text.split(",");
}

/** How a preference is proposed. */
export function formatPreference(preference: Preference): string {
  if (typeof preference === "boolean") return preference ? "Yes" : "No";
  return typeof preference === "number" ? String(preference) : preference.join(",");
}

/** A number within the key's own range, or undefined. */
export function parseKeyNumber(type: KeyValueType & { readonly kind: "number" }, text: string): number | undefined {
  const value = parseNumericalValue(text);
  return value === undefined || value < type.minimum || value > type.maximum ? undefined : value;
}

/** Does a Boolean proposal leave nothing to decide (§6.2.2)? */
export function isDetermining(type: KeyValueType, offered: string): boolean {
  return type.kind === "boolean" && offered === (type.result === "AND" ? "No" : "Yes");
}

/**
 * What an acceptor answers to a proposal. Never throws: a value that is malformed, out of range or not among ours is
 * answered `Reject` (§6.2.1, §6.2.2).
 */
export function answerProposal(key: KeyDefinition, offered: string, preference: Preference): Answer {
  const type = key.type;
  if (type.kind === "list" && typeof preference === "object") {
    const choice = parseListValue(offered).find((value) => preference.includes(value));
    return choice === undefined ? REJECTED : { text: choice, value: choice, isOptional: false };
  }
  if (type.kind === "boolean" && typeof preference === "boolean") {
    const proposal = parseBooleanValue(offered);
    if (proposal === undefined) return REJECTED;
    const result = type.result === "AND" ? proposal && preference : proposal || preference;
    const value = formatPreference(result);
    return { text: value, value, isOptional: isDetermining(type, offered) };
  }
  if (type.kind === "number" && typeof preference === "number") {
    const proposal = parseKeyNumber(type, offered);
    if (proposal === undefined) return REJECTED;
    const result = type.result === "maximum" ? Math.max(proposal, preference) : Math.min(proposal, preference);
    return { text: String(result), value: String(result), isOptional: false };
  }
  return REJECTED;
}

/**
 * The value a peer's answer to our proposal gives the key, or undefined when the key keeps the value it has. Throws
 * NegotiationError when the answer is none that the rules allow.
 */
export function acceptAnswer(key: KeyDefinition, offered: string, answer: string): string | undefined {
  if (isReservedAnswer(answer)) {
    checkReserved(key, answer);
    return undefined;
  }
  if (!isAdmissible(key.type, offered, answer)) {
    throw new NegotiationError(
      "NEGOTIATION_VALUE_NOT_OFFERED",
      `the peer answered ${key.name}=${showValue(answer)} to our ${showValue(offered)}, which ${key.section} does not allow`,
      { key: key.name, section: key.section },
    );
  }
  return answer;
}

function checkReserved(key: KeyDefinition, answer: ReservedAnswer): void {
  if (answer !== "NotUnderstood" || key.isOptionalForPeer) return;
  throw new NegotiationError(
    "NEGOTIATION_NOT_UNDERSTOOD",
    `the peer does not understand ${key.name}, which every iSCSI node must (RFC 7143 §6.2)`,
    { key: key.name, section: key.section },
  );
}

/** §6.2.1 and §6.2.2: may this be the acceptor's choice? */
function isAdmissible(type: KeyValueType, offered: string, answer: string): boolean {
  switch (type.kind) {
    case "list":
      // A peer without any digest says `None` even to those who demand one; the outcome is then judged as such.
      return parseListValue(offered).includes(answer) || (answer === "None" && type.values.includes("None"));
    case "boolean":
      if (parseBooleanValue(answer) === undefined) return false;
      return !isDetermining(type, offered) || answer === offered;
    case "number": {
      const value = parseKeyNumber(type, answer);
      const limit = parseKeyNumber(type, offered);
      if (value === undefined || limit === undefined) return false;
      return type.result === "maximum" ? value >= limit : value <= limit;
    }
    case "text":
    case "binary":
    case "obsolete":
      return false;
  }
}
