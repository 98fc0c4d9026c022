import { BlockError } from "../../../src/block/errors.js";
import { BufferPool, HEADROOM_BYTES } from "../../../src/nbd/buffer-pool.js";
import { errnoOf } from "../../../src/nbd/errors.js";
import { parseInfoOption, parseMetaContextOption } from "../../../src/nbd/option-payload.js";
import * as reply from "../../../src/nbd/reply.js";
import { decodeRequest, emptyRequest, encodeRequest } from "../../../src/nbd/request.js";

const cookie = { cookieHigh: 0x01020304, cookieLow: 0xfffefdfc };
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");

describe("NBD requests", () => {
  // Written by hand from the protocol's layout: magic, flags, type, cookie, offset, length.
  const bytes = hex("25609513 0001 0001 01020304fffefdfc 0000000123456000 00001000");

  it("are decoded from the published layout", () => {
    const request = emptyRequest();
    expect(decodeRequest(Buffer.concat([hex("ff"), bytes]), 1, request)).toBe(true);
    expect(request).toEqual({ flags: 1, type: 1, ...cookie, offsetBytes: 0x123456000, lengthBytes: 4096 });
  });

  it("are encoded to the same bytes", () => {
    expect(encodeRequest({ flags: 1, type: 1, ...cookie, offsetBytes: 0x123456000, lengthBytes: 4096 })).toEqual(bytes);
  });

  it("with another magic are not requests", () => {
    expect(decodeRequest(hex(`25609514${"00".repeat(24)}`), 0, emptyRequest())).toBe(false);
  });
});

describe("NBD replies", () => {
  it("simple: magic, error, cookie", () => {
    expect(reply.encodeSimpleReply(cookie, 28)).toEqual(hex("67446698 0000001c 01020304fffefdfc"));
  });

  it("structured read: one chunk, with its offset", () => {
    const bytes = Buffer.alloc(30);
    reply.writeStructuredRead(bytes, 2, cookie, { offsetBytes: 0x2_0000_0200, lengthBytes: 512 });
    expect(bytes).toEqual(hex("0000 668e33ef 0001 0001 01020304fffefdfc 00000208 0000000200000200"));
  });

  it("structured error: errno and a message", () => {
    expect(reply.encodeErrorChunk(cookie, 5, "bad")).toEqual(
      hex("668e33ef 0001 8001 01020304fffefdfc 00000009 00000005 0003 626164"),
    );
  });

  it("block status: the context, then lengths with hole and zero bits", () => {
    const extents = [
      { offsetBytes: 0, lengthBytes: 4096, isAllocated: true, readsZeroes: false },
      { offsetBytes: 4096, lengthBytes: 8192, isAllocated: false, readsZeroes: true },
    ];
    expect(reply.encodeBlockStatus(cookie, extents)).toEqual(
      hex("668e33ef 0001 0005 01020304fffefdfc 00000014 00000001 00001000 00000000 00002000 00000003"),
    );
  });

  it("empty read: a chunk without content", () => {
    expect(reply.encodeEmptyChunk(cookie)).toEqual(hex("668e33ef 0001 0000 01020304fffefdfc 00000000"));
  });
});

describe("NBD errno values", () => {
  it.each([
    ["BLOCK_NO_SPACE", 28],
    ["BLOCK_READ_ONLY", 1],
    ["BLOCK_INVALID_RANGE", 22],
    ["BLOCK_NOT_SUPPORTED", 95],
    ["BLOCK_CLOSED", 108],
    ["BLOCK_UNAVAILABLE", 5],
  ] as const)("%s is %i", (code, errno) => {
    expect(errnoOf(new BlockError(code, "x"))).toBe(errno);
  });

  it("anything else is an I/O error", () => {
    expect(errnoOf(new TypeError("x"))).toBe(5);
  });
});

describe("option payloads", () => {
  it("INFO: name and the infos wanted", () => {
    expect(parseInfoOption(hex("00000002 6162 0002 0003 0001"))).toEqual({ exportName: "ab", infoTypes: [3, 1] });
  });

  it.each(["", "000000ff 61", "00000001 61", "00000001 61 0002 0003", "00000001 61 0001 0003 00"])(
    "INFO malformed: %s",
    (text) => {
      expect(parseInfoOption(hex(text))).toBeUndefined();
    },
  );

  it("META_CONTEXT: name and queries", () => {
    expect(parseMetaContextOption(hex("00000001 61 00000002 00000001 62 00000000"))).toEqual({
      exportName: "a",
      queries: ["b", ""],
    });
  });

  it.each(["00000001 61", "00000000 ffffffff", "00000000 00000001 00000005 61", "00000000 00000000 00"])(
    "META_CONTEXT malformed: %s",
    (text) => {
      expect(parseMetaContextOption(hex(text))).toBeUndefined();
    },
  );
});

describe("the buffer pool", () => {
  it("gives a buffer again for the same size class, up to its bound", () => {
    const pool = new BufferPool({ maxIdleBytes: 10_000 });
    const first = pool.take(4096);
    const second = pool.take(1);
    const third = pool.take(4097);
    expect(third.data(4097)).toHaveLength(4097);
    pool.give(first);
    pool.give(second);
    pool.give(third);
    expect(pool.idleBytes).toBe(2 * (4096 + HEADROOM_BYTES));
    expect([pool.take(512), pool.take(512)]).toContain(first);
    expect(pool.take(4097)).not.toBe(third);
  });

  it.each([1, 4096, 4097, 8192, 65_536, 1_048_576, 1_048_577, 33_554_432])("holds %i bytes", (lengthBytes) => {
    const pool = new BufferPool({ maxIdleBytes: 1e9 });
    const buffer = pool.take(lengthBytes);
    expect(buffer.data(lengthBytes)).toHaveLength(lengthBytes);
    pool.give(buffer);
    // Only classes up to 1 MiB are kept.
    expect(pool.idleBytes > 0).toBe(lengthBytes <= 1_048_576);
  });
});
