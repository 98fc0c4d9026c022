import * as build from "../../../src/scsi/cdb.js";
import {
  cdbLengthBytes,
  parseBlockCommand,
  parseInquiry,
  parseMaintenance,
  parseModeSense,
  parsePersistentReserveIn,
  parsePersistentReserveOut,
  parseReportLuns,
  parseServiceActionIn16,
  parseUnmapCommand,
  parseWriteSameFlags,
} from "../../../src/scsi/cdb-parse.js";

const bytes = (hex: string): Buffer => Buffer.from(hex, "hex");
const plain = { fua: false, dpo: false, protect: 0 };

describe("parseBlockCommand", () => {
  it.each<[string, string, object]>([
    ["READ(6)", "081fffff0200", { lba: 0x1fffff, blocks: 2, ...plain }],
    ["WRITE(6) of 256 blocks", "0ae000010000", { lba: 1, blocks: 256, ...plain }],
    ["READ(10) with DPO and FUA", "28180000001000000400", { lba: 16, blocks: 4, fua: true, dpo: true, protect: 0 }],
    ["WRITE(12)", "aa00000000110001000000000000".slice(0, 24), { lba: 17, blocks: 65_536, ...plain }],
    [
      "VERIFY(16) with protection",
      "8f200000000100000000000000020000",
      { lba: 2 ** 32, blocks: 2, ...plain, protect: 1 },
    ],
    ["COMPARE AND WRITE", "89000000000000000009aaaaaa030000", { lba: 9, blocks: 3, ...plain }],
    ["WRITE ATOMIC(16)", "9c0000000000000000080000000a0000", { lba: 8, blocks: 10, ...plain }],
    ["WRITE SAME(10)", "41000000000500000600", { lba: 5, blocks: 6, ...plain }],
  ])("%s", (_name, hex, expected) => {
    expect(parseBlockCommand(bytes(hex))).toEqual(expected);
  });

  it("keeps an address beyond 2^53 beyond every device", () => {
    const { lba } = parseBlockCommand(bytes("88007fffffffffffffff000000010000"));
    expect(lba).toBeGreaterThan(Number.MAX_SAFE_INTEGER);
  });

  it("fails with a typed error when the CDB is cut", () => {
    expect(() => parseBlockCommand(bytes("8800000000"))).toThrow(
      expect.objectContaining({ code: "SCSI_DATA_TRUNCATED", layer: "scsi" }),
    );
    expect(() => parseBlockCommand(Buffer.alloc(0))).toThrow(expect.objectContaining({ code: "SCSI_DATA_TRUNCATED" }));
  });
});

describe("other parsers read what the standard's tables lay out", () => {
  it("INQUIRY", () => {
    expect(parseInquiry(bytes("12018300ff00"))).toEqual({ vpdPage: 0x83, allocationLength: 255 });
    expect(parseInquiry(bytes("120083006000"))).toEqual({ vpdPage: undefined, allocationLength: 96 });
  });

  it("REPORT LUNS", () => {
    expect(parseReportLuns(bytes("a00002000000000010000000"))).toEqual({ selectReport: 2, allocationLength: 4096 });
  });

  it("SERVICE ACTION IN(16)", () => {
    const expected = { action: 0x12, lba: 2 ** 32, allocationLength: 24 };
    expect(parseServiceActionIn16(bytes("9e120000000100000000000000180000"))).toEqual(expected);
  });

  it("MODE SENSE(6) and (10)", () => {
    expect(parseModeSense(bytes("1a087f05c000"))).toEqual({
      page: 0x3f,
      subpage: 5,
      pageControl: 1,
      disableBlockDescriptors: true,
      allowLongLba: false,
      allocationLength: 192,
    });
    expect(parseModeSense(bytes("5a100a00000000020000"))).toMatchObject({
      page: 0x0a,
      pageControl: 0,
      disableBlockDescriptors: false,
      allowLongLba: true,
      allocationLength: 512,
    });
  });

  it("WRITE SAME flags: NDOB only in the 16-byte form", () => {
    expect(parseWriteSameFlags(bytes("93190000000000000000000000010000"))).toEqual({
      unmap: true,
      anchor: true,
      ndob: true,
    });
    expect(parseWriteSameFlags(bytes("41090000000000000100"))).toEqual({ unmap: true, anchor: false, ndob: false });
  });

  it("UNMAP, PERSISTENT RESERVE IN and OUT, MAINTENANCE", () => {
    expect(parseUnmapCommand(bytes("42010000000000001800"))).toEqual({ anchor: true, parameterListLength: 24 });
    expect(parsePersistentReserveIn(bytes("5e030000000000100000"))).toEqual({ action: 3, allocationLength: 4096 });
    expect(parsePersistentReserveOut(bytes("5f041700000001000000"))).toEqual({
      action: 4,
      scope: 1,
      type: 7,
      parameterListLength: 65_536,
    });
    expect(parseMaintenance(bytes("a32a00000000000001000000"))).toEqual({
      action: 0x0a,
      parameterDataFormat: 1,
      lengthBytes: 256,
    });
  });

  it("knows the CDB length of every group", () => {
    expect([0x12, 0x28, 0x5e, 0x88, 0xa0, 0x7f, 0xc0].map(cdbLengthBytes)).toEqual([6, 10, 10, 16, 12, 0, 0]);
  });

  it("reads back what the builders wrote", () => {
    const range = { lba: 0x1_0000_0001, blocks: 70_000 };
    expect(parseBlockCommand(build.write16({ ...range, fua: true }))).toEqual({ ...plain, ...range, fua: true });
  });

  it.each([
    ["INQUIRY", parseInquiry],
    ["REPORT LUNS", parseReportLuns],
    ["SERVICE ACTION IN", parseServiceActionIn16],
    ["MODE SENSE", parseModeSense],
    ["UNMAP", parseUnmapCommand],
    ["PERSISTENT RESERVE IN", parsePersistentReserveIn],
    ["PERSISTENT RESERVE OUT", parsePersistentReserveOut],
    ["MAINTENANCE", parseMaintenance],
  ] as const)("%s fails with a typed error when the CDB is cut", (_name, parse) => {
    expect(() => parse(Buffer.alloc(5))).toThrow(expect.objectContaining({ code: "SCSI_DATA_TRUNCATED" }));
  });
});

describe("parseBlockCommand on commands without a range", () => {
  it.each(["120000002400", "000000000000", "7f0000000000000000000000"])("refuses %s", (hex) => {
    expect(() => parseBlockCommand(bytes(hex))).toThrow(expect.objectContaining({ code: "SCSI_DATA_INVALID" }));
  });
});
