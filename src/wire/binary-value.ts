import { ProtocolError } from "./errors.js";

/**
 * Values of text keys as RFC 7143 §6.1 spells them. Every function that reads throws ProtocolError
 * `TEXT_VALUE_INVALID`, with a message that does not repeat the value: it may be a proof of a secret.
 */

export interface NumericalRange {
  readonly lower: number;
  readonly upper: number;
}

export interface BinaryValueLimits {
  /** Longest value accepted, in bytes; checked before anything is allocated. */
  readonly maxBytes: number;
  /** Length that the key defines, in bytes. Only with it may a value be a decimal number (up to 8 bytes). */
  readonly exactBytes?: number;
}

const MAX_DECIMAL_BINARY_BYTES = 8;

/** Digits of 2^64 - 1: more are too many in a number, whatever they are. */
const MAX_DECIMAL_DIGITS = 20;
const NUMERICAL_LIMIT = 1n << 64n;

const hexConstant = /^0[xX]([0-9a-fA-F]+)$/;
const base64Constant = /^0[bB]([0-9A-Za-z+/]+={0,2})$/;
const decimalConstant = /^(0|[1-9][0-9]*)$/;

/** `0x` and two digits for every byte. An empty value has no spelling: §6.1 asks for one digit at least. */
export function encodeHexConstant(bytes: Buffer): string {
  return `0x${bytes.toString("hex")}`;
}

/** `0b` and RFC 4648 base64 with padding. */
export function encodeBase64Constant(bytes: Buffer): string {
  return `0b${bytes.toString("base64")}`;
}

/**
 * A binary value: hexadecimal (n digits are (n + 1) / 2 bytes; an odd first digit stands alone), base64, or decimal
 * when the key defines the length. The caller owns the buffer.
 */
export function decodeBinaryValue(text: string, limits: BinaryValueLimits): Buffer {
  // Four characters of base64 are three bytes; hexadecimal is longer, so this bounds both before the patterns run.
  if (text.length > 2 + 2 * limits.maxBytes + 4) throw tooLong(limits.maxBytes);
  const bytes = decodeHex(text) ?? decodeBase64(text) ?? decodeDecimal(text, limits.exactBytes);
  if (bytes === undefined) throw invalid("is neither a hexadecimal nor a base64 constant");
  if (bytes.length > limits.maxBytes) throw tooLong(limits.maxBytes);
  if (limits.exactBytes !== undefined && bytes.length !== limits.exactBytes) {
    throw invalid(`has ${bytes.length} bytes and must have ${limits.exactBytes}`);
  }
  return bytes;
}

function decodeHex(text: string): Buffer | undefined {
  const digits = hexConstant.exec(text)?.[1];
  if (digits === undefined) return undefined;
  return Buffer.from(digits.length % 2 === 0 ? digits : `0${digits}`, "hex");
}

function decodeBase64(text: string): Buffer | undefined {
  const digits = base64Constant.exec(text)?.[1];
  if (digits === undefined) return undefined;
  const bytes = Buffer.from(digits, "base64");
  // One spelling for one value: bits behind the end and missing padding are refused (RFC 4648 §3.2, §3.5).
  if (bytes.toString("base64") !== digits) throw invalid("is not canonical base64");
  return bytes;
}

function decodeDecimal(text: string, exactBytes: number | undefined): Buffer | undefined {
  if (exactBytes === undefined || exactBytes > MAX_DECIMAL_BINARY_BYTES) return undefined;
  if (text.length > MAX_DECIMAL_DIGITS || !decimalConstant.test(text)) return undefined;
  const digits = BigInt(text).toString(16);
  if (digits.length > exactBytes * 2) throw invalid(`does not fit in ${exactBytes} bytes`);
  return Buffer.from(digits.padStart(exactBytes * 2, "0"), "hex");
}

/** A numerical-value: decimal or hexadecimal, less than 2^64. */
export function parseLargeNumber(text: string): bigint {
  // Leading zeros are only discouraged, so a long hexadecimal number may still be small; 255 bytes bound the value.
  if (text.length > 255) throw invalid("is too long for a number");
  if (!hexConstant.test(text) && !decimalConstant.test(text)) throw invalid("is not a number");
  const value = BigInt(text.toLowerCase());
  if (value >= NUMERICAL_LIMIT) throw invalid("is not less than 2^64");
  return value;
}

/** A numerical-value within bounds; `maximum` must be a safe whole number. */
export function parseNumber(text: string, minimum: number, maximum: number): number {
  const value = parseLargeNumber(text);
  if (value < BigInt(minimum) || value > BigInt(maximum)) {
    throw invalid(`is ${value.toString()} and must be from ${minimum} to ${maximum}`);
  }
  return Number(value);
}

/** Two numbers with a tilde between, `16384~32768`; the right one must not be lower. A single number is no range. */
export function parseNumericalRange(text: string, minimum: number, maximum: number): NumericalRange {
  const parts = text.split("~", 3);
  const [left, right] = parts;
  if (left === undefined || right === undefined || parts.length !== 2) throw invalid("is not a range");
  const lower = parseNumber(left, minimum, maximum);
  const upper = parseNumber(right, minimum, maximum);
  if (upper < lower) throw invalid("is a range whose end is lower than its start");
  return { lower, upper };
}

export function formatNumericalRange(range: NumericalRange): string {
  return `${range.lower}~${range.upper}`;
}

/** `Yes` or `No`, case included. */
export function parseBoolean(text: string): boolean {
  if (text !== "Yes" && text !== "No") throw invalid("is neither Yes nor No");
  return text === "Yes";
}

export function formatBoolean(value: boolean): "Yes" | "No" {
  return value ? "Yes" : "No";
}

function tooLong(maxBytes: number): ProtocolError {
  return invalid(`is longer than ${maxBytes} bytes`);
}

function invalid(reason: string): ProtocolError {
  return new ProtocolError("TEXT_VALUE_INVALID", `the value ${reason}`, { section: "RFC 7143 §6.1" });
}
