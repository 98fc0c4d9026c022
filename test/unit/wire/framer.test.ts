import { encodePdu, type DigestUse, NO_DIGESTS } from "../../../src/wire/encode.js";
import { DigestError, ProtocolError } from "../../../src/wire/errors.js";
import { Framer, type FramerHandler, type RawPdu } from "../../../src/wire/framer.js";
import type { NopInPdu, ScsiCommandPdu } from "../../../src/wire/pdu.js";

const both = { header: true, data: true };

function nopIn(tag: number, data = ""): NopInPdu {
  return {
    ...{ type: "nop-in", lun: { high: 0, low: 0 }, initiatorTaskTag: tag, targetTransferTag: 0xffff_ffff },
    ...{ statSn: 1, expCmdSn: 2, maxCmdSn: 3, data: Buffer.from(data) },
  };
}

function bytesOf(pdu: NopInPdu, digests: DigestUse): Buffer {
  return Buffer.concat(encodePdu(pdu, digests));
}

interface Seen {
  readonly tag: number;
  readonly data: string;
  readonly isGood: boolean;
}

function createFramer(digests: DigestUse, overrides: Partial<FramerHandler> = {}): { framer: Framer; seen: Seen[] } {
  const seen: Seen[] = [];
  const framer = new Framer(
    { maxDataSegmentLength: 64, digests },
    {
      placeData: () => undefined,
      onPdu: (raw) =>
        seen.push({
          tag: raw.header.readUInt32BE(16),
          data: raw.data.toString("latin1"),
          isGood: raw.isDataDigestGood,
        }),
      ...overrides,
    },
  );
  return { framer, seen };
}

function unwanted(): never {
  throw new Error("no place was to be asked for");
}

function errorOf(body: () => void): unknown {
  try {
    body();
  } catch (error) {
    return error;
  }
  return undefined;
}

test("puts data where the handler wants it, and only there", () => {
  const place = Buffer.alloc(10, 0xee);
  const raws: RawPdu[] = [];
  const { framer } = createFramer(both, {
    placeData: (header, length) => {
      expect(header.readUInt32BE(16)).toBe(7);
      expect(length).toBe(5);
      return place;
    },
    onPdu: (raw) => raws.push(raw),
  });
  framer.push(bytesOf(nopIn(7, "hello"), both));
  expect(place.toString("latin1")).toBe("hello\xee\xee\xee\xee\xee");
  expect(raws[0]?.data.buffer).toBe(place.buffer);
  expect(raws[0]?.data).toHaveLength(5);
});

test("keeps nothing of the chunk it was given", () => {
  const { framer, seen } = createFramer(both);
  const stream = bytesOf(nopIn(7, "hello"), both);
  const scratch = Buffer.alloc(3);
  for (let at = 0; at < stream.length; at += 3) {
    const count = stream.copy(scratch, 0, at, at + 3);
    framer.push(scratch.subarray(0, count));
    scratch.fill(0xff);
  }
  expect(seen).toEqual([{ tag: 7, data: "hello", isGood: true }]);
});

test("does not ask for a place when there is no data", () => {
  const { framer, seen } = createFramer(NO_DIGESTS, { placeData: () => unwanted() });
  framer.push(bytesOf(nopIn(7), NO_DIGESTS));
  expect(seen).toEqual([{ tag: 7, data: "", isGood: true }]);
});

test("reports a bad data digest with its PDU and goes on", () => {
  const { framer, seen } = createFramer(both);
  const first = bytesOf(nopIn(1, "hello"), both);
  first.writeUInt8(first.readUInt8(53) ^ 1, 53);
  framer.push(Buffer.concat([first, bytesOf(nopIn(2, "world"), both)]));
  expect(seen.map(({ tag, isGood }) => [tag, isGood])).toEqual([
    [1, false],
    [2, true],
  ]);
});

test("covers the padding with the data digest, whatever bytes it has (§11.2.3)", () => {
  const { framer, seen } = createFramer(both);
  const stream = bytesOf(nopIn(1, "hello"), both);
  stream.writeUInt8(1, 52 + 5);
  framer.push(stream);
  expect(seen[0]?.isGood).toBe(false);
});

test("ignores what the padding holds without a digest", () => {
  const { framer, seen } = createFramer(NO_DIGESTS);
  const stream = bytesOf(nopIn(1, "hello"), NO_DIGESTS);
  stream.fill(0xff, 48 + 5);
  framer.push(stream);
  expect(seen).toEqual([{ tag: 1, data: "hello", isGood: true }]);
});

test("dies of a bad header digest before it trusts a length (§7.8)", () => {
  const { framer, seen } = createFramer(both, { placeData: () => unwanted() });
  const stream = bytesOf(nopIn(1, "hello"), both);
  stream.writeUInt8(0x7f, 6);
  const error = errorOf(() => framer.push(stream));
  expect(error).toBeInstanceOf(DigestError);
  expect(error).toMatchObject({ code: "HEADER_DIGEST_MISMATCH", retry: "same-path" });
  expect(seen).toEqual([]);
  expect(errorOf(() => framer.push(Buffer.alloc(1)))).toMatchObject({ code: "FRAMER_DEAD" });
});

test("covers the AHS with the header digest", () => {
  const command: ScsiCommandPdu = {
    ...{ type: "scsi-command", isImmediate: false, isFinal: true, isRead: false, isWrite: false, taskAttribute: 1 },
    ...{ lun: { high: 0, low: 0 }, initiatorTaskTag: 9, expectedDataTransferLength: 0, cmdSn: 1, expStatSn: 1 },
    ...{ cdb: Buffer.alloc(32, 0x7f), data: Buffer.alloc(0) },
  };
  const stream = Buffer.concat(encodePdu(command, both));
  const { framer, seen } = createFramer(both);
  framer.push(stream);
  expect(seen).toHaveLength(1);
  stream.writeUInt8(0, 60);
  expect(errorOf(() => framer.push(stream))).toBeInstanceOf(DigestError);
});

test("refuses a data segment over the limit before allocating or asking", () => {
  const { framer } = createFramer(NO_DIGESTS, { placeData: () => unwanted() });
  const header = bytesOf(nopIn(1), NO_DIGESTS);
  header.writeUInt32BE(0x00ff_ffff, 4);
  const error = errorOf(() => framer.push(header));
  expect(error).toBeInstanceOf(ProtocolError);
  expect(error).toMatchObject({ code: "DATA_SEGMENT_TOO_LONG", details: { section: "RFC 7143 §13.12", opcode: 0x20 } });
});

test("accepts exactly the limit, and a new limit from the next PDU", () => {
  const { framer, seen } = createFramer(NO_DIGESTS);
  framer.push(bytesOf(nopIn(1, "x".repeat(64)), NO_DIGESTS));
  framer.setMaxDataSegmentLength(65);
  framer.push(bytesOf(nopIn(2, "x".repeat(65)), NO_DIGESTS));
  expect(seen.map(({ tag }) => tag)).toEqual([1, 2]);
  framer.setMaxDataSegmentLength(64);
  expect(errorOf(() => framer.push(bytesOf(nopIn(3, "x".repeat(65)), NO_DIGESTS)))).toBeInstanceOf(ProtocolError);
});

test("refuses an AHS where none may be", () => {
  const { framer } = createFramer(NO_DIGESTS);
  const header = bytesOf(nopIn(1), NO_DIGESTS);
  header.writeUInt8(1, 4);
  expect(errorOf(() => framer.push(Buffer.concat([header, Buffer.alloc(4)])))).toMatchObject({
    code: "PDU_FIELD_INVALID",
    details: { section: "RFC 7143 §11.2.1.5" },
  });
});

test("uses new digests from the next PDU in the same chunk: the end of a login", () => {
  const { framer, seen } = createFramer(NO_DIGESTS, {
    onPdu: (raw) => {
      seen.push({ tag: raw.header.readUInt32BE(16), data: "", isGood: raw.isDataDigestGood });
      framer.setDigests(both);
    },
  });
  framer.push(Buffer.concat([bytesOf(nopIn(1, "ab"), NO_DIGESTS), bytesOf(nopIn(2, "cd"), both)]));
  expect(seen.map(({ tag, isGood }) => [tag, isGood])).toEqual([
    [1, true],
    [2, true],
  ]);
  expect(framer.isAtBoundary).toBe(true);
});

test("keeps the digests of a PDU that has begun", () => {
  const { framer, seen } = createFramer(NO_DIGESTS);
  const stream = bytesOf(nopIn(1, "hello"), NO_DIGESTS);
  framer.push(stream.subarray(0, 50));
  framer.setDigests(both);
  framer.push(stream.subarray(50));
  framer.push(bytesOf(nopIn(2, "x"), both));
  expect(seen.map(({ tag }) => tag)).toEqual([1, 2]);
});

test("keeps the digests of a PDU whose data is being placed", () => {
  const { framer, seen } = createFramer(NO_DIGESTS, {
    placeData: () => {
      framer.setDigests(both);
      return undefined;
    },
  });
  framer.push(bytesOf(nopIn(1, "hello"), NO_DIGESTS));
  expect(seen).toEqual([{ tag: 1, data: "hello", isGood: true }]);
  expect(framer.isAtBoundary).toBe(true);
});

test("passes on what the handler throws and is dead, until it is reset", () => {
  const failure = new Error("no such task");
  let isFailing = true;
  const { framer, seen } = createFramer(NO_DIGESTS, {
    placeData: () => {
      if (isFailing) throw failure;
      return undefined;
    },
  });
  expect(errorOf(() => framer.push(bytesOf(nopIn(1, "ab"), NO_DIGESTS)))).toBe(failure);
  expect(errorOf(() => framer.push(bytesOf(nopIn(2), NO_DIGESTS)))).toMatchObject({ code: "FRAMER_DEAD" });
  isFailing = false;
  framer.reset();
  framer.push(bytesOf(nopIn(3, "ab"), NO_DIGESTS));
  expect(seen.map(({ tag }) => tag)).toEqual([3]);
});

test("refuses a place that is too small", () => {
  const { framer } = createFramer(NO_DIGESTS, { placeData: () => Buffer.alloc(4) });
  expect(errorOf(() => framer.push(bytesOf(nopIn(1, "hello"), NO_DIGESTS)))).toMatchObject({
    code: "DATA_PLACE_TOO_SHORT",
  });
});

test("drops the rest of the chunk when a callback resets it", () => {
  const { framer, seen } = createFramer(NO_DIGESTS, {
    onPdu: (raw) => {
      seen.push({ tag: raw.header.readUInt32BE(16), data: "", isGood: true });
      framer.reset();
    },
  });
  framer.push(Buffer.concat([bytesOf(nopIn(1), NO_DIGESTS), bytesOf(nopIn(2), NO_DIGESTS)]));
  framer.push(bytesOf(nopIn(3), NO_DIGESTS));
  expect(seen.map(({ tag }) => tag)).toEqual([1, 3]);
});

test("tells whether the stream may end here", () => {
  const { framer } = createFramer(NO_DIGESTS);
  expect(framer.isAtBoundary).toBe(true);
  const stream = bytesOf(nopIn(1, "hello"), NO_DIGESTS);
  framer.push(stream.subarray(0, 1));
  expect(framer.isAtBoundary).toBe(false);
  framer.push(stream.subarray(1, 55));
  expect(framer.isAtBoundary).toBe(false);
  framer.push(stream.subarray(55));
  expect(framer.isAtBoundary).toBe(true);
});
