import { median, tableRow, variantRow } from "../../bench/statistics.js";

it("takes the middle", () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 2, 3])).toBe(2.5);
  expect(median([7])).toBe(7);
});

it("compares round by round, not median by median", () => {
  const row = tableRow({ shape: "x", unit: "IOPS", ours: [10, 200, 30], rival: [10, 100, 10] });
  expect(row).toBe("| x | IOPS | 30.00 | 10.00 | 2.00 | 1.00-3.00 | - |");
});

it("compares a variant with its base round by round", () => {
  const base = { perSecond: [100, 200, 100], cpuMicros: [5, 5, 5] };
  const row = variantRow("x", "2 connections", { perSecond: [150, 200, 200], cpuMicros: [6, 8, 7] }, base);
  expect(row).toBe("| x | 2 connections | 200 | 1.50 | 1.00-2.00 | 7.0 |");
});
