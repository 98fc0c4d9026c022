import { crc32c } from "../../../src/wire/crc32c.js";
import { type DigestUse, encodePdu } from "../../../src/wire/encode.js";
import { DigestError } from "../../../src/wire/errors.js";
import { type DroppedPdu, Framer, type FramerHandler } from "../../../src/wire/framer.js";
import type { NopInPdu, ScsiCommandPdu } from "../../../src/wire/pdu.js";

const both: DigestUse = { header: true, data: true };

function nopIn(tag: number, data = "", digests = both): Buffer {
  const pdu: NopInPdu = {
    ...{ type: "nop-in", lun: { high: 0, low: 0 }, initiatorTaskTag: tag, targetTransferTag: 0xffff_ffff },
    ...{ statSn: 1, expCmdSn: 2, maxCmdSn: 3, data: Buffer.from(data) },
  };
  return Buffer.concat(encodePdu(pdu, digests));
}

function longCommand(tag: number): Buffer {
  const command: ScsiCommandPdu = {
    ...{ type: "scsi-command", isImmediate: false, isFinal: true, isRead: false, isWrite: false, taskAttribute: 1 },
    ...{ lun: { high: 0, low: 0 }, initiatorTaskTag: tag, expectedDataTransferLength: 0, cmdSn: 1, expStatSn: 1 },
    ...{ cdb: Buffer.alloc(32, 0x7f), data: Buffer.alloc(0) },
  };
  return Buffer.concat(encodePdu(command, both));
}

/** `bytes` with the bits of `mask` in the byte at `offset` changed. */
function changed(bytes: Buffer, offset: number, mask = 1): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt8(copy.readUInt8(offset) ^ mask, offset);
  return copy;
}

interface Fixture {
  readonly framer: Framer;
  readonly tags: number[];
  readonly dropped: DroppedPdu[];
}

function createFramer(overrides: Partial<FramerHandler> = {}, digests = both): Fixture {
  const tags: number[] = [];
  const dropped: DroppedPdu[] = [];
  const framer = new Framer(
    { maxDataSegmentLength: 64, digests, resynchronise: true },
    {
      placeData: () => undefined,
      onPdu: (raw) => tags.push(raw.isDataDigestGood ? raw.header.readUInt32BE(16) : -1),
      onHeaderDigestError: (pdu) => dropped.push(pdu),
      ...overrides,
    },
  );
  return { framer, tags, dropped };
}

test("drops a PDU with a damaged header and goes on with the next, in any chunking (§7.8)", () => {
  const damaged = changed(nopIn(2, "hello"), 20, 0xff);
  const stream = Buffer.concat([nopIn(1, "abc"), damaged, nopIn(3, "de")]);
  for (let size = 1; size <= stream.length; size += 1) {
    const { framer, tags, dropped } = createFramer();
    for (let at = 0; at < stream.length; at += size) framer.push(stream.subarray(at, at + size));
    expect(tags).toEqual([1, 3]);
    expect(dropped).toEqual([{ opcode: 0x20, skippedBytes: damaged.length }]);
    expect(framer.isAtBoundary).toBe(true);
  }
});

test("is told of the dropped PDU before the next one is placed or delivered, and not before that one is good", () => {
  const order: string[] = [];
  const { framer } = createFramer({
    placeData: () => {
      order.push("place");
      return undefined;
    },
    onPdu: (raw) => order.push(`pdu ${raw.header.readUInt32BE(16)}`),
    onHeaderDigestError: () => order.push("dropped"),
  });
  const next = nopIn(3, "de");
  framer.push(changed(nopIn(2, "hello"), 20));
  framer.push(next.subarray(0, 51));
  expect(order).toEqual([]);
  expect(framer.isResynchronising).toBe(true);
  expect(framer.isAtBoundary).toBe(false);
  framer.push(next.subarray(51));
  expect(order).toEqual(["dropped", "place", "pdu 3"]);
  expect(framer.isResynchronising).toBe(false);
});

test("finds the next PDU behind a damaged length, when one bit of it was changed", () => {
  for (const offset of [4, 6, 7]) {
    const { framer, tags, dropped } = createFramer();
    framer.push(Buffer.concat([changed(nopIn(2, "hello"), offset, 0x10), nopIn(3, "de")]));
    expect(tags).toEqual([3]);
    expect(dropped).toHaveLength(1);
  }
});

test("believes a claimed length only when a good header stands behind it", () => {
  const { framer, tags, dropped } = createFramer();
  const damaged = changed(nopIn(2, "hello"), 7, 0x0b);
  const stream = Buffer.concat([damaged, nopIn(3, "de"), nopIn(4, "f"), nopIn(5)]);
  expect(() => framer.push(stream)).toThrow(DigestError);
  expect(tags).toEqual([]);
  expect(dropped).toEqual([]);
  expect(() => framer.push(nopIn(6))).toThrow(expect.objectContaining({ code: "FRAMER_DEAD" }));
});

test("does not take a PDU inside the data for the next one, whatever one bit of the length says", () => {
  // 64 bytes of data that hold a whole good PDU where a length of 8 would put the next one.
  const forged = nopIn(666).subarray(0, 52);
  const data = Buffer.concat([Buffer.alloc(12), forged]);
  const carrier = Buffer.concat([
    ...encodePdu(
      {
        ...{ type: "nop-in", lun: { high: 0, low: 0 }, initiatorTaskTag: 2, targetTransferTag: 0xffff_ffff },
        ...{ statSn: 1, expCmdSn: 2, maxCmdSn: 3, data },
      },
      both,
    ),
  ]);
  const { framer, tags } = createFramer();
  const shortened = Buffer.from(carrier);
  expect(shortened.readUInt8(7)).toBe(0x40);
  shortened.writeUInt8(0x00, 7);
  framer.push(Buffer.concat([shortened, nopIn(3)]));
  expect(tags).toEqual([3]);
});

test("gives up on a length over the limit, on damage right behind damage, and on additional header segments", () => {
  const overLimit = changed(changed(nopIn(1), 5, 0x03), 20);
  const twice = Buffer.concat([changed(nopIn(1), 20), changed(nopIn(2), 20)]);
  for (const stream of [overLimit, twice, changed(longCommand(1), 20), changed(longCommand(1), 60)]) {
    const { framer, tags, dropped } = createFramer();
    expect(() => framer.push(Buffer.concat([stream, nopIn(3)]))).toThrow(
      expect.objectContaining({ code: "HEADER_DIGEST_MISMATCH" }),
    );
    expect(tags).toEqual([]);
    expect(dropped).toEqual([]);
  }
});

test("a PDU with additional header segments can be the one that proves the place", () => {
  const { framer, tags, dropped } = createFramer();
  framer.push(Buffer.concat([changed(nopIn(1, "x"), 30), longCommand(7)]));
  expect(tags).toEqual([7]);
  expect(dropped).toHaveLength(1);
});

test("skips no data digest where none is in use", () => {
  const headerOnly = { header: true, data: false };
  const { framer, tags, dropped } = createFramer({}, headerOnly);
  framer.push(Buffer.concat([changed(nopIn(1, "hello", headerOnly), 9), nopIn(2, "ab", headerOnly)]));
  expect(tags).toEqual([2]);
  expect(dropped).toEqual([{ opcode: 0x20, skippedBytes: 52 + 8 }]);
});

test("holds on to the header digest while it needs one, whatever is switched meanwhile", () => {
  const { framer, tags } = createFramer();
  framer.push(changed(nopIn(1), 9));
  framer.setDigests({ header: false, data: false });
  expect(() => framer.push(nopIn(2, "", { header: false, data: false }).fill(0xff, 44))).not.toThrow();
  expect(tags).toEqual([]);
  expect(() => framer.push(Buffer.alloc(4))).toThrow(DigestError);
});

test("can be switched on when the login has ended, and off again", () => {
  const { framer, tags } = createFramer();
  framer.setResynchronise(false);
  expect(() => framer.push(changed(nopIn(1), 9))).toThrow(DigestError);
  framer.reset();
  framer.setResynchronise(true);
  framer.push(Buffer.concat([changed(nopIn(2), 9), nopIn(3)]));
  expect(tags).toEqual([3]);
});

test("a reset ends the search, even one made by the receiver when it is told of the loss", () => {
  const { framer, tags } = createFramer();
  framer.push(changed(nopIn(1, "hello"), 9).subarray(0, 53));
  expect(framer.isResynchronising).toBe(true);
  framer.reset();
  expect(framer.isResynchronising).toBe(false);
  framer.push(nopIn(2));
  expect(tags).toEqual([2]);

  const second = createFramer({ onHeaderDigestError: () => second.framer.reset() });
  second.framer.push(Buffer.concat([changed(nopIn(1), 9), nopIn(2), nopIn(3)]));
  expect(second.tags).toEqual([]);
  second.framer.push(nopIn(4));
  expect(second.tags).toEqual([4]);
});

test("passes on what the receiver throws when it is told of the loss", () => {
  const failure = new Error("no recovery wanted");
  const { framer } = createFramer({
    onHeaderDigestError: () => {
      throw failure;
    },
  });
  expect(() => framer.push(Buffer.concat([changed(nopIn(1), 9), nopIn(2)]))).toThrow(failure);
  expect(() => framer.push(nopIn(3))).toThrow(expect.objectContaining({ code: "FRAMER_DEAD" }));
});

test("finds an AHS length of a PDU that has none by the digest, before it waits for the segment", () => {
  const { framer } = createFramer();
  framer.setResynchronise(false);
  const damaged = changed(nopIn(1), 4, 0x80);
  expect(() => framer.push(damaged)).toThrow(expect.objectContaining({ code: "HEADER_DIGEST_MISMATCH" }));
});

test("still names an AHS where none may be when the digest is right", () => {
  const { framer } = createFramer();
  const bytes = changed(nopIn(1), 4);
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, 48)), 48);
  expect(() => framer.push(bytes)).toThrow(expect.objectContaining({ code: "PDU_FIELD_INVALID" }));
});
