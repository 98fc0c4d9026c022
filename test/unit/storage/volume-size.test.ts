import { chooseSize, fitsRange } from "../../../src/storage/volume-size.js";

const GIB = 2 ** 30;

describe("chooseSize", () => {
  it.each([
    [10 * GIB, 0, 10 * GIB],
    [10 * GIB, 10 * GIB, 10 * GIB],
    [10 * GIB + 1, 0, 10 * GIB + 4096],
    [1, 0, 2 ** 20],
    [0, 0, GIB],
    [0, 5 * GIB, GIB],
    [0, 100 * 2 ** 20 + 17, 100 * 2 ** 20],
  ])("of %d to %d bytes is %d", (requiredBytes, limitBytes, expected) => {
    expect(chooseSize({ requiredBytes, limitBytes })).toBe(expected);
  });

  it.each([
    [GIB + 1, GIB + 100, "STORAGE_OUT_OF_RANGE"],
    [0, 4096, "STORAGE_OUT_OF_RANGE"],
    [2 ** 52, 0, "STORAGE_OUT_OF_RANGE"],
    [2, 1, "STORAGE_INVALID"],
    [-1, 0, "STORAGE_INVALID"],
    [0.5, 0, "STORAGE_INVALID"],
    [2 ** 60, 0, "STORAGE_INVALID"],
  ])("of %d to %d bytes fails with %3$s", (requiredBytes, limitBytes, code) => {
    expect(() => chooseSize({ requiredBytes, limitBytes })).toThrow(expect.objectContaining({ code }));
  });
});

describe("fitsRange", () => {
  it("takes an open limit", () => {
    expect(fitsRange(GIB, { requiredBytes: GIB, limitBytes: 0 })).toBe(true);
    expect(fitsRange(GIB, { requiredBytes: GIB + 1, limitBytes: 0 })).toBe(false);
    expect(fitsRange(GIB, { requiredBytes: 0, limitBytes: GIB - 1 })).toBe(false);
  });
});
