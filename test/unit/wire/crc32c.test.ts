import { SeededRandom } from "../../../src/base/seeded-random.js";
import { crc32c, crc32cRange, NATIVE_CRC_MIN_BYTES } from "../../../src/wire/crc32c.js";
import { crc32cTable } from "../../../src/wire/crc32c-table.js";

const GENERATOR = 0x11edc_6f41n;

/**
 * The process of RFC 7143 §13.1 to the letter, as long division of polynomials. The message's bits count from bit 7 of
 * byte 0 in the RFC's numbering of a serial line, where the lowest bit of a byte goes first: the vectors of A.4 decide.
 */
function longDivision(bytes: Buffer): number {
  let message = 0n;
  for (const byte of bytes) for (let bit = 0; bit < 8; bit += 1) message = (message << 1n) | BigInt((byte >> bit) & 1);
  const lengthBits = BigInt(bytes.length * 8);
  // The most significant 32 bits are complemented, then the polynomial is multiplied by x^32.
  let remainder = (message << 32n) ^ (0xffff_ffffn << lengthBits);
  for (let degree = lengthBits + 31n; degree >= 32n; degree -= 1n) {
    if (((remainder >> degree) & 1n) === 1n) remainder ^= GENERATOR << (degree - 32n);
  }
  let digest = 0;
  for (let bit = 0n; bit < 32n; bit += 1n) if (((~remainder >> bit) & 1n) === 1n) digest |= 1 << Number(31n - bit);
  return digest >>> 0;
}

test("agrees with the division of §13.1 at every length around the switch to native code", () => {
  const random = new SeededRandom(1);
  for (let length = 4; length < NATIVE_CRC_MIN_BYTES + 20; length += 1) {
    const bytes = random.bytes(length);
    const expected = longDivision(bytes);
    expect(crc32c(bytes)).toBe(expected);
    expect(crc32cTable(bytes, 0, length)).toBe(expected);
  }
});

test("table and native code agree on long inputs", () => {
  const random = new SeededRandom(2);
  for (const length of [1000, 4096, 4099, 65_537]) {
    const bytes = random.bytes(length);
    expect(crc32c(bytes)).toBe(crc32cTable(bytes, 0, length));
  }
});

test("goes on from where it stopped, in either implementation", () => {
  const bytes = new SeededRandom(3).bytes(600);
  const whole = crc32c(bytes);
  for (let at = 0; at <= bytes.length; at += 1) {
    expect(crc32c(bytes.subarray(at), crc32c(bytes.subarray(0, at)))).toBe(whole);
  }
});

test("covers just the range it is given", () => {
  const bytes = new SeededRandom(4).bytes(600);
  for (const [start, end] of [
    [0, 0],
    [5, 6],
    [3, 51],
    [7, 599],
  ] as const) {
    expect(crc32cRange(bytes, start, end)).toBe(crc32c(bytes.subarray(start, end)));
  }
});
