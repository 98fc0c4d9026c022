import fc from "fast-check";
import { serialAdd, serialDistance, serialLess, serialLessOrEqual } from "../../../src/base/serial32.js";

const serial = fc.integer({ min: 0, max: 0xffff_ffff });

describe("serial numbers (RFC 1982, 32 bits)", () => {
  it("wraps in both directions", () => {
    expect(serialAdd(0xffff_ffff, 1)).toBe(0);
    expect(serialAdd(0, -1)).toBe(0xffff_ffff);
    expect(serialAdd(0x8000_0000, 0)).toBe(0x8000_0000);
  });

  it("orders across the wrap", () => {
    expect(serialLess(0xffff_ffff, 0)).toBe(true);
    expect(serialLess(0, 0xffff_ffff)).toBe(false);
    expect(serialLess(0xffff_fff0, 0x10)).toBe(true);
    expect(serialDistance(0xffff_ffff, 1)).toBe(2);
    expect(serialDistance(1, 0xffff_ffff)).toBe(-2);
  });

  it("puts neither of a pair exactly 2^31 apart first", () => {
    expect(serialLess(0, 0x8000_0000)).toBe(false);
    expect(serialLess(0x8000_0000, 0)).toBe(false);
  });

  it("a number is before what is added to it, up to 2^31 - 1", () => {
    fc.assert(
      fc.property(serial, fc.integer({ min: 1, max: 0x7fff_ffff }), (value, step) => {
        const later = serialAdd(value, step);
        expect(serialLess(value, later)).toBe(true);
        expect(serialLess(later, value)).toBe(false);
        expect(serialDistance(value, later)).toBe(step);
        expect(serialAdd(later, -step)).toBe(value);
      }),
    );
  });

  it("less-or-equal adds equality only", () => {
    expect(serialLessOrEqual(5, 5)).toBe(true);
    expect(serialLessOrEqual(0xffff_ffff, 0)).toBe(true);
    expect(serialLessOrEqual(6, 5)).toBe(false);
  });
});
