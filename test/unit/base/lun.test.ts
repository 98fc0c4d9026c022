import {
  formatLun,
  LUN_ZERO,
  lunEquals,
  lunFromNumber,
  lunToNumber,
  readLun,
  writeLun,
} from "../../../src/base/lun.js";

const hexOf = (index: number): string => {
  const bytes = Buffer.alloc(8);
  writeLun(lunFromNumber(index), bytes, 0);
  return bytes.toString("hex");
};

describe("LUN structure (SAM-5 §4.7)", () => {
  it.each<[number, string]>([
    [0, "0000000000000000"],
    [1, "0001000000000000"],
    [255, "00ff000000000000"],
    [256, "4100000000000000"],
    [16_383, "7fff000000000000"],
    [16_384, "d200400000000000"],
    [0xff_ffff, "d2ffffff00000000"],
  ])("%d is %s", (index, hex) => {
    expect(hexOf(index)).toBe(hex);
    expect(lunToNumber(readLun(Buffer.from(hex, "hex"), 0))).toBe(index);
  });

  it("reads flat addressing of a small number", () => {
    expect(lunToNumber(readLun(Buffer.from("4005000000000000", "hex"), 0))).toBe(5);
  });

  it.each([
    ["two levels", "0001000200000000"],
    ["another bus", "0101000000000000"],
    ["logical unit addressing", "8001000000000000"],
    ["a well-known logical unit", "c101000000000000"],
    ["low half in use", "0001000000000001"],
  ])("has no index for %s and prints all digits", (_name, hex) => {
    const lun = readLun(Buffer.from(hex, "hex"), 0);
    expect(lunToNumber(lun)).toBeUndefined();
    expect(formatLun(lun)).toBe(`0x${hex}`);
  });

  it.each([-1, 0.5, 0x100_0000, Number.NaN])("refuses the index %d", (index) => {
    expect(() => lunFromNumber(index)).toThrow(expect.objectContaining({ code: "LUN_OUT_OF_RANGE" }));
  });

  it("compares by value and prints plain numbers", () => {
    expect(lunEquals(lunFromNumber(0), LUN_ZERO)).toBe(true);
    expect(lunEquals(lunFromNumber(1), LUN_ZERO)).toBe(false);
    expect(formatLun(lunFromNumber(300))).toBe("300");
  });
});
