import * as netlink from "../../../src/host/netlink.js";
import { connectAttributes, reconfigureAttributes } from "../../../src/host/nbd-netlink.js";
import { encodeLoopConfig } from "../../../src/host/loop.js";

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ""), "hex");

describe("generic netlink", () => {
  it("encodes a request: length, type, REQUEST|ACK, sequence, command, padded attributes", () => {
    const bytes = netlink.encodeRequestMessage({
      family: 0x1c,
      command: 3,
      sequence: 7,
      attributes: [netlink.attributeU32(1, 5), netlink.attributeString(10, "ab")],
    });
    expect(bytes).toEqual(
      hex("24000000 1c00 0500 07000000 00000000 03 01 0000 0800 0100 05000000 0700 0a00 616200 00"),
    );
  });

  it("nests attributes and writes 64-bit values low word first", () => {
    const bytes = netlink.encodeAttributes([
      { type: 7, value: [{ type: 1, value: [netlink.attributeU32(1, 9)] }] },
      netlink.attributeU64(2, 0x1_0000_0002),
    ]);
    expect(bytes).toEqual(hex("1000 0780 0c00 0180 0800 0100 09000000 0c00 0200 02000000 01000000"));
    const decoded = netlink.decodeAttributes(bytes);
    expect([...decoded.keys()]).toEqual([7, 2]);
    expect(netlink.decodeAttributes(decoded.get(7)?.[0] ?? hex("")).has(1)).toBe(true);
  });

  it("decodes an acknowledgement, a refusal and a message in one datagram", () => {
    const datagram = hex(`
      24000000 0200 0000 07000000 00000000 00000000 10000000 0000 0000 00000000 00000000
      24000000 0200 0000 08000000 00000000 f0ffffff 10000000 0000 0000 00000000 00000000
      1c000000 1c00 0000 00000000 00000000 04 01 0000 0800 0100 03000000`);
    expect(netlink.decodeMessages(datagram)).toEqual([
      { kind: "acknowledgement", sequence: 7, errno: 0 },
      { kind: "acknowledgement", sequence: 8, errno: 16 },
      { kind: "message", sequence: 0, family: 0x1c, command: 4, attributes: new Map([[1, [hex("03000000")]]]) },
    ]);
  });

  it.each(["ffff0000 1c00 0000 00000000 00000000 00000000", "08000000 1c00 0000 00000000 00000000 00000000"])(
    "refuses lengths that do not fit: %s",
    (text) => {
      expect(() => netlink.decodeMessages(hex(text))).toThrow(/has length/);
    },
  );

  it("refuses attributes that do not fit", () => {
    expect(() => netlink.decodeAttributes(hex("0300 0100 00000000"))).toThrow(/has length 3/);
    expect(() => netlink.decodeAttributes(hex("0900 0100 00000000"))).toThrow(/has length 9/);
  });
});

describe("the nbd driver's attributes", () => {
  it("CONNECT: never a time-out of a socket, a dead one is waited for in whole seconds", () => {
    const decoded = netlink.decodeAttributes(
      netlink.encodeAttributes(
        connectAttributes({
          sizeBytes: 2 ** 40,
          blockBytes: 4096,
          serverFlags: 0x10d,
          sockets: [11],
          backendId: "c/v",
          deadConnectionTimeoutMs: 86_400_000,
        }),
      ),
    );
    const value = (type: number): string | undefined => decoded.get(type)?.[0]?.toString("hex");
    expect(decoded.has(1)).toBe(false);
    expect(value(2)).toBe("0000000000010000");
    expect(value(3)).toBe("0010000000000000");
    expect(value(4)).toBe("0000000000000000");
    expect(value(5)).toBe("0d01000000000000");
    expect(value(7)).toBe("0c000180" + "08000100" + "0b000000");
    expect(value(8)).toBe("8051010000000000");
    expect(value(10)).toBe(Buffer.from("c/v\0").toString("hex"));
  });

  it("RECONFIGURE: index and identifier always, the rest as given", () => {
    const types = (attributes: readonly netlink.NetlinkAttribute[]): number[] => attributes.map(({ type }) => type);
    expect(types(reconfigureAttributes({ index: 3, backendId: "c/v" }))).toEqual([1, 10]);
    expect(types(reconfigureAttributes({ index: 3, backendId: "c/v", sizeBytes: 512, sockets: [4] }))).toEqual([
      1, 10, 2, 7,
    ]);
  });

  it("refuses an identifier that sysfs could not show", () => {
    const options = { sizeBytes: 512, blockBytes: 512, serverFlags: 1, sockets: [1], deadConnectionTimeoutMs: 1 };
    expect(() => connectAttributes({ ...options, backendId: "x".repeat(1025) })).toThrow(/at most 1024/);
  });
});

describe("the loop driver's structure", () => {
  it("has fd, block size, size limit, flags and name where the kernel looks for them", () => {
    const bytes = encodeLoopConfig(9, { backingPath: "/a", sizeBytes: 2 ** 33, blockBytes: 4096, isReadOnly: true });
    expect(bytes).toHaveLength(304);
    expect([bytes.readUInt32LE(0), bytes.readUInt32LE(4)]).toEqual([9, 4096]);
    expect(bytes.readBigUInt64LE(8 + 32)).toBe(2n ** 33n);
    expect(bytes.readUInt32LE(8 + 52)).toBe(17);
    expect(bytes.toString("latin1", 64, 67)).toBe("/a\0");
  });
});
