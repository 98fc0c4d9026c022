import { lunFromNumber } from "../../../src/base/lun.js";
import {
  decodeReadCapacity10,
  decodeReadCapacity16,
  encodeReadCapacity10,
  encodeReadCapacity16,
} from "../../../src/scsi/capacity.js";
import { decodeInquiry, encodeInquiry } from "../../../src/scsi/inquiry.js";
import { decodeLbaStatus, encodeLbaStatus } from "../../../src/scsi/lba-status.js";
import * as mode from "../../../src/scsi/mode.js";
import { decodeReportLuns, encodeReportLuns, reportLunsRequiredBytes } from "../../../src/scsi/report-luns.js";
import { decodeUnmapList, encodeUnmapList, MAX_UNMAP_DESCRIPTORS } from "../../../src/scsi/unmap.js";

const bytes = (hex: string): Buffer => Buffer.from(hex.replace(/\s/g, ""), "hex");
const truncated = expect.objectContaining({ code: "SCSI_DATA_TRUNCATED" }) as Error;

describe("standard INQUIRY data (SPC-5 §6.7.2)", () => {
  const golden = bytes(
    `00 00 06 12 5b 30 10 02
     484157534552 2020 6d656d6f7279 20202020202020202020 30303031` +
      "00".repeat(22) +
      "0960" +
      "00".repeat(36),
  );
  const data = {
    peripheralQualifier: 0,
    deviceType: 0,
    isRemovable: false,
    version: 6,
    targetPortGroupSupport: 3,
    supportsThirdPartyCopy: false,
    supportsProtection: false,
    hasMultiplePorts: true,
    supportsCommandQueuing: true,
    vendor: "HAWSER",
    product: "memory",
    revision: "0001",
    versionDescriptors: [0x0960],
  };

  it("is read and written byte for byte", () => {
    expect(decodeInquiry(golden)).toEqual(data);
    expect(encodeInquiry(data).toString("hex")).toBe(golden.toString("hex"));
  });

  it("is read from the 36 bytes every device gives, and says nothing of what was cut", () => {
    expect(decodeInquiry(golden.subarray(0, 36))).toEqual({ ...data, versionDescriptors: [] });
    expect(decodeInquiry(bytes("7f 00 05 02 00"))).toMatchObject({
      peripheralQualifier: 3,
      deviceType: 31,
      vendor: "",
    });
  });

  it("shows unprintable characters as ?", () => {
    const odd = Buffer.from(golden);
    odd[8] = 0x1b;
    expect(decodeInquiry(odd).vendor).toBe("?AWSER");
  });

  it("fails typed when cut", () => {
    expect(() => decodeInquiry(golden.subarray(0, 4))).toThrow(truncated);
  });
});

describe("READ CAPACITY (SBC-4 §5.20, §5.21)", () => {
  it("10 bytes form", () => {
    expect(decodeReadCapacity10(bytes("0001ffff 00000200"))).toMatchObject({ blocks: 131_072, logicalBlockBytes: 512 });
    expect(encodeReadCapacity10({ blocks: 131_072, logicalBlockBytes: 512 }).toString("hex")).toBe("0001ffff00000200");
    expect(encodeReadCapacity10({ blocks: 2 ** 40, logicalBlockBytes: 512 }).toString("hex")).toBe("ffffffff00000200");
  });

  it("asks for the long form beyond 2^32 blocks", () => {
    expect(decodeReadCapacity10(bytes("ffffffff 00000200"))).toBeUndefined();
  });

  it("16 bytes form with provisioning and physical blocks", () => {
    const golden = bytes("00000001ffffffff 00000200 00 03 c007" + "00".repeat(16));
    const capacity = {
      blocks: 2 ** 33,
      logicalBlockBytes: 512,
      hasProtection: false,
      physicalBlockExponent: 3,
      lowestAlignedLba: 7,
      isProvisioned: true,
      unmapReadsZeroes: true,
    };
    expect(decodeReadCapacity16(golden)).toEqual(capacity);
    expect(encodeReadCapacity16(capacity).toString("hex")).toBe(golden.toString("hex"));
  });

  it("fails typed on odd block sizes, absurd capacities and cut data", () => {
    const invalid = expect.objectContaining({ code: "SCSI_DATA_INVALID" }) as Error;
    expect(() => decodeReadCapacity10(bytes("00000001 00000208"))).toThrow(invalid);
    expect(() => decodeReadCapacity10(bytes("00000001 00000000"))).toThrow(invalid);
    expect(() => decodeReadCapacity16(bytes("ffffffffffffffff 00000200"))).toThrow(
      expect.objectContaining({ code: "SCSI_VALUE_TOO_LARGE" }),
    );
    expect(() => decodeReadCapacity16(Buffer.alloc(11))).toThrow(truncated);
    expect(() => decodeReadCapacity10(Buffer.alloc(7))).toThrow(truncated);
  });
});

describe("REPORT LUNS (SPC-5 §6.33)", () => {
  const golden = bytes("00000018 00000000 0000000000000000 00ff000000000000 4100000000000000");

  it("is read and written", () => {
    const luns = [0, 255, 256].map(lunFromNumber);
    expect(decodeReportLuns(golden)).toEqual(luns);
    expect(encodeReportLuns(luns).toString("hex")).toBe(golden.toString("hex"));
  });

  it("says how many bytes it needs when it was cut", () => {
    expect(reportLunsRequiredBytes(golden.subarray(0, 16))).toBe(32);
    expect(() => decodeReportLuns(golden.subarray(0, 16))).toThrow(
      expect.objectContaining({ details: expect.objectContaining({ requiredBytes: 32 }) as unknown }),
    );
    expect(() => decodeReportLuns(bytes("ffffffff 00000000"))).toThrow(truncated);
  });
});

describe("UNMAP parameter list (SBC-4 §5.35.2)", () => {
  const golden = bytes("0026 0020 00000000 0000000100000002 00000010 00000000 0000000000000003 00000020 00000000");
  const ranges = [
    { lba: 0x1_0000_0002, blocks: 16 },
    { lba: 3, blocks: 32 },
  ];

  it("is read and written", () => {
    expect(encodeUnmapList(ranges).toString("hex")).toBe(golden.toString("hex"));
    expect(decodeUnmapList(golden)).toEqual(ranges);
  });

  it("ignores part of a descriptor at the end, as the standard asks", () => {
    expect(decodeUnmapList(bytes("0016 0014 00000000 0000000000000001 00000002 00000000 00000000"))).toHaveLength(1);
  });

  it("fails typed when it is shorter than it says", () => {
    expect(() => decodeUnmapList(golden.subarray(0, 20))).toThrow(truncated);
    expect(() => decodeUnmapList(bytes("0006 0010 00000000"))).toThrow(
      expect.objectContaining({ code: "SCSI_DATA_INVALID" }),
    );
    expect(() => encodeUnmapList(new Array(MAX_UNMAP_DESCRIPTORS + 1).fill({ lba: 0, blocks: 1 }))).toThrow(
      expect.objectContaining({ code: "SCSI_ARGUMENT_INVALID" }),
    );
  });
});

describe("GET LBA STATUS (SBC-4 §5.5.2)", () => {
  const golden = bytes(
    `00000034 00000000
     0000000000000000 00000080 00 000000
     0000000000000080 00000100 01 000000
     0000000000000180 00000001 02 000000`,
  );

  it("is read and written", () => {
    const extents = [
      { lba: 0, blocks: 128, status: "mapped" },
      { lba: 128, blocks: 256, status: "deallocated" },
      { lba: 384, blocks: 1, status: "anchored" },
    ] as const;
    expect(decodeLbaStatus(golden)).toEqual(extents);
    expect(encodeLbaStatus(extents).toString("hex")).toBe(golden.toString("hex"));
  });

  it("gives whole descriptors only when the allocation length cut the list", () => {
    expect(decodeLbaStatus(golden.subarray(0, 30))).toHaveLength(1);
    expect(() => decodeLbaStatus(golden.subarray(0, 7))).toThrow(truncated);
  });
});

describe("mode data (SPC-5 §7.5)", () => {
  const caching = "08 12 04" + "00".repeat(17);
  const control = "0a 0a 04 10 00 40" + "00".repeat(6);

  it("6-byte header: write protect, DPOFUA, block descriptor, pages", () => {
    const golden = bytes("2b 00 90 08 0000100000000200" + caching + control);
    const data = mode.decodeModeData(golden, "mode6");
    expect(data).toMatchObject({ isWriteProtected: true, supportsDpoFua: true });
    expect(data.blockDescriptors.toString("hex")).toBe("0000100000000200");
    const cachingPage = mode.findModePage(data, mode.ModePage.caching);
    const controlPage = mode.findModePage(data, mode.ModePage.control);
    expect(cachingPage && mode.decodeCachingPage(cachingPage)).toEqual({
      isWriteCacheEnabled: true,
      isReadCacheDisabled: false,
    });
    expect(controlPage && mode.decodeControlPage(controlPage)).toMatchObject({
      usesDescriptorSense: true,
      queueAlgorithm: 1,
      reportsTaskAborted: true,
    });
    expect(mode.encodeModeData(data, "mode6").toString("hex")).toBe(golden.toString("hex"));
  });

  it("10-byte header", () => {
    const golden = bytes("001a 00 10 00 00 0000" + caching);
    const data = mode.decodeModeData(golden, "mode10");
    expect(data).toMatchObject({ isWriteProtected: false, supportsDpoFua: true });
    expect(mode.encodeModeData(data, "mode10").toString("hex")).toBe(golden.toString("hex"));
  });

  it("our pages have the standard's lengths", () => {
    const page = mode.encodeCachingPage({ isWriteCacheEnabled: true, isReadCacheDisabled: true });
    expect(page.parameters.length).toBe(0x12);
    expect(page.parameters[0]).toBe(0x05);
    expect(mode.encodeBlockDescriptor(2 ** 40, 4096).toString("hex")).toBe("ffffffff00001000");
  });

  it("reads subpages", () => {
    const data = mode.decodeModeData(bytes("09 00 00 00 ca 01 0002 aabb"), "mode6");
    expect(data.pages).toEqual([{ page: 0x0a, subpage: 1, isSaveable: true, parameters: bytes("aabb") }]);
    expect(mode.encodeModeData(data, "mode6").toString("hex")).toBe("09000000ca010002aabb");
  });

  it("leaves out a page the allocation length cut, and fails typed on a cut header", () => {
    const cut = bytes("17 00 80 00" + caching).subarray(0, 12);
    expect(mode.decodeModeData(cut, "mode6")).toMatchObject({ isWriteProtected: true, pages: [] });
    expect(() => mode.decodeModeData(bytes("17 00"), "mode6")).toThrow(truncated);
    expect(() => mode.decodeModeData(bytes("03 00 00 08"), "mode6")).toThrow(
      expect.objectContaining({ code: "SCSI_DATA_INVALID" }),
    );
  });
});
