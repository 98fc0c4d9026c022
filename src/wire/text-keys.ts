import { isUtf8 } from "node:buffer";
import { assert } from "../base/assert.js";
import {
  MAX_TEXT_KEY_BYTES,
  MAX_TEXT_PAIRS,
  MAX_TEXT_SIMPLE_VALUE_BYTES,
  MAX_TEXT_VALUE_BYTES,
} from "../base/limits.js";
import { ProtocolError } from "./errors.js";
import { NO_DATA } from "./header.js";

/** `[key, value]`; no more is said about their meaning here. */
export type TextPair = readonly [key: string, value: string];

const SECTION = "RFC 7143 §6.1";
const NUL = 0x00;
const EQUALS = 0x3d;

/** Keys of §13 whose value is a simple one, so at most 255 bytes long. Lists, addresses and binary values are not. */
const simpleValueKeys: ReadonlySet<string> = new Set([
  "MaxConnections",
  "TargetName",
  "InitiatorName",
  "TargetAlias",
  "InitiatorAlias",
  "TargetPortalGroupTag",
  "InitialR2T",
  "ImmediateData",
  "MaxRecvDataSegmentLength",
  "MaxBurstLength",
  "FirstBurstLength",
  "DefaultTime2Wait",
  "DefaultTime2Retain",
  "MaxOutstandingR2T",
  "DataPDUInOrder",
  "DataSequenceInOrder",
  "ErrorRecoveryLevel",
  "SessionType",
  "iSCSIProtocolLevel",
]);

/**
 * Text of §6.1: `key=value` and a NUL for every pair. The caller's own mistakes (a NUL inside, an empty or too long
 * key, a `=` in a key) are assertions; what keys and values may be is the negotiation's to know.
 */
export function encodeTextKeys(pairs: readonly TextPair[]): Buffer {
  let text = "";
  for (const [key, value] of pairs) {
    assert(key.length > 0 && Buffer.byteLength(key) <= MAX_TEXT_KEY_BYTES, "a text key has 1 to 63 bytes");
    assert(!key.includes("=") && !key.includes("\0") && !value.includes("\0"), "a text pair can be told apart");
    text += `${key}=${value}\0`;
  }
  return Buffer.from(text);
}

/**
 * The pairs of one whole text (all PDUs joined, see TextAssembler), in order, repetitions included. Borrows `bytes`.
 * Throws ProtocolError: `TEXT_UNTERMINATED`, `TEXT_KEY_INVALID`, `TEXT_VALUE_TOO_LONG`, `TEXT_NOT_UTF8`,
 * `TEXT_TOO_MANY_PAIRS`. No message holds a value: some are proofs of a secret.
 *
 * A NUL where a pair should begin is skipped: some senders pad within the data segment.
 */
export function decodeTextKeys(bytes: Buffer): [string, string][] {
  const pairs: [string, string][] = [];
  let start = 0;
  while (start < bytes.length) {
    if (bytes[start] === NUL) {
      start += 1;
      continue;
    }
    const end = bytes.indexOf(NUL, start);
    if (end === -1) throw textError("TEXT_UNTERMINATED", "the last key=value pair does not end with a NUL");
    if (pairs.length === MAX_TEXT_PAIRS) {
      throw textError("TEXT_TOO_MANY_PAIRS", `a text has more than ${MAX_TEXT_PAIRS} pairs`);
    }
    pairs.push(decodePair(bytes.subarray(start, end)));
    start = end + 1;
  }
  return pairs;
}

function decodePair(pair: Buffer): [string, string] {
  const keyBytes = pair.indexOf(EQUALS);
  if (keyBytes === -1) throw textError("TEXT_KEY_INVALID", "a text pair has no =");
  if (keyBytes === 0 || keyBytes > MAX_TEXT_KEY_BYTES) {
    throw textError("TEXT_KEY_INVALID", `a text key has ${keyBytes} bytes and must have 1 to ${MAX_TEXT_KEY_BYTES}`);
  }
  if (!isUtf8(pair)) throw textError("TEXT_NOT_UTF8", "a text pair is not UTF-8");
  const key = pair.toString("utf8", 0, keyBytes);
  const valueBytes = pair.length - keyBytes - 1;
  const limitBytes = simpleValueKeys.has(key) ? MAX_TEXT_SIMPLE_VALUE_BYTES : MAX_TEXT_VALUE_BYTES;
  if (valueBytes > limitBytes) {
    throw textError("TEXT_VALUE_TOO_LONG", `the value of ${key} has ${valueBytes} bytes, more than ${limitBytes}`);
  }
  return [key, pair.toString("utf8", keyBytes + 1)];
}

/**
 * Cuts a text for several PDUs (§6.2): every part but the last goes with the C bit set. The parts are views of
 * `bytes`. A text without bytes is one empty part.
 */
export function splitText(bytes: Buffer, maxSegment: number): Buffer[] {
  assert(maxSegment > 0, "a text segment has at least one byte");
  const parts: Buffer[] = [];
  for (let start = 0; start < bytes.length; start += maxSegment) parts.push(bytes.subarray(start, start + maxSegment));
  return parts.length === 0 ? [NO_DATA] : parts;
}

/** Joins the segments of one text that came in several PDUs, up to a limit. */
export class TextAssembler {
  readonly #limitBytes: number;
  #buffer: Buffer = NO_DATA;
  #length = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get pendingBytes(): number {
    return this.#length;
  }

  /** Copies `segment` behind the ones before. Throws ProtocolError `TEXT_TOO_LONG` when the limit is passed. */
  append(segment: Buffer): void {
    const length = this.#length + segment.length;
    if (length > this.#limitBytes) {
      throw textError("TEXT_TOO_LONG", `a text has more than the ${this.#limitBytes} bytes we accept`);
    }
    if (length > this.#buffer.length) {
      // Doubling keeps many small segments from costing a copy of the whole each.
      const grown = Buffer.alloc(Math.min(this.#limitBytes, Math.max(length, this.#buffer.length * 2)));
      this.#buffer.copy(grown, 0, 0, this.#length);
      this.#buffer = grown;
    }
    segment.copy(this.#buffer, this.#length);
    this.#length = length;
  }

  /** The whole text, which is the caller's; the assembler is empty afterwards. */
  finish(): Buffer {
    const text = this.#buffer.subarray(0, this.#length);
    this.#buffer = NO_DATA;
    this.#length = 0;
    return text;
  }
}

function textError(code: string, message: string): ProtocolError {
  return new ProtocolError(code, message, { section: SECTION });
}
