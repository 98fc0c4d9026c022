import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeDeviceIdentification } from "../../src/scsi/designators.js";
import { encodeInquiry } from "../../src/scsi/inquiry.js";
import { encodeSense } from "../../src/scsi/sense.js";
import {
  encodeBlockDeviceCharacteristics,
  encodeBlockLimits,
  encodeLogicalBlockProvisioning,
  encodeSupportedPages,
  encodeUnitSerialNumber,
} from "../../src/scsi/vpd.js";
import { describeNeeding } from "../support/needs.js";

/** What we encode, read by sg3_utils: a reader of the same standards that shares nothing with us. */
describeNeeding(["sg_inq", "sg_vpd", "sg_decode_sense"], "sg3_utils reads our parameter data", () => {
  let folder: string;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "hawser-sg-"));
  });

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  function read(program: string, bytes: Buffer, args: readonly string[]): string {
    const file = join(folder, "data.hex");
    writeFileSync(file, bytes.toString("hex").replace(/../g, "$& "));
    return execFileSync(program, [...args, `--inhex=${file}`], { encoding: "utf8" });
  }

  it("standard INQUIRY data", () => {
    const data = encodeInquiry({
      peripheralQualifier: 0,
      deviceType: 0,
      isRemovable: false,
      version: 6,
      targetPortGroupSupport: 1,
      supportsThirdPartyCopy: true,
      supportsProtection: false,
      hasMultiplePorts: false,
      supportsCommandQueuing: true,
      vendor: "HAWSER",
      product: "volume",
      revision: "0001",
      versionDescriptors: [0x0960],
    });
    const text = read("sg_inq", data, []);
    for (const fact of [
      "TPGS=1",
      "3PC=1",
      "CmdQue=1",
      "Vendor identification: HAWSER",
      "Product identification: volume",
    ]) {
      expect(text).toContain(fact);
    }
    expect(text).toMatch(/SPC-4/);
  });

  it("designators", () => {
    const page = encodeDeviceIdentification([
      { association: "logical-unit", kind: "naa", hex: "6001405deadbeef00000000000000001" },
      { association: "logical-unit", kind: "t10", vendor: "HAWSER", text: "vol1" },
      { association: "target-port", kind: "relative-port", port: 1 },
      { association: "target-port", kind: "target-port-group", group: 2 },
      { association: "target-device", kind: "scsi-name", text: "iqn.2026-11.a:b" },
    ]);
    const text = read("sg_vpd", page, ["--page=di"]);
    expect(text).toContain("0x6001405deadbeef00000000000000001");
    expect(text).toMatch(/vendor id: HAWSER/);
    expect(text).toMatch(/Relative target port: 0x1/);
    expect(text).toMatch(/Target port group: 0x2/);
    expect(text).toContain("iqn.2026-11.a:b");
    expect(text).toMatch(/transport: Internet SCSI \(iSCSI\)/);
  });

  it("serial number and supported pages", () => {
    expect(read("sg_vpd", encodeUnitSerialNumber("abc-1"), ["--page=sn"])).toContain("Unit serial number: abc-1");
    const pages = read("sg_vpd", encodeSupportedPages([0, 0x80, 0x83, 0xb0]), ["--page=sv"]);
    expect(pages).toMatch(/Unit serial number/);
    expect(pages).toMatch(/Block limits/);
  });

  it("block limits, characteristics and provisioning", () => {
    const limits = encodeBlockLimits({
      refusesZeroWriteSame: true,
      maxCompareAndWriteBlocks: 255,
      optimalGranularityBlocks: 8,
      maxTransferBlocks: 2048,
      optimalTransferBlocks: 256,
      maxUnmapBlocks: 4_194_304,
      maxUnmapDescriptors: 256,
      optimalUnmapGranularityBlocks: 8,
      unmapAlignmentBlocks: 2,
      maxWriteSameBlocks: 65_536,
      maxAtomicBlocks: 16,
      atomicAlignmentBlocks: 1,
      atomicGranularityBlocks: 2,
    });
    const text = read("sg_vpd", limits, ["--page=bl"]);
    for (const fact of [
      "(WSNZ): 1",
      "Maximum compare and write length: 255 blocks",
      "Optimal transfer length granularity: 8 blocks",
      "Maximum transfer length: 2048 blocks",
      "Optimal transfer length: 256 blocks",
      "Maximum unmap LBA count: 4194304",
      "Maximum unmap block descriptor count: 256",
      "Optimal unmap granularity: 8 blocks",
      "Unmap granularity alignment valid: true",
      "Unmap granularity alignment: 2",
      "Maximum write same length: 0x10000 blocks",
      "Maximum atomic transfer length: 16 blocks",
    ]) {
      expect(text).toContain(fact);
    }
    const characteristics = encodeBlockDeviceCharacteristics({ rotationRate: 1, flushesNonVolatileCache: false });
    expect(read("sg_vpd", characteristics, ["--page=bdc"])).toMatch(/Non-rotating medium/);
    const provisioning = encodeLogicalBlockProvisioning({
      thresholdExponent: 0,
      supportsUnmap: true,
      supportsWriteSame16Unmap: true,
      supportsWriteSame10Unmap: false,
      unmapReadsZeroes: true,
      supportsAnchor: false,
      type: "thin",
    });
    const thin = read("sg_vpd", provisioning, ["--page=lbpv"]);
    expect(thin).toMatch(/\(LBPU\): 1/);
    expect(thin).toMatch(/\(LBPWS\): 1/);
    expect(thin).toMatch(/\(LBPWS10\): 0/);
    expect(thin).toMatch(/\(LBPRZ\): 1/);
    expect(thin).toMatch(/Provisioning type: 2/);
  });

  it.each(["fixed", "descriptor"] as const)("sense data in %s format", (format) => {
    const sense = encodeSense(
      { key: 5, asc: 0x24, ascq: 0, fieldPointer: { isInCdb: true, byteOffset: 7, bit: 2 } },
      format,
    );
    const text = execFileSync("sg_decode_sense", sense.toString("hex").match(/../g) ?? [], { encoding: "utf8" });
    expect(text).toMatch(/Illegal Request/i);
    expect(text).toMatch(/Invalid field in cdb/i);
    expect(text).toMatch(/Command: byte 7 bit 2/i);
  });

  it("sense data with INFORMATION", () => {
    const sense = encodeSense({ key: 3, asc: 0x11, ascq: 0, information: 0x1_2345_6789 }, "descriptor");
    const text = execFileSync("sg_decode_sense", sense.toString("hex").match(/../g) ?? [], { encoding: "utf8" });
    expect(text).toMatch(/Medium Error/i);
    expect(text).toMatch(/Unrecovered read error/i);
    expect(text).toContain("0000000123456789");
  });
});
