import { createHash, timingSafeEqual } from "node:crypto";
import { AppError } from "../base/errors.js";
import { MAX_CHAP_BINARY_BYTES, MIN_CHAP_SECRET_BYTES } from "../base/limits.js";
import type { Random } from "../base/random.js";
import type { Secret } from "../base/secret.js";
import { decodeBinaryValue, encodeBase64Constant, encodeHexConstant } from "../wire/binary-value.js";
import { ProtocolError } from "../wire/errors.js";

/** CHAP as both ends of a login need it: RFC 1994, RFC 7143 §12.1.3, and IANA's registry of algorithms. */

/** 5 MD5, 6 SHA-1, 7 SHA-256, 8 SHA3-256: the numbers of `CHAP_A`. */
export type ChapAlgorithm = 5 | 6 | 7 | 8;

/** The one algorithm every peer has, and which an initiator must always offer (§12.1.3). */
export const CHAP_MD5: ChapAlgorithm = 5;

/** All algorithms, strongest first. */
export const CHAP_ALGORITHMS: readonly ChapAlgorithm[] = Object.freeze([8, 7, 6, 5]);

const hashes: Readonly<Record<ChapAlgorithm, { readonly name: string; readonly lengthBytes: number }>> = {
  5: { name: "md5", lengthBytes: 16 },
  6: { name: "sha1", lengthBytes: 20 },
  7: { name: "sha256", lengthBytes: 32 },
  8: { name: "sha3-256", lengthBytes: 32 },
};

/** A CHAP value that is malformed or breaks a rule. Never carries the value. */
export class ChapValueError extends AppError {
  constructor(code: "CHAP_VALUE_INVALID", message: string) {
    super("login", code, message);
  }
}

/** Is this number an algorithm we have? */
export function isChapAlgorithm(value: number): value is ChapAlgorithm {
  return value === 5 || value === 6 || value === 7 || value === 8;
}

/** Bytes in a response of this algorithm. */
export function chapResponseBytes(algorithm: ChapAlgorithm): number {
  return hashes[algorithm].lengthBytes;
}

export interface ChapInput {
  readonly algorithm: ChapAlgorithm;
  /** CHAP_I: one octet. */
  readonly identifier: number;
  readonly secret: Secret;
  /** CHAP_C. */
  readonly challenge: Buffer;
}

/** CHAP_R: hash of identifier, secret and challenge (RFC 1994 §4.1). The caller owns the buffer. */
export function chapResponse(input: ChapInput): Buffer {
  return createHash(hashes[input.algorithm].name)
    .update(Buffer.of(input.identifier & 0xff))
    .update(input.secret.reveal())
    .update(input.challenge)
    .digest();
}

/** Is this the response that only the holder of the secret can give? Takes the same time whatever the answer. */
export function verifyChapResponse(input: ChapInput, response: Buffer): boolean {
  return equalsInConstantTime(chapResponse(input), response);
}

/** Compares key material: the time taken tells nothing about where two values of one length differ. */
export function equalsInConstantTime(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

/** Is the secret at least the 96 bits that §9.2.1 asks for on a connection without IPsec? */
export function isChapSecretLongEnough(secret: Secret): boolean {
  return secret.lengthBytes >= MIN_CHAP_SECRET_BYTES;
}

/** A fresh identifier and challenge, as long as the algorithm's response; never used for a second login. */
export function createChapChallenge(
  algorithm: ChapAlgorithm,
  random: Random,
): { readonly identifier: number; readonly challenge: Buffer } {
  return { identifier: random.uint32() & 0xff, challenge: random.bytes(chapResponseBytes(algorithm)) };
}

/** The numbers of a `CHAP_A` list in the peer's order; entries that are no number are left out (§6.2.1). */
export function parseChapAlgorithms(text: string): readonly number[] {
  return text
    .split(",")
    .filter((entry) => /^(?:0|[1-9][0-9]{0,4})$/.test(entry))
    .map(Number);
}

/** The responder's choice: the first offered algorithm that it has; undefined when there is none. */
export function selectChapAlgorithm(
  offered: readonly number[],
  supported: readonly ChapAlgorithm[] = CHAP_ALGORITHMS,
): ChapAlgorithm | undefined {
  return offered.filter(isChapAlgorithm).find((algorithm) => supported.includes(algorithm));
}

/** CHAP_I: an octet, decimal or hexadecimal. Throws ChapValueError. */
export function parseChapIdentifier(text: string): number {
  const value = /^(?:[0-9]{1,3}|0[xX][0-9a-fA-F]{1,2})$/.test(text) ? Number(text) : Number.NaN;
  if (!(value <= 255)) throw new ChapValueError("CHAP_VALUE_INVALID", "CHAP_I is not a number from 0 to 255");
  return value;
}

/** CHAP_C or CHAP_R as bytes, from hexadecimal or base64 (§6.1). Throws ChapValueError; never repeats the value. */
export function parseChapBinary(key: "CHAP_C" | "CHAP_R", text: string): Buffer {
  try {
    return decodeBinaryValue(text, { maxBytes: MAX_CHAP_BINARY_BYTES });
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    throw new ChapValueError(
      "CHAP_VALUE_INVALID",
      `${key} is not hexadecimal (0x…) or base64 (0b…) of 1 to ${MAX_CHAP_BINARY_BYTES} bytes (RFC 7143 §12.1.3)`,
    );
  }
}

/** CHAP_C or CHAP_R as text. Hexadecimal by default: some peers cannot read base64. */
export function formatChapBinary(bytes: Buffer, encoding: "hex" | "base64" = "hex"): string {
  return encoding === "hex" ? encodeHexConstant(bytes) : encodeBase64Constant(bytes);
}
