import { blockExtents, splitRange, unmapBatches } from "../../../src/block/lun-ranges.js";

describe("ranges", () => {
  test("splitRange", () => {
    expect(splitRange({ lba: 5, blocks: 10 }, 4)).toEqual([
      { lba: 5, blocks: 4 },
      { lba: 9, blocks: 4 },
      { lba: 13, blocks: 2 },
    ]);
  });

  test("unmapBatches keeps both limits", () => {
    const ranges = [
      { lba: 0, blocks: 10 },
      { lba: 20, blocks: 3 },
      { lba: 30, blocks: 1 },
      { lba: 40, blocks: 1 },
    ];
    expect(unmapBatches(ranges, { maxUnmapBlocks: 8, maxUnmapDescriptors: 2 })).toEqual([
      [{ lba: 0, blocks: 8 }],
      [
        { lba: 8, blocks: 2 },
        { lba: 20, blocks: 3 },
      ],
      [
        { lba: 30, blocks: 1 },
        { lba: 40, blocks: 1 },
      ],
    ]);
  });

  test("blockExtents joins, cuts, and does not accept an answer about something else", () => {
    const info = { logicalBlockBytes: 512, unmapReadsZeroes: true };
    const range = { offsetBytes: 1024, lengthBytes: 4096 };
    const extents = blockExtents(
      [
        { lba: 0, blocks: 3, status: "mapped" },
        { lba: 3, blocks: 1, status: "anchored" },
        { lba: 4, blocks: 100, status: "deallocated" },
      ],
      range,
      info,
    );
    expect(extents).toEqual([
      { offsetBytes: 1024, lengthBytes: 1024, isAllocated: true, readsZeroes: false },
      { offsetBytes: 2048, lengthBytes: 3072, isAllocated: false, readsZeroes: true },
    ]);
    expect(() => blockExtents([{ lba: 50, blocks: 1, status: "mapped" }], range, info)).toThrow(/nothing about/);
  });
});
