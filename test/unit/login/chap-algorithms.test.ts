import { Secret } from "../../../src/base/secret.js";
import { SeededRandom } from "../../../src/base/seeded-random.js";
import type { ChapAlgorithm } from "../../../src/login/chap-algorithms.js";
import {
  chapResponse,
  chapResponseBytes,
  createChapChallenge,
  equalsInConstantTime,
  formatChapBinary,
  isChapSecretLongEnough,
  parseChapAlgorithms,
  parseChapBinary,
  parseChapIdentifier,
  selectChapAlgorithm,
  verifyChapResponse,
} from "../../../src/login/chap-algorithms.js";

/** Computed with Python's hashlib over 0x27, "a-secret-of-16by", 00 01 … 0f. */
const vectors: readonly (readonly [ChapAlgorithm, string])[] = [
  [5, "9010f2d055afaab6c279868b3d52c99a"],
  [6, "e1ba5dda1d849ddf4ff45d55f9b5c213cbbb2947"],
  [7, "701e0ae934a5e586d15940a6b531a5df47c5ece29ed2ede9a4a2818a949cf02c"],
  [8, "0dd31eb1acbe54cd4c5ba8786817778e0281f876f0fb74f5bb1265cb9c22a6f4"],
];
const input = (algorithm: ChapAlgorithm) => ({
  algorithm,
  identifier: 0x27,
  secret: Secret.from("a-secret-of-16by"),
  challenge: Buffer.from("000102030405060708090a0b0c0d0e0f", "hex"),
});

describe("CHAP", () => {
  it.each(vectors)("algorithm %d hashes identifier, secret and challenge", (algorithm, expected) => {
    expect(chapResponse(input(algorithm)).toString("hex")).toBe(expected);
    expect(chapResponseBytes(algorithm)).toBe(expected.length / 2);
    expect(verifyChapResponse(input(algorithm), Buffer.from(expected, "hex"))).toBe(true);
  });

  it("refuses a response that is wrong in one bit, short, long or empty", () => {
    const good = chapResponse(input(7));
    const wrong = Buffer.from(good);
    wrong.writeUInt8(wrong.readUInt8(31) ^ 1, 31);
    for (const response of [wrong, good.subarray(0, 31), Buffer.concat([good, Buffer.alloc(1)]), Buffer.alloc(0)]) {
      expect(verifyChapResponse(input(7), response)).toBe(false);
    }
    expect(equalsInConstantTime(good, Buffer.from(good))).toBe(true);
  });

  it("demands 96 bits of a secret", () => {
    expect(isChapSecretLongEnough(Secret.from("elevenbytes"))).toBe(false);
    expect(isChapSecretLongEnough(Secret.from("twelve-bytes"))).toBe(true);
  });

  it("makes a fresh challenge as long as the response each time", () => {
    const random = new SeededRandom(1);
    const first = createChapChallenge(8, random);
    const second = createChapChallenge(8, random);
    expect(first.challenge).toHaveLength(32);
    expect(first.challenge.equals(second.challenge)).toBe(false);
    expect(first.identifier).toBeLessThanOrEqual(255);
  });

  it("reads lists of algorithms and chooses the first it has", () => {
    expect(parseChapAlgorithms("7,5,x,08,,129")).toEqual([7, 5, 129]);
    expect(selectChapAlgorithm([129, 7, 5])).toBe(7);
    expect(selectChapAlgorithm([7, 5], [5])).toBe(5);
    expect(selectChapAlgorithm([1, 2])).toBeUndefined();
  });

  it("reads hexadecimal and base64, odd digits included (RFC 7143 §6.1)", () => {
    expect(parseChapBinary("CHAP_C", "0xabcdef").toString("hex")).toBe("abcdef");
    expect(parseChapBinary("CHAP_C", "0XABC").toString("hex")).toBe("0abc");
    expect(parseChapBinary("CHAP_R", "0bq83v").toString("hex")).toBe("abcdef");
    expect(parseChapBinary("CHAP_R", "0Bqw==").toString("hex")).toBe("ab");
    expect(formatChapBinary(Buffer.from("abcdef", "hex"))).toBe("0xabcdef");
    expect(formatChapBinary(Buffer.from("abcdef", "hex"), "base64")).toBe("0bq83v");
    expect(parseChapBinary("CHAP_C", `0x${"00".repeat(1024)}`)).toHaveLength(1024);
  });

  it.each(["", "0x", "0b", "abc", "0xzz", "0b!!!!", "12345", `0x${"00".repeat(1025)}`, `0b${"A".repeat(1368)}`])(
    "refuses %#, without repeating it",
    (text) => {
      expect(() => parseChapBinary("CHAP_R", text)).toThrow(/^CHAP_R is not hexadecimal/);
    },
  );

  it("reads CHAP_I as one octet", () => {
    expect(parseChapIdentifier("0")).toBe(0);
    expect(parseChapIdentifier("255")).toBe(255);
    expect(parseChapIdentifier("0xfF")).toBe(255);
    for (const text of ["256", "-1", "", "0x100", "1.5", "a"])
      expect(() => parseChapIdentifier(text)).toThrow(/CHAP_I/);
  });
});
