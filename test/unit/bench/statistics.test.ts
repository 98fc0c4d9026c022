import { median, tableRow } from "../../bench/statistics.js";

it("takes the middle", () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 2, 3])).toBe(2.5);
  expect(median([7])).toBe(7);
});

it("compares round by round, not median by median", () => {
  const row = tableRow({ shape: "x", unit: "IOPS", ours: [10, 200, 30], rival: [10, 100, 10] });
  expect(row).toBe("| x | IOPS | 30.00 | 10.00 | 2.00 | 1.00-3.00 | - |");
});
