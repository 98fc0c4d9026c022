import fc from "fast-check";
import { decodePdu } from "../../src/wire/decode.js";
import { type DigestUse, encodePdu, PduWriter } from "../../src/wire/encode.js";
import { Framer, type RawPdu } from "../../src/wire/framer.js";
import type { Pdu } from "../../src/wire/pdu.js";
import { anyDigests, anyPdu, pduArbitraries } from "./pdu-arbitraries.js";

/** Everything a stream holds, fed in the given pieces through one scratch buffer, as a socket would. */
function receive(pieces: readonly Buffer[], digests: DigestUse): Pdu[] {
  const pdus: Pdu[] = [];
  const framer = new Framer(
    { maxDataSegmentLength: 65_536, digests },
    {
      placeData: (_header, length) => (length % 2 === 0 ? Buffer.alloc(length + 3, 0xee) : undefined),
      onPdu: (raw: RawPdu) => {
        expect(raw.isDataDigestGood).toBe(true);
        pdus.push(decodePdu(raw.header, raw.ahs, raw.data));
      },
    },
  );
  const scratch = Buffer.alloc(Math.max(1, ...pieces.map((piece) => piece.length)));
  for (const piece of pieces) {
    piece.copy(scratch);
    framer.push(scratch.subarray(0, piece.length));
    scratch.fill(0xdd);
  }
  expect(framer.isAtBoundary).toBe(true);
  return pdus;
}

function cut(stream: Buffer, lengths: readonly number[]): Buffer[] {
  const pieces: Buffer[] = [];
  let at = 0;
  for (let index = 0; at < stream.length; index += 1) {
    const length = lengths[index % lengths.length] ?? 1;
    pieces.push(stream.subarray(at, at + length));
    at += length;
  }
  return pieces;
}

test.each(Object.entries<fc.Arbitrary<Pdu>>(pduArbitraries))("%s comes back as it was sent", (_type, arbitrary) => {
  fc.assert(
    fc.property(arbitrary, anyDigests, (pdu, digests) => {
      const stream = Buffer.concat(encodePdu(pdu, digests));
      expect(receive([stream], digests)).toEqual([pdu]);
    }),
    { numRuns: 150 },
  );
});

test("a stream means the same in every chunking", () => {
  const lengths = fc.array(fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 400 })), {
    minLength: 1,
    maxLength: 20,
  });
  fc.assert(
    fc.property(fc.array(anyPdu, { minLength: 1, maxLength: 8 }), anyDigests, lengths, (pdus, digests, sizes) => {
      const writer = new PduWriter(digests);
      for (const pdu of pdus) writer.append(pdu);
      const stream = Buffer.concat(writer.take());
      expect(receive(cut(stream, sizes), digests)).toEqual(pdus);
    }),
    { numRuns: 300 },
  );
});

test("a stream means the same when it is split at every single byte", () => {
  fc.assert(
    fc.property(fc.tuple(anyPdu, anyPdu), anyDigests, (pdus, digests) => {
      const stream = Buffer.concat(pdus.flatMap((pdu) => encodePdu(pdu, digests)));
      for (let at = 1; at < stream.length; at += 1) {
        expect(receive([stream.subarray(0, at), stream.subarray(at)], digests)).toEqual(pdus);
      }
    }),
    { numRuns: 8 },
  );
});

test("the writer gives the bytes of the plain encoder, whatever it copies and whenever it is emptied", () => {
  const options = fc.record({ slabBytes: fc.constantFrom(0, 100, 1000, 65_536), smallDataBytes: fc.nat(1200) });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(anyPdu, fc.boolean()), { minLength: 1, maxLength: 12 }),
      anyDigests,
      options,
      (steps, digests, writerOptions) => {
        const writer = new PduWriter(digests, writerOptions);
        const taken: Buffer[] = [];
        let pendingBytes = 0;
        for (const [pdu, isTaken] of steps) {
          writer.append(pdu);
          pendingBytes += Buffer.concat(encodePdu(pdu, digests)).length;
          expect(writer.pendingBytes).toBe(pendingBytes);
          if (!isTaken) continue;
          taken.push(...writer.take());
          pendingBytes = 0;
        }
        taken.push(...writer.take());
        const plain = Buffer.concat(steps.flatMap(([pdu]) => encodePdu(pdu, digests)));
        expect(Buffer.concat(taken).equals(plain)).toBe(true);
      },
    ),
    { numRuns: 300 },
  );
});

test("with both digests on, every change of a single bit is noticed", () => {
  const digests = { header: true, data: true };
  fc.assert(
    fc.property(anyPdu, fc.nat(), fc.integer({ min: 0, max: 7 }), (pdu, place, bit) => {
      const stream = Buffer.concat(encodePdu(pdu, digests));
      const at = place % stream.length;
      stream[at] = (stream[at] ?? 0) ^ (1 << bit);
      let isNoticed = true;
      const framer = new Framer(
        { maxDataSegmentLength: 65_536, digests },
        { placeData: () => undefined, onPdu: (raw) => (isNoticed = !raw.isDataDigestGood) },
      );
      try {
        // A longer TotalAHSLength makes the framer wait for more: give it, so that it reaches the digest.
        framer.push(Buffer.concat([stream, Buffer.alloc(1100, 0x55)]));
      } catch {
        // A header digest that does not match, here or in the filling.
      }
      expect(isNoticed).toBe(true);
    }),
    { numRuns: 1000 },
  );
});
