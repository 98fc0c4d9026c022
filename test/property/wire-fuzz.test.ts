import fc from "fast-check";
import { SeededRandom } from "../../src/base/seeded-random.js";
import { decodePdu } from "../../src/wire/decode.js";
import { describePdu } from "../../src/wire/describe.js";
import { type DigestUse, encodePdu } from "../../src/wire/encode.js";
import { DigestError, ProtocolError } from "../../src/wire/errors.js";
import { Framer } from "../../src/wire/framer.js";
import type { Pdu } from "../../src/wire/pdu.js";
import { decodeTextKeys } from "../../src/wire/text-keys.js";
import { decodeBinaryValue, parseLargeNumber, parseNumericalRange } from "../../src/wire/binary-value.js";
import { anyPdu } from "./pdu-arbitraries.js";

/**
 * A million hostile inputs: whatever comes, the wire layer answers with a value or a typed error, and keeps nothing.
 * The seed is fixed, so a failure comes again, and an error names the case.
 */

const SEED = 0x1507_7143;
const DECODER_CASES = 600_000;
const FRAMER_CASES = 300_000;
const TEXT_CASES = 100_000;

/** More than noise of the collector, far less than what a leak per case would be. */
const MAX_HEAP_GROWTH_BYTES = 64 * 1024 * 1024;

const samples: readonly Pdu[] = fc.sample(anyPdu, { numRuns: 2000, seed: SEED });

// Most cases end in an error; nobody reads the stacks, which would be most of the work.
const { stackTraceLimit } = Error;
beforeAll(() => {
  Error.stackTraceLimit = 0;
});
afterAll(() => {
  Error.stackTraceLimit = stackTraceLimit;
});

class Dice {
  readonly #random = new SeededRandom(SEED);

  below(limit: number): number {
    return this.#random.uint32() % limit;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }

  fill(bytes: Buffer): Buffer {
    for (let at = 0; at < bytes.length; at += 1) bytes[at] = this.#random.uint32() & 0xff;
    return bytes;
  }

  /** Changes up to four bytes: to anything, to an end of the range, or by one bit. */
  mutate(bytes: Buffer): void {
    for (let count = 1 + this.below(4); count > 0 && bytes.length > 0; count -= 1) {
      // Half of the changes hit the basic header, where the rules are.
      const at = this.below(this.below(2) === 0 ? Math.min(48, bytes.length) : bytes.length);
      const kind = this.below(3);
      if (kind === 0) bytes[at] = this.below(256);
      else if (kind === 1) bytes[at] = this.pick([0x00, 0xff, 0x7f, 0x80]);
      else bytes[at] = bytes[at]! ^ (1 << this.below(8));
    }
  }
}

/** Runs `body` and lets only typed errors of the wire layer pass. True when it gave a value. */
function isAccepted(name: string, index: number, body: () => void): boolean {
  try {
    body();
    return true;
  } catch (error) {
    if (error instanceof ProtocolError || error instanceof DigestError) {
      if (typeof error.details["section"] !== "string") throw new Error(`${name} ${index}: no section`);
      return false;
    }
    throw new Error(`${name} case ${index} raised an untyped error`, { cause: error });
  }
}

function heapBytes(): number {
  globalThis.gc?.();
  const { heapUsed, external, arrayBuffers } = process.memoryUsage();
  return heapUsed + external + arrayBuffers;
}

test("the decoder answers any header with a PDU or a typed error", () => {
  const dice = new Dice();
  const before = heapBytes();
  const zeros = Buffer.alloc(2048);
  const header = Buffer.alloc(48);
  const ahsSpace = Buffer.alloc(1020);
  let accepted = 0;
  for (let index = 0; index < DECODER_CASES; index += 1) {
    let ahs: Buffer | undefined;
    if (index % 3 === 0) {
      dice.fill(header);
      // Small lengths most of the time, or nearly everything would end at the length check.
      header.writeUInt32BE(dice.pick([0, 0, 0, 48, 1, 2047]) + (dice.below(8) === 0 ? dice.below(6) << 24 : 0), 4);
      ahs = dice.fill(ahsSpace.subarray(0, header.readUInt8(4) * 4));
      if (ahs.length > 2) ahs.writeUInt16BE(dice.below(20), 0);
    } else {
      const whole = Buffer.concat(encodePdu(dice.pick(samples), { header: false, data: false }));
      const ahsEnd = 48 + whole.readUInt8(4) * 4;
      ahs = ahsEnd > 48 ? whole.subarray(48, ahsEnd) : undefined;
      dice.mutate(whole.subarray(0, ahsEnd));
      whole.copy(header, 0, 0, 48);
      // The framer guarantees that the parts are as long as the header says; one case in eight breaks that too.
      if (dice.below(8) !== 0) header.writeUInt8((ahs?.length ?? 0) / 4, 4);
    }
    const data = zeros.subarray(0, header.readUIntBE(5, 3));
    const body = (): void => void describePdu(decodePdu(header, ahs?.length === 0 ? undefined : ahs, data));
    if (isAccepted("decoder", index, body)) accepted += 1;
  }
  // Both outcomes are common, or the inputs would test nothing.
  expect(accepted).toBeGreaterThan(DECODER_CASES / 10);
  expect(accepted).toBeLessThan((DECODER_CASES * 9) / 10);
  expect(heapBytes() - before).toBeLessThan(MAX_HEAP_GROWTH_BYTES);
}, 60_000);

test("the framer answers any stream with PDUs or a typed error, and never allocates beyond its limit", () => {
  const dice = new Dice();
  const before = heapBytes();
  const maxDataSegmentLength = 2048;
  const allDigests: readonly DigestUse[] = [
    { header: false, data: false },
    { header: true, data: false },
    { header: false, data: true },
    { header: true, data: true },
  ];
  let delivered = 0;
  let badDigests = 0;
  let failures = 0;
  const framers = allDigests.map(
    (digests) =>
      new Framer(
        { maxDataSegmentLength, digests },
        {
          placeData: (_header, length) => {
            if (length > maxDataSegmentLength) throw new Error(`${length} bytes were to be placed`);
            return undefined;
          },
          onPdu: (raw) => {
            delivered += 1;
            if (!raw.isDataDigestGood) badDigests += 1;
            else decodePdu(raw.header, raw.ahs, raw.data);
          },
        },
      ),
  );
  for (let index = 0; index < FRAMER_CASES; index += 1) {
    const choice = index % framers.length;
    const framer = framers[choice]!;
    const stream =
      dice.below(4) === 0
        ? dice.fill(Buffer.alloc(48 + dice.below(60)))
        : Buffer.concat(encodePdu(dice.pick(samples), allDigests[choice]!));
    if (dice.below(3) !== 0) dice.mutate(stream);
    const isFine = isAccepted("framer", index, () => {
      for (let at = 0; at < stream.length;) {
        const length = 1 + dice.below(stream.length);
        framer.push(stream.subarray(at, at + length));
        at += length;
      }
    });
    if (isFine && dice.below(4) !== 0) continue;
    if (!isFine) failures += 1;
    framer.reset();
  }
  expect(delivered).toBeGreaterThan(FRAMER_CASES / 10);
  expect(failures).toBeGreaterThan(FRAMER_CASES / 10);
  expect(badDigests).toBeGreaterThan(0);
  expect(heapBytes() - before).toBeLessThan(MAX_HEAP_GROWTH_BYTES);
}, 60_000);

test("text and values of any bytes give pairs, values or a typed error", () => {
  const dice = new Dice();
  const before = heapBytes();
  const words = [
    "CHAP_R",
    "=",
    "0x",
    "0b",
    "MaxBurstLength",
    "\0",
    "\0",
    "~",
    "512",
    "AAAA",
    "==",
    "\u00e4",
    "12345678901",
  ];
  let accepted = 0;
  for (let index = 0; index < TEXT_CASES; index += 1) {
    let text = "";
    for (let count = dice.below(12); count > 0; count -= 1) text += dice.pick(words);
    const bytes = index % 4 === 0 ? dice.fill(Buffer.alloc(dice.below(40))) : Buffer.from(text);
    const hasPairs = isAccepted("text", index, () => void decodeTextKeys(bytes));
    const value = bytes.toString("latin1");
    isAccepted("binary value", index, () => void decodeBinaryValue(value, { maxBytes: 16 }));
    isAccepted("number", index, () => void parseLargeNumber(value));
    isAccepted("range", index, () => void parseNumericalRange(value, 0, 0xffff));
    if (hasPairs) accepted += 1;
  }
  expect(accepted).toBeGreaterThan(TEXT_CASES / 50);
  expect(heapBytes() - before).toBeLessThan(MAX_HEAP_GROWTH_BYTES);
}, 60_000);
