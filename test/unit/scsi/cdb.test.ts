import * as cdb from "../../../src/scsi/cdb.js";
import { commandName } from "../../../src/scsi/opcodes.js";

const hex = (bytes: Buffer): string => bytes.toString("hex");

/** Bytes laid out by hand from the CDB tables of SPC-5 §6 and SBC-4 §5. */
describe("CDB builders", () => {
  it.each<[string, Buffer, string]>([
    ["TEST UNIT READY", cdb.testUnitReady(), "000000000000"],
    ["INQUIRY standard", cdb.inquiry({ allocationLength: 0x0102 }), "120000010200"],
    ["INQUIRY page 83h", cdb.inquiry({ allocationLength: 255, vpdPage: 0x83 }), "12018300ff00"],
    ["REPORT LUNS", cdb.reportLuns(0x10000), "a00000000000000100000000"],
    ["READ CAPACITY(10)", cdb.readCapacity10(), "25000000000000000000"],
    ["READ CAPACITY(16)", cdb.readCapacity16(32), "9e100000000000000000000000200000"],
    ["GET LBA STATUS", cdb.getLbaStatus(0x1_0000_0002, 24), "9e120000000100000002000000180000"],
    ["READ(10)", cdb.read10({ lba: 0x01020304, blocks: 0x0506 }), "28000102030400050600"],
    ["READ(10) FUA", cdb.read10({ lba: 1, blocks: 1, fua: true }), "28080000000100000100"],
    ["WRITE(10)", cdb.write10({ lba: 0xffff_ffff, blocks: 0xffff }), "2a00ffffffff00ffff00"],
    ["READ(16)", cdb.read16({ lba: 0x1_2345_6789, blocks: 0x10000 }), "88000000000123456789000100000000"],
    ["WRITE(16) FUA", cdb.write16({ lba: 2 ** 52, blocks: 8, fua: true }), "8a080010000000000000000000080000"],
    ["SYNCHRONIZE CACHE(10)", cdb.synchronizeCache10(), "35000000000000000000"],
    ["SYNCHRONIZE CACHE(16)", cdb.synchronizeCache16({ lba: 5, blocks: 6 }), "91000000000000000005000000060000"],
    ["UNMAP", cdb.unmap(24), "42000000000000001800"],
    [
      "WRITE SAME(16) UNMAP NDOB",
      cdb.writeSame16({ lba: 7, blocks: 9, unmap: true, ndob: true }),
      "93090000000000000007000000090000",
    ],
    [
      "WRITE SAME(16) ANCHOR",
      cdb.writeSame16({ lba: 0, blocks: 1, unmap: true, anchor: true }),
      "93180000000000000000000000010000",
    ],
    ["COMPARE AND WRITE", cdb.compareAndWrite({ lba: 3, blocks: 2, fua: true }), "89080000000000000003000000020000"],
    ["REQUEST SENSE", cdb.requestSense(252, true), "03010000fc00"],
    ["MODE SENSE(6)", cdb.modeSense6({ page: 0x3f, allocationLength: 192 }), "1a083f00c000"],
    [
      "MODE SENSE(10)",
      cdb.modeSense10({ page: 8, subpage: 1, allocationLength: 512, disableBlockDescriptors: false }),
      "5a000801000000020000",
    ],
    ["REPORT TARGET PORT GROUPS", cdb.reportTargetPortGroups(1024), "a30a00000000000004000000"],
    ["REPORT TARGET PORT GROUPS extended", cdb.reportTargetPortGroups(8, true), "a32a00000000000000080000"],
    ["SET TARGET PORT GROUPS", cdb.setTargetPortGroups(8), "a40a00000000000000080000"],
    [
      "REPORT SUPPORTED OPERATION CODES, one with timeouts",
      cdb.reportSupportedOperationCodes({
        allocationLength: 64,
        opcode: 0x9e,
        serviceAction: 0x12,
        withTimeouts: true,
      }),
      "a30c829e0012000000400000",
    ],
    [
      "REPORT SUPPORTED OPERATION CODES, all",
      cdb.reportSupportedOperationCodes({ allocationLength: 4096 }),
      "a30c00000000000010000000",
    ],
    ["PERSISTENT RESERVE IN", cdb.persistentReserveIn(3, 4096), "5e030000000000100000"],
    [
      "PERSISTENT RESERVE OUT",
      cdb.persistentReserveOut({ action: 1, type: 5, parameterListLength: 24 }),
      "5f010500000000001800",
    ],
  ])("%s", (_name, bytes, expected) => {
    expect(hex(bytes)).toBe(expected);
  });

  it("chooses the short form while address, end and count fit it", () => {
    expect(cdb.readCdb(0xffff_fffe, 1)[0]).toBe(0x28);
    expect(cdb.readCdb(0xffff_ffff, 1)[0]).toBe(0x88);
    expect(cdb.readCdb(0, 0xffff)[0]).toBe(0x28);
    expect(cdb.readCdb(0, 0x10000)[0]).toBe(0x88);
    expect(cdb.writeCdb(0, 1)[0]).toBe(0x2a);
    expect(
      cdb
        .writeCdb(2 ** 40, 1, true)
        .subarray(0, 2)
        .toString("hex"),
    ).toBe("8a08");
  });

  it.each<[string, () => Buffer]>([
    ["an address that does not fit READ(10)", () => cdb.read10({ lba: 2 ** 32, blocks: 1 })],
    ["a count that does not fit READ(10)", () => cdb.read10({ lba: 0, blocks: 65_536 })],
    ["a negative address", () => cdb.read16({ lba: -1, blocks: 1 })],
    ["a fractional address", () => cdb.read16({ lba: 0.5, blocks: 1 })],
    ["an address beyond 2^53", () => cdb.read16({ lba: 2 ** 53, blocks: 1 })],
    ["256 blocks in COMPARE AND WRITE", () => cdb.compareAndWrite({ lba: 0, blocks: 256 })],
    ["an allocation length of 64 KiB in INQUIRY", () => cdb.inquiry({ allocationLength: 65_536 })],
  ])("refuses %s", (_name, build) => {
    expect(build).toThrow(expect.objectContaining({ code: "SCSI_ARGUMENT_INVALID" }));
  });
});

describe("commandName", () => {
  it.each<[Buffer, string]>([
    [cdb.read16({ lba: 0, blocks: 1 }), "READ(16)"],
    [cdb.testUnitReady(), "TEST UNIT READY"],
    [cdb.synchronizeCache10(), "SYNCHRONIZE CACHE(10)"],
    [cdb.readCapacity16(32), "READ CAPACITY(16)"],
    [cdb.getLbaStatus(0, 24), "GET LBA STATUS"],
    [cdb.reportTargetPortGroups(8), "REPORT TARGET PORT GROUPS"],
    [cdb.setTargetPortGroups(8), "SET TARGET PORT GROUPS"],
    [cdb.persistentReserveIn(0, 8), "PERSISTENT RESERVE IN"],
    [Buffer.from([0x8b]), "ORWRITE(16)"],
    [Buffer.from([0x34]), "PRE-FETCH(10)"],
    [Buffer.from([0xee, 0]), "opcode 0xee"],
  ])("%#: %s is named", (bytes, name) => {
    expect(commandName(bytes)).toBe(name);
  });
});
