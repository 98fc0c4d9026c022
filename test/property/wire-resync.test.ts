import fc from "fast-check";
import { type DigestUse, encodePdu } from "../../src/wire/encode.js";
import { DigestError } from "../../src/wire/errors.js";
import { Framer } from "../../src/wire/framer.js";
import type { NopInPdu, Pdu } from "../../src/wire/pdu.js";
import { anyPdu } from "./pdu-arbitraries.js";

/**
 * RFC 7143 §7.8 with `resynchronise`: one bit of a stream is changed, anywhere. No PDU that was not sent is ever taken
 * for one, and when the damaged PDU's end can be known the loss is that PDU alone.
 */

const MAX_DATA_SEGMENT_LENGTH = 65_536;

/** A PDU whose data is a row of whole, good PDUs: what a hostile user of the disk would write. */
const bait: fc.Arbitrary<Pdu> = fc.tuple(fc.nat(0xffff), fc.integer({ min: 1, max: 30 })).map(([tag, count]) => {
  const lure: NopInPdu = {
    ...{ type: "nop-in", lun: { high: 0, low: 0 }, initiatorTaskTag: 666, targetTransferTag: 0xffff_ffff },
    ...{ statSn: 1, expCmdSn: 2, maxCmdSn: 3, data: Buffer.alloc(0) },
  };
  const image = Buffer.concat(encodePdu(lure, { header: true, data: true }));
  return { ...lure, initiatorTaskTag: tag, data: Buffer.concat(Array.from({ length: count }, () => image)) };
});

interface Outcome {
  readonly good: readonly string[];
  readonly badData: number;
  readonly dropped: number;
  readonly hasFailed: boolean;
}

function identity(header: Buffer, ahs: Buffer | undefined, data: Buffer): string {
  return Buffer.concat([header, ahs ?? Buffer.alloc(0), data]).toString("latin1");
}

function receive(pieces: readonly Buffer[], digests: DigestUse): Outcome {
  const good: string[] = [];
  let badData = 0;
  let dropped = 0;
  const framer = new Framer(
    { maxDataSegmentLength: MAX_DATA_SEGMENT_LENGTH, digests, resynchronise: true },
    {
      placeData: () => undefined,
      onPdu: (raw) => {
        if (raw.isDataDigestGood) good.push(identity(raw.header, raw.ahs, raw.data));
        else badData += 1;
      },
      onHeaderDigestError: () => (dropped += 1),
    },
  );
  try {
    for (const piece of pieces) framer.push(piece);
  } catch (error) {
    expect(error).toBeInstanceOf(DigestError);
    return { good, badData, dropped, hasFailed: true };
  }
  return { good, badData, dropped, hasFailed: false };
}

interface Scenario {
  readonly pdus: readonly Pdu[];
  readonly which: number;
  readonly place: number;
  readonly hasDataDigest: boolean;
  readonly pieceBytes: number;
}

const scenario: fc.Arbitrary<Scenario> = fc.record({
  pdus: fc.array(fc.oneof({ weight: 3, arbitrary: anyPdu }, { weight: 1, arbitrary: bait }), {
    minLength: 2,
    maxLength: 6,
  }),
  which: fc.nat(),
  // Half of the flips hit the header, and half of those its length word.
  place: fc.oneof(
    fc.nat(48 * 8 - 1),
    fc.integer({ min: 32, max: 63 }),
    fc.nat().map((at) => at + 32),
  ),
  hasDataDigest: fc.boolean(),
  pieceBytes: fc.integer({ min: 1, max: 5000 }),
});

/** Runs one scenario; says where the bit was and what came of it. */
function run({ pdus, which, place, hasDataDigest, pieceBytes }: Scenario): string {
  const digests = { header: true, data: hasDataDigest };
  const encoded = pdus.map((pdu) => Buffer.concat(encodePdu(pdu, digests)));
  const victimIndex = which % (encoded.length - 1);
  const clean = encoded.map((bytes) => receive([bytes], digests).good[0] ?? "");
  const victim = Buffer.from(encoded[victimIndex] ?? Buffer.alloc(0));
  const ahsBytes = victim.readUInt8(4) * 4;
  const headerBytes = 48 + ahsBytes + 4;
  const bit = place % ((hasDataDigest ? victim.length : headerBytes) * 8);
  const at = bit >>> 3;
  victim.writeUInt8(victim.readUInt8(at) ^ (0x80 >>> (bit & 7)), at);
  const stream = Buffer.concat(encoded.map((bytes, index) => (index === victimIndex ? victim : bytes)));
  const pieces: Buffer[] = [];
  for (let from = 0; from < stream.length; from += pieceBytes) pieces.push(stream.subarray(from, from + pieceBytes));
  const outcome = receive(pieces, digests);

  const others = clean.filter((_, index) => index !== victimIndex);
  if (at >= headerBytes) {
    expect(outcome).toEqual({ good: others, badData: 1, dropped: 0, hasFailed: false });
    return "data";
  }
  // The AHS length of a command, or any bit of a header with AHS: the digest is not where it is looked for.
  const isCommand = pdus[victimIndex]?.type === "scsi-command";
  if (ahsBytes > 0 || (isCommand && at === 4)) {
    expect(outcome.good).toEqual(others.slice(0, victimIndex));
    expect(outcome.badData + outcome.dropped).toBe(0);
    return "given up";
  }
  expect(outcome).toEqual({ good: others, badData: 0, dropped: 1, hasFailed: false });
  return at === 4 || at === 5 || at === 6 || at === 7 ? "length recovered" : "recovered";
}

test("one changed bit never makes a PDU that was not sent, and costs no other PDU where the end can be known", () => {
  const kinds = new Map<string, number>();
  fc.assert(
    fc.property(scenario, (value) => {
      const kind = run(value);
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    }),
    { numRuns: 2000 },
  );
  for (const kind of ["data", "given up", "length recovered", "recovered"]) {
    expect([kind, (kinds.get(kind) ?? 0) > 20]).toEqual([kind, true]);
  }
});

test("any number of changed bits in one header never makes a PDU that was not sent", () => {
  const header = fc.array(fc.nat(52 * 8 - 1), { minLength: 2, maxLength: 40 });
  const digests = { header: true, data: true };
  fc.assert(
    fc.property(fc.array(anyPdu, { minLength: 2, maxLength: 5 }), fc.nat(), header, (pdus, which, bits) => {
      const encoded = pdus.map((pdu) => Buffer.concat(encodePdu(pdu, digests)));
      const clean = encoded.map((bytes) => receive([bytes], digests).good[0] ?? "");
      const victimIndex = which % encoded.length;
      const victim = Buffer.from(encoded[victimIndex] ?? Buffer.alloc(0));
      for (const bit of new Set(bits)) {
        victim.writeUInt8(victim.readUInt8(bit >>> 3) ^ (0x80 >>> (bit & 7)), bit >>> 3);
      }
      const stream = Buffer.concat(encoded.map((bytes, index) => (index === victimIndex ? victim : bytes)));
      const { good } = receive([stream], digests);
      // A length that was changed may end with another PDU: what is lost then is a whole number of them (§7.8).
      const before = clean.slice(0, victimIndex);
      const after = clean.slice(victimIndex + 1);
      expect(after.map((_, lost) => [...before, ...after.slice(lost)]).concat([before])).toContainEqual(good);
    }),
    { numRuns: 2000 },
  );
});
