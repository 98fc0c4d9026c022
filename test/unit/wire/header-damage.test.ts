import { SeededRandom } from "../../../src/base/seeded-random.js";
import { crc32c } from "../../../src/wire/crc32c.js";
import { assessDamage, changedBit } from "../../../src/wire/header-damage.js";

const HEADER_BITS = 48 * 8;
const ALL_BITS = HEADER_BITS + 32;

/** Header and digest, with the bits at `places` changed. */
function damaged(header: Buffer, places: readonly number[]): { readonly header: Buffer; readonly digest: number } {
  const digest = Buffer.alloc(4);
  digest.writeUInt32LE(crc32c(header));
  const bytes = Buffer.concat([header, digest]);
  for (const place of places) bytes[place >>> 3] = bytes.readUInt8(place >>> 3) ^ (0x80 >>> (place & 7));
  return { header: bytes.subarray(0, 48), digest: bytes.readUInt32LE(48) };
}

function nopIn(dataSegmentLength: number): Buffer {
  const header = new SeededRandom(7).bytes(48);
  header.writeUInt8(0x20, 0);
  header.writeUInt32BE(dataSegmentLength, 4);
  return header;
}

test("names the one bit that was changed, wherever it is", () => {
  const header = nopIn(1000);
  for (let place = 0; place < ALL_BITS; place += 1) {
    const { header: bytes, digest } = damaged(header, [place]);
    expect(changedBit(bytes, digest)).toBe(place);
  }
});

test("never takes two, three or four changed bits for one", () => {
  // Differences add up by exclusive or: what one bit changes in the digest shows in a header of zeros.
  const zeros = Buffer.alloc(48);
  const differences = Array.from({ length: ALL_BITS }, (_, place) => {
    const { header, digest } = damaged(zeros, [place]);
    return (crc32c(header) ^ digest) >>> 0;
  });
  const ones = new Set(differences);
  const pairs = new Set<number>();
  for (let first = 0; first < ALL_BITS; first += 1) {
    for (let second = 0; second < first; second += 1) {
      pairs.add(((differences[first] ?? 0) ^ (differences[second] ?? 0)) >>> 0);
    }
  }
  expect(ones.size).toBe(ALL_BITS);
  expect(ones.has(0)).toBe(false);
  // No two pairs alike: no four bits cancel out, so three never look like one.
  expect(pairs.size).toBe((ALL_BITS * (ALL_BITS - 1)) / 2);
  // No pair like a single bit: no three bits cancel out, so two never look like one.
  expect([...ones].some((difference) => pairs.has(difference))).toBe(false);
  // The polynomial is divisible by x + 1: an odd number of bits never looks like an even one, so five never cancel out.
  const isOdd = (value: number): boolean => value.toString(2).replaceAll("0", "").length % 2 === 1;
  const parities = new Set(differences.map((difference, place) => (place < HEADER_BITS ? isOdd(difference) : true)));
  expect(parities).toEqual(new Set([true]));
});

test("knows the length of the data even when a bit of that length was changed", () => {
  const header = nopIn(1000);
  for (let place = 0; place < ALL_BITS; place += 1) {
    const { header: bytes, digest } = damaged(header, [place]);
    expect(assessDamage(bytes, digest)).toEqual({ opcode: 0x20, dataSegmentLength: 1000 });
  }
});

test("takes the length as claimed when more than one bit was changed", () => {
  const { header, digest } = damaged(nopIn(1000), [100, 101, 102]);
  expect(assessDamage(header, digest)).toEqual({ opcode: 0x20, dataSegmentLength: 1000 });
});

test("does not guess the end of a PDU that may have additional header segments", () => {
  const command = nopIn(1000);
  command.writeUInt8(0x01, 0);
  const several = damaged(command, [100, 101]);
  expect(assessDamage(several.header, several.digest)).toBeUndefined();
  const withAhs = nopIn(1000);
  withAhs.writeUInt8(2, 4);
  const one = damaged(withAhs, [100]);
  expect(assessDamage(one.header, one.digest)).toBeUndefined();
  const two = damaged(withAhs, [100, 101]);
  expect(assessDamage(two.header, two.digest)).toBeUndefined();
});
