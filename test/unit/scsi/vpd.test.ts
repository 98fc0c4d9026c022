import {
  decodeDeviceIdentification,
  encodeDeviceIdentification,
  type Designator,
} from "../../../src/scsi/designators.js";
import { selectDeviceId } from "../../../src/scsi/device-identity.js";
import * as vpd from "../../../src/scsi/vpd.js";

const bytes = (hex: string): Buffer => Buffer.from(hex.replace(/\s/g, ""), "hex");
const truncated = expect.objectContaining({ code: "SCSI_DATA_TRUNCATED" }) as Error;

describe("VPD pages (SPC-5 §7.7, SBC-4 §6.6)", () => {
  it("00h lists pages in ascending order", () => {
    expect(vpd.encodeSupportedPages([0xb0, 0x00, 0x83]).toString("hex")).toBe("000000030083b0");
    expect(vpd.decodeSupportedPages(bytes("00000003 0083b0"))).toEqual([0, 0x83, 0xb0]);
  });

  it("80h gives the serial without padding", () => {
    expect(vpd.decodeUnitSerialNumber(bytes("00800008 2020626561663131"))).toBe("beaf11");
    expect(vpd.encodeUnitSerialNumber("ab").toString("hex")).toBe("008000026162");
  });

  it("B0h block limits", () => {
    const golden = bytes(
      `00b0003c 01 ff 0008 00000800 00000100 00000000 00400000 00000100 00000008 80000002
       0000000000010000 00000010 00000001 00000002` + "00".repeat(8),
    );
    const limits = {
      refusesZeroWriteSame: true,
      maxCompareAndWriteBlocks: 255,
      optimalGranularityBlocks: 8,
      maxTransferBlocks: 2048,
      optimalTransferBlocks: 256,
      maxUnmapBlocks: 0x40_0000,
      maxUnmapDescriptors: 256,
      optimalUnmapGranularityBlocks: 8,
      unmapAlignmentBlocks: 2,
      maxWriteSameBlocks: 65_536,
      maxAtomicBlocks: 16,
      atomicAlignmentBlocks: 1,
      atomicGranularityBlocks: 2,
    };
    expect(vpd.decodeBlockLimits(golden)).toEqual(limits);
    expect(vpd.encodeBlockLimits(limits).toString("hex")).toBe(golden.toString("hex"));
  });

  it("B0h of an old device has only the first fields", () => {
    const limits = vpd.decodeBlockLimits(bytes("00b0000c 00 00 0000 00000800 00000100"));
    expect(limits).toMatchObject({ maxTransferBlocks: 2048, maxUnmapBlocks: 0, maxWriteSameBlocks: 0 });
    expect(limits).not.toHaveProperty("unmapAlignmentBlocks");
  });

  it("B0h with no limit on WRITE SAME stays larger than every device", () => {
    const page = bytes("00b0003c" + "00".repeat(32) + "ffffffffffffffff" + "00".repeat(20));
    expect(vpd.decodeBlockLimits(page).maxWriteSameBlocks).toBeGreaterThan(Number.MAX_SAFE_INTEGER);
  });

  it("B1h and B2h", () => {
    const characteristics = { rotationRate: 1, flushesNonVolatileCache: false };
    expect(vpd.encodeBlockDeviceCharacteristics(characteristics).toString("hex")).toBe(
      "00b1003c0001" + "00".repeat(58),
    );
    expect(vpd.decodeBlockDeviceCharacteristics(bytes("00b1003c 0001" + "00".repeat(58)))).toEqual(characteristics);
    const provisioning = {
      thresholdExponent: 0,
      supportsUnmap: true,
      supportsWriteSame16Unmap: true,
      supportsWriteSame10Unmap: false,
      unmapReadsZeroes: true,
      supportsAnchor: false,
      type: "thin",
    } as const;
    expect(vpd.decodeLogicalBlockProvisioning(bytes("00b20004 00 c4 02 00"))).toEqual(provisioning);
    expect(vpd.encodeLogicalBlockProvisioning(provisioning).toString("hex")).toBe("00b2000400c40200");
  });

  it("fails typed when the page is cut or another one", () => {
    expect(() => vpd.decodeSupportedPages(bytes("00000003 00"))).toThrow(truncated);
    expect(vpd.vpdRequiredBytes(bytes("00830100"))).toBe(260);
    expect(() => vpd.decodeUnitSerialNumber(bytes("00830002 6162"))).toThrow(
      expect.objectContaining({ code: "SCSI_DATA_INVALID" }),
    );
    expect(() => vpd.decodeLogicalBlockProvisioning(bytes("00b20001 00"))).toThrow(truncated);
  });
});

describe("device identification, page 83h", () => {
  const golden = bytes(
    `00 83 0054
     01 03 00 10 6001405deadbeef00000000000000001
     02 01 00 0c 4841575345522020 766f6c31
     01 02 00 08 0025385b00000001
     51 94 00 04 00000001
     51 95 00 04 00000002
     53 a8 00 10 69716e2e323032362d31312e613a6200`,
  );
  const designators: Designator[] = [
    { association: "logical-unit", kind: "naa", hex: "6001405deadbeef00000000000000001" },
    { association: "logical-unit", kind: "t10", vendor: "HAWSER", text: "vol1" },
    { association: "logical-unit", kind: "eui", hex: "0025385b00000001" },
    { association: "target-port", kind: "relative-port", port: 1 },
    { association: "target-port", kind: "target-port-group", group: 2 },
    { association: "target-device", kind: "scsi-name", text: "iqn.2026-11.a:b" },
  ];

  it("is read and written", () => {
    expect(decodeDeviceIdentification(golden)).toEqual(designators);
    expect(encodeDeviceIdentification(designators).toString("hex")).toBe(golden.toString("hex"));
  });

  it("keeps designators of a wrong length or unknown type as they are", () => {
    expect(decodeDeviceIdentification(bytes("00830012 01 03 00 08 6001405deadbeef0 01 00 00 02 abcd"))).toEqual([
      { association: "logical-unit", kind: "other", type: 3, hex: "6001405deadbeef0" },
      { association: "logical-unit", kind: "other", type: 0, hex: "abcd" },
    ]);
  });

  it("fails typed when a designator overruns the page", () => {
    expect(() => decodeDeviceIdentification(bytes("00830006 01 03 00 08 6001"))).toThrow(truncated);
    expect(() => decodeDeviceIdentification(bytes("00830003 010300"))).toThrow(truncated);
  });

  const select = (list: Designator[], serial = ""): string =>
    selectDeviceId({ designators: list, vendor: "HAWSER", serial });

  it("chooses the strongest designator of the logical unit", () => {
    expect(select(designators)).toBe("naa.6001405deadbeef00000000000000001");
    expect(select(designators.slice(1))).toBe("eui.0025385b00000001");
    expect(select(designators.slice(1, 2))).toBe("t10.HAWSER.vol1");
    expect(select(designators.slice(3), "S 1/2")).toBe("serial.HAWSER.S_1_2");
    expect(select([])).toBe("");
  });

  it("does not depend on the order in which the device lists them", () => {
    const several: Designator[] = [
      { association: "logical-unit", kind: "naa", hex: "3000000000000001" },
      { association: "logical-unit", kind: "naa", hex: "6bbb0000000000000000000000000000" },
      { association: "logical-unit", kind: "naa", hex: "6aaa0000000000000000000000000000" },
    ];
    expect(select(several)).toBe("naa.6aaa0000000000000000000000000000");
    expect(select([...several].reverse())).toBe(select(several));
  });

  it("ignores the port's names and names of all zeroes", () => {
    expect(
      select(
        [
          { association: "target-port", kind: "naa", hex: "5000000000000001" },
          { association: "logical-unit", kind: "naa", hex: "60000000000000000000000000000000" },
          { association: "logical-unit", kind: "eui", hex: "0000000000000000" },
        ],
        "x",
      ),
    ).toBe("serial.HAWSER.x");
  });
});
