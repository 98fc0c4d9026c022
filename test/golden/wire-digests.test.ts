import { encodePdu } from "../../src/wire/encode.js";
import { Framer, type RawPdu } from "../../src/wire/framer.js";
import type { ScsiCommandPdu } from "../../src/wire/pdu.js";
import { crc32c } from "../../src/wire/crc32c.js";
import { crc32cTable } from "../../src/wire/crc32c-table.js";
import { decodeWhole, fromHex } from "./golden.js";

/** Digests against the vectors of RFC 7143 appendix A.4. */

function digestBytes(crc: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(crc);
  return bytes.toString("hex");
}

const readCommand = `
  01 c0 00 00  00 00 00 00  00 00 00 00  00 00 00 00
  14 00 00 00  00 00 04 00  00 00 00 14  00 00 00 18
  28 00 00 00  00 00 00 00  02 00 00 00  00 00 00 00`;

const vectors: readonly (readonly [string, Buffer, string])[] = [
  ["32 bytes of zeroes", Buffer.alloc(32), "aa36918a"],
  ["32 bytes of ones", Buffer.alloc(32, 0xff), "43aba862"],
  ["32 bytes of incrementing 00..1f", Buffer.from(Array.from({ length: 32 }, (_, index) => index)), "4e79dd46"],
  ["32 bytes of decrementing 1f..00", Buffer.from(Array.from({ length: 32 }, (_, index) => 31 - index)), "5cdb3f11"],
  ["a SCSI Read (10) Command PDU", fromHex(readCommand), "563a96d9"],
];

test.each(vectors)("the CRC of %s is that of appendix A.4", (_name, bytes, digest) => {
  expect(digestBytes(crc32c(bytes))).toBe(digest);
  expect(digestBytes(crc32cTable(bytes, 0, bytes.length))).toBe(digest);
});

test("the Read (10) command of appendix A.4 is read, and written with its digest", () => {
  const bytes = fromHex(readCommand);
  const pdu = decodeWhole(bytes);
  const expected: ScsiCommandPdu = {
    type: "scsi-command",
    isImmediate: false,
    isFinal: true,
    isRead: true,
    isWrite: false,
    taskAttribute: 0,
    lun: { high: 0, low: 0 },
    initiatorTaskTag: 0x1400_0000,
    expectedDataTransferLength: 1024,
    cmdSn: 0x14,
    expStatSn: 0x18,
    cdb: Buffer.from("28000000000000000200000000000000", "hex"),
    data: Buffer.alloc(0),
  };
  expect(pdu).toEqual(expected);
  // An empty data segment has no data digest (§11.2.3).
  expect(Buffer.concat(encodePdu(pdu, { header: true, data: true })).toString("hex")).toBe(
    bytes.toString("hex") + "563a96d9",
  );
});

test("the data digest follows the padding, and the framer accepts both digests of A.4", () => {
  const data = Buffer.from(Array.from({ length: 32 }, (_, index) => index));
  const pdu: ScsiCommandPdu = { ...(decodeWhole(fromHex(readCommand)) as ScsiCommandPdu), data };
  const stream = Buffer.concat(encodePdu(pdu, { header: false, data: true }));
  expect(stream.subarray(48).toString("hex")).toBe(data.toString("hex") + "4e79dd46");

  const received: RawPdu[] = [];
  const framer = new Framer(
    { maxDataSegmentLength: 64, digests: { header: true, data: true } },
    { placeData: () => undefined, onPdu: (raw) => received.push(raw) },
  );
  framer.push(fromHex(`${readCommand} 56 3a 96 d9`));
  expect(received.map((raw) => raw.isDataDigestGood)).toEqual([true]);
});
