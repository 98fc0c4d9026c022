import type { BlockDeviceInfo } from "../../../src/block/device.js";
import { MemoryDevice } from "../../../src/block/memory-device.js";
import { mergeInfos, otherUnit, smallerUnit } from "../../../src/multipath/merged-info.js";

const base = new MemoryDevice({ sizeBytes: 8_192, id: "naa.6001405000000001" }).info;
const like = (change: Partial<BlockDeviceInfo>): BlockDeviceInfo => ({ ...base, ...change });

describe("mergeInfos", () => {
  it("takes what every path can do", () => {
    const other = like({
      ...{ maxTransferBytes: 65_536, optimalTransferBytes: 4_096, isReadOnly: true, hasVolatileCache: true },
      ...{ canUnmap: false, unmapReadsZeroes: false, canWriteZeroes: false, canReportBlockStatus: false },
      ...{ unmapGranularityBytes: 4_096, sizeBytes: 16_384 },
    });
    const merged = mergeInfos([base, other], 8_192);
    expect(merged).toEqual({ ...other, optimalTransferBytes: 0, sizeBytes: 8_192 });
    expect(mergeInfos([other, base], 8_192)).toEqual({ ...other, sizeBytes: 8_192 });
    expect(Object.isFrozen(merged)).toBe(true);
  });
});

describe("otherUnit", () => {
  it("accepts the same unit, whatever its revision and its size", () => {
    const found = like({ sizeBytes: 4_096, identity: { ...base.identity, revision: "2", serial: "9" } });
    expect(otherUnit("a", base, found)).toBeUndefined();
  });

  it("refuses another name, and names both", () => {
    const found = like({ identity: { ...base.identity, id: "naa.6001405000000002" } });
    expect(otherUnit("a", base, found)).toMatchObject({
      code: "MULTIPATH_PATH_REFUSED",
      retry: "other-path",
      details: { expected: "naa.6001405000000001", found: "naa.6001405000000002" },
    });
  });

  it.each(["vendor", "product", "serial"] as const)("refuses another %s where there is no name", (field) => {
    const nameless = like({ identity: { ...base.identity, id: "", serial: "1" } });
    const found = like({ identity: { ...nameless.identity, [field]: "other" } });
    expect(otherUnit("a", nameless, nameless)).toBeUndefined();
    expect(otherUnit("a", nameless, found)).toMatchObject({ code: "MULTIPATH_PATH_REFUSED" });
  });

  it("refuses another block size", () => {
    expect(otherUnit("a", base, like({ logicalBlockBytes: 4_096 }))).toMatchObject({
      details: { expected: "blocks of 512 bytes", found: "blocks of 4096 bytes" },
    });
  });
});

describe("smallerUnit", () => {
  it("refuses what is smaller, and nothing else", () => {
    expect(smallerUnit("a", base, base)).toBeUndefined();
    expect(smallerUnit("a", base, like({ sizeBytes: 16_384 }))).toBeUndefined();
    expect(smallerUnit("a", base, like({ sizeBytes: 4_096 }))).toMatchObject({
      code: "MULTIPATH_PATH_REFUSED",
      details: { expected: "8192 bytes", found: "4096 bytes" },
    });
  });
});
