import { MemoryDevice } from "../../../src/block/memory-device.js";
import type { NbdError } from "../../../src/nbd/errors.js";
import { NbdHandshake, type HandshakeProgress } from "../../../src/nbd/handshake.js";

const MIB = 1024 * 1024;
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ""), "hex");

/** An option as a client sends it: IHAVEOPT, number, length, data. */
function option(number: number, data = ""): Buffer {
  const payload = hex(data);
  const head = hex("49484156454f5054 00000000 00000000");
  head.writeUInt32BE(number, 8);
  head.writeUInt32BE(payload.length, 12);
  return Buffer.concat([head, payload]);
}

/** Replies as [option, type, data in hex]. */
function replies(bytes: Buffer): [number, number, string][] {
  const found: [number, number, string][] = [];
  let position = 0;
  while (position < bytes.length) {
    expect(bytes.toString("hex", position, position + 8)).toBe("0003e889045565a9");
    const end = position + 20 + bytes.readUInt32BE(position + 16);
    found.push([
      bytes.readUInt32BE(position + 8),
      bytes.readUInt32BE(position + 12),
      bytes.toString("hex", position + 20, end),
    ]);
    position = end;
  }
  return found;
}

describe("the NBD handshake", () => {
  const device = new MemoryDevice({ sizeBytes: 16 * MIB });
  const exports = new Map([["a", device]]);
  let handshake: NbdHandshake;

  const send = (...parts: Buffer[]): HandshakeProgress => handshake.receive(Buffer.concat(parts));
  const answers = (progress: HandshakeProgress): [number, number, string][] => replies(Buffer.concat(progress.send));
  const codeOf = (act: () => unknown): string | undefined => {
    try {
      act();
      return undefined;
    } catch (error) {
      return (error as NbdError).code;
    }
  };

  beforeEach(() => {
    handshake = new NbdHandshake({ exports });
  });

  it("greets as fixed newstyle without zeroes", () => {
    expect(handshake.greeting()).toEqual(hex("4e42444d41474943 49484156454f5054 0003"));
  });

  it("GO: size and flags, block sizes, what was asked, ACK, and the transmission phase", () => {
    const progress = send(hex("00000003"), option(7, "00000001 61 0001 0001"));
    expect(answers(progress)).toEqual([
      // EXPORT, 16 MiB, HAS_FLAGS | FLUSH | FUA | TRIM | WRITE_ZEROES | MULTI_CONN | FAST_ZERO
      [7, 3, "0000" + "0000000001000000" + "096d"],
      // BLOCK_SIZE: 512, 4096, 32 MiB
      [7, 3, "0003" + "00000200" + "00001000" + "02000000"],
      [7, 3, "0001" + "61"],
      [7, 1, ""],
    ]);
    expect(progress.outcome).toEqual({
      kind: "transmission",
      exportName: "a",
      device,
      isStructured: false,
      hasBaseAllocation: false,
    });
  });

  it("goes on byte by byte, and leaves what follows GO alone", () => {
    const bytes = Buffer.concat([hex("00000003"), option(8), option(7, "00000000 0000"), Buffer.from("rest")]);
    let used = 0;
    let outcome: HandshakeProgress["outcome"];
    for (let index = 0; index < bytes.length && outcome === undefined; index += 1) {
      const progress = send(bytes.subarray(index, index + 1));
      used += progress.usedBytes;
      ({ outcome } = progress);
    }
    expect(outcome).toMatchObject({ kind: "transmission", exportName: "a", isStructured: true });
    expect(used).toBe(bytes.length - 4);
    handshake = new NbdHandshake({ exports });
    expect(send(bytes).usedBytes).toBe(bytes.length - 4);
    // Split inside GO: what an earlier chunk brought does not count.
    handshake = new NbdHandshake({ exports });
    send(bytes.subarray(0, 30));
    expect(send(bytes.subarray(30)).usedBytes).toBe(bytes.length - 34);
  });

  it("EXPORT_NAME: size and flags, with 124 zeroes unless they were waived", () => {
    expect(Buffer.concat(send(hex("00000003"), option(1, "61")).send)).toEqual(hex("0000000001000000 096d"));
    handshake = new NbdHandshake({ exports });
    expect(Buffer.concat(send(hex("00000001"), option(1, "61")).send)).toHaveLength(134);
    handshake = new NbdHandshake({ exports });
    expect(codeOf(() => send(hex("00000003"), option(1, "7a")))).toBe("NBD_UNKNOWN_EXPORT");
  });

  it("INFO answers as GO does and stays", () => {
    const progress = send(hex("00000003"), option(6, "00000001 61 0000"));
    expect(answers(progress).map(([, type]) => type)).toEqual([3, 3, 1]);
    expect(progress.outcome).toBeUndefined();
  });

  it("LIST names the exports, ABORT ends", () => {
    const progress = send(hex("00000003"), option(3), option(2));
    expect(answers(progress)).toEqual([
      [3, 2, "0000000161"],
      [3, 1, ""],
      [2, 1, ""],
    ]);
    expect(progress.outcome).toEqual({ kind: "abort" });
  });

  it("selects base:allocation only after structured replies, and only for the export it was selected for", () => {
    const select = option(10, `00000001 61 00000001 0000000f ${Buffer.from("base:allocation").toString("hex")}`);
    expect(answers(send(hex("00000003"), select))[0]?.slice(0, 2)).toEqual([10, 0x8000_0003]);
    const progress = send(option(8), select, option(7, "00000001 61 0000"));
    expect(answers(progress).slice(0, 3)).toEqual([
      [8, 1, ""],
      [10, 4, `00000001${Buffer.from("base:allocation").toString("hex")}`],
      [10, 1, ""],
    ]);
    expect(progress.outcome).toMatchObject({ isStructured: true, hasBaseAllocation: true });
    handshake = new NbdHandshake({
      exports: new Map([
        ["a", device],
        ["b", device],
      ]),
    });
    expect(send(hex("00000003"), option(8), select, option(7, "00000001 62 0000")).outcome).toMatchObject({
      exportName: "b",
      hasBaseAllocation: false,
    });
  });

  it("lists contexts for no query and for the namespace, nothing for others", () => {
    const list = (queries: string): number[] =>
      answers(send(option(9, `00000001 61 ${queries}`))).map(([, type]) => type);
    send(hex("00000003"), option(8));
    expect(list("00000000")).toEqual([4, 1]);
    expect(list(`00000001 00000005 ${Buffer.from("base:").toString("hex")}`)).toEqual([4, 1]);
    expect(list(`00000001 00000005 ${Buffer.from("qemu:").toString("hex")}`)).toEqual([1]);
  });

  it("refuses what it does not know or cannot read, and goes on", () => {
    const progress = send(
      hex("00000003"),
      option(5),
      option(99, "00"),
      option(7, "0000"),
      option(3, "00"),
      option(8, "00"),
    );
    expect(answers(progress).map(([number, type]) => [number, type - 0x8000_0000])).toEqual([
      [5, 1],
      [99, 1],
      [7, 3],
      [3, 3],
      [8, 3],
    ]);
    expect(answers(send(option(7, "00000001 7a 0000")))[0]?.slice(0, 2)).toEqual([7, 0x8000_0006]);
  });

  it("skips data that is too long without keeping it", () => {
    send(hex("00000003"));
    const head = option(7);
    head.writeUInt32BE(1_000_000, 12);
    expect(send(head).send).toEqual([]);
    for (let sent = 0; sent < 999_999; sent += 111_111) expect(send(Buffer.alloc(111_111)).send).toEqual([]);
    expect(answers(send(Buffer.alloc(1)))).toEqual([[7, 0x8000_0009, ""]]);
    expect(answers(send(option(3)))).toHaveLength(2);
  });

  it("cuts a peer that does not speak NBD, or never gets done", () => {
    expect(codeOf(() => send(hex("00000003"), Buffer.from("GET / HTTP/1.1\r\n\r\n")))).toBe("NBD_BAD_MAGIC");
    handshake = new NbdHandshake({ exports });
    expect(codeOf(() => send(hex("00000000")))).toBe("NBD_BAD_CLIENT_FLAGS");
    handshake = new NbdHandshake({ exports });
    expect(codeOf(() => send(hex("00000007")))).toBe("NBD_BAD_CLIENT_FLAGS");
    handshake = new NbdHandshake({ exports });
    send(hex("00000003"));
    const code = codeOf(() => {
      for (let count = 0; count < 257; count += 1) send(option(3));
    });
    expect(code).toBe("NBD_TOO_MANY_OPTIONS");
  });
});
