import { encodePdu, NO_DIGESTS, PduWriter } from "../../../src/wire/encode.js";
import type { NopOutPdu, ScsiCommandPdu, ScsiDataOutPdu } from "../../../src/wire/pdu.js";
import { crc32c } from "../../../src/wire/crc32c.js";

const digests = { header: true, data: true };

function nopOut(tag: number): NopOutPdu {
  const lun = { high: 0, low: 0 };
  const data = Buffer.alloc(0);
  return {
    ...{ type: "nop-out", isImmediate: true, lun, initiatorTaskTag: tag, targetTransferTag: 0xffff_ffff },
    ...{ cmdSn: 1, expStatSn: 2, data },
  };
}

function dataOut(data: Buffer): ScsiDataOutPdu {
  return {
    ...{ type: "scsi-data-out", isFinal: true, lun: { high: 0, low: 0 }, initiatorTaskTag: 1, targetTransferTag: 2 },
    ...{ expStatSn: 3, dataSn: 0, bufferOffset: 0, data },
  };
}

describe("encodePdu", () => {
  test("gives header, borrowed data, and padding with digest", () => {
    const data = Buffer.from("hello");
    const list = encodePdu(dataOut(data), digests);
    expect(list).toHaveLength(3);
    expect(list[0]).toHaveLength(52);
    expect(list[1]).toBe(data);
    expect(list[2]?.subarray(0, 3)).toEqual(Buffer.alloc(3));
    expect(list[2]?.readUInt32LE(3)).toBe(crc32c(Buffer.from("hello\0\0\0")));
    expect(list[0]?.readUInt32LE(48)).toBe(crc32c((list[0] ?? data).subarray(0, 48)));
  });

  test("leaves out what has no bytes", () => {
    expect(encodePdu(nopOut(1), digests).map((part) => part.length)).toEqual([52]);
    expect(encodePdu(dataOut(Buffer.alloc(8)), NO_DIGESTS).map((part) => part.length)).toEqual([48, 8]);
  });

  test("covers the AHS with the header digest", () => {
    const command: ScsiCommandPdu = {
      ...{ type: "scsi-command", isImmediate: false, isFinal: true, isRead: false, isWrite: false, taskAttribute: 1 },
      ...{ lun: { high: 0, low: 0 }, initiatorTaskTag: 1, expectedDataTransferLength: 0, cmdSn: 1, expStatSn: 1 },
      ...{ cdb: Buffer.alloc(20, 0x7f), data: Buffer.alloc(0) },
    };
    const bytes = Buffer.concat(encodePdu(command, digests));
    expect(bytes).toHaveLength(48 + 8 + 4);
    expect(bytes.readUInt32LE(56)).toBe(crc32c(bytes.subarray(0, 56)));
  });

  test("refuses numbers that do not fit, and a data segment over 24 bits", () => {
    expect(() => encodePdu(nopOut(-1), NO_DIGESTS)).toThrow(RangeError);
    expect(() => encodePdu(nopOut(2 ** 32), NO_DIGESTS)).toThrow(RangeError);
    expect(() => encodePdu(nopOut(1.5), NO_DIGESTS)).toThrow(RangeError);
    expect(() => encodePdu(dataOut(Buffer.alloc(2 ** 24)), NO_DIGESTS)).toThrow("24 bits");
  });
});

describe("PduWriter", () => {
  test("joins PDUs without large data into one buffer", () => {
    const writer = new PduWriter(digests);
    for (let tag = 0; tag < 10; tag += 1) writer.append(nopOut(tag));
    writer.append(dataOut(Buffer.from("small")));
    writer.append(nopOut(10));
    const list = writer.take();
    expect(list.map((part) => part.length)).toEqual([11 * 52 + 52 + 8 + 4]);
  });

  test("borrows large data and keeps the order around it", () => {
    const writer = new PduWriter(NO_DIGESTS);
    const data = Buffer.alloc(4097, 7);
    writer.append(nopOut(1));
    writer.append(dataOut(data));
    writer.append(nopOut(2));
    const list = writer.take();
    expect(list.map((part) => part.length)).toEqual([96, 4097, 3 + 48]);
    expect(list[1]).toBe(data);
  });

  test("never writes again where it handed out bytes", () => {
    const writer = new PduWriter(digests, { slabBytes: 200 });
    const taken: Buffer[] = [];
    const copies: string[] = [];
    for (let tag = 0; tag < 50; tag += 1) {
      writer.append(nopOut(tag));
      const list = writer.take();
      taken.push(...list);
      copies.push(...list.map((part) => part.toString("hex")));
    }
    expect(taken.map((part) => part.toString("hex"))).toEqual(copies);
  });

  test("counts what is pending and hands it out once", () => {
    const writer = new PduWriter(NO_DIGESTS);
    expect(writer.take()).toEqual([]);
    writer.append(nopOut(1));
    writer.append(dataOut(Buffer.alloc(1001)));
    expect(writer.pendingBytes).toBe(48 + 48 + 1001 + 3);
    expect(Buffer.concat(writer.take())).toHaveLength(1100);
    expect(writer.pendingBytes).toBe(0);
    expect(writer.take()).toEqual([]);
  });

  test("uses new digests from the next PDU on", () => {
    const writer = new PduWriter(NO_DIGESTS);
    writer.append(nopOut(1));
    writer.setDigests(digests);
    writer.append(nopOut(2));
    expect(Buffer.concat(writer.take())).toHaveLength(48 + 52);
  });

  test("copies small data, so its buffer is free at once", () => {
    const writer = new PduWriter(NO_DIGESTS);
    const data = Buffer.from("abcd");
    writer.append(dataOut(data));
    data.fill(0);
    expect(Buffer.concat(writer.take()).toString("latin1", 48)).toBe("abcd");
  });
});
