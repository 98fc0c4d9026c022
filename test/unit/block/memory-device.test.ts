import { MemoryDevice } from "../../../src/block/memory-device.js";
import { splitFilter } from "../../../src/block/split.js";
import { statsFilter } from "../../../src/block/stats.js";
import { validateFilter } from "../../../src/block/validate.js";
import { SystemClock } from "../../../src/base/system-clock.js";
import { describeBlockDeviceContract } from "../../contract/block-device.js";

for (const logicalBlockBytes of [512, 4096] as const) {
  describeBlockDeviceContract("MemoryDevice", {
    logicalBlockBytes,
    open: (sizeBytes) => {
      const device = new MemoryDevice({ sizeBytes, logicalBlockBytes });
      return Promise.resolve({
        device,
        resize: (newSizeBytes) => {
          device.resize(newSizeBytes);
          return Promise.resolve();
        },
      });
    },
  });

  describeBlockDeviceContract("MemoryDevice behind validate, split and stats", {
    logicalBlockBytes,
    open: (sizeBytes) => {
      const memory = new MemoryDevice({ sizeBytes, logicalBlockBytes, maxTransferBytes: 2 * logicalBlockBytes });
      const device = validateFilter(splitFilter(statsFilter(memory, { clock: new SystemClock() })));
      return Promise.resolve({
        device,
        resize: (newSizeBytes) => {
          memory.resize(newSizeBytes);
          return Promise.resolve();
        },
      });
    },
  });
}

describe("MemoryDevice", () => {
  const TIB = 2 ** 40;

  it("costs nothing where nothing was written, even at a PiB", async () => {
    const device = new MemoryDevice({ sizeBytes: 1024 * TIB });
    const data = Buffer.alloc(4096, 7);
    await device.write(700 * TIB, data);
    const back = Buffer.alloc(4096);
    await device.read(700 * TIB, back);
    expect(back).toEqual(data);
    expect(device.allocatedBytes).toBe(65_536);
    await device.writeZeroes({ offsetBytes: 0, lengthBytes: 1024 * TIB });
    expect(device.allocatedBytes).toBe(0);
    expect(await device.blockStatus({ offsetBytes: 0, lengthBytes: 1024 * TIB })).toEqual([
      { offsetBytes: 0, lengthBytes: 1024 * TIB, isAllocated: false, readsZeroes: true },
    ]);
  });

  it("reports what was written and what was not", async () => {
    const device = new MemoryDevice({ sizeBytes: 1_048_576 });
    await device.write(65_536, Buffer.alloc(131_072, 1));
    expect(await device.blockStatus({ offsetBytes: 512, lengthBytes: 1_048_064 })).toEqual([
      { offsetBytes: 512, lengthBytes: 65_024, isAllocated: false, readsZeroes: true },
      { offsetBytes: 65_536, lengthBytes: 131_072, isAllocated: true, readsZeroes: false },
      { offsetBytes: 196_608, lengthBytes: 851_968, isAllocated: false, readsZeroes: true },
    ]);
  });

  it("forgets what lies beyond a smaller size", async () => {
    const device = new MemoryDevice({ sizeBytes: 131_072 });
    await device.write(65_536, Buffer.alloc(65_536, 9));
    device.resize(66_048);
    device.resize(131_072);
    const back = Buffer.alloc(1024);
    await device.read(65_536, back);
    expect(back.subarray(0, 512).every((byte) => byte === 9)).toBe(true);
    expect(back.subarray(512).every((byte) => byte === 0)).toBe(true);
  });

  it("refuses changes when it is read-only, and sizes that are no whole blocks", async () => {
    const device = new MemoryDevice({ sizeBytes: 4096, isReadOnly: true });
    const refusal = { code: "BLOCK_READ_ONLY" };
    await expect(device.write(0, Buffer.alloc(512))).rejects.toMatchObject(refusal);
    await expect(device.unmap([{ offsetBytes: 0, lengthBytes: 512 }])).rejects.toMatchObject(refusal);
    await expect(device.writeZeroes({ offsetBytes: 0, lengthBytes: 512 })).rejects.toMatchObject(refusal);
    await device.read(0, Buffer.alloc(512));
    expect(() => new MemoryDevice({ sizeBytes: 1000 })).toThrow(
      expect.objectContaining({ code: "BLOCK_INVALID_RANGE" }),
    );
  });

  it("changes nothing when one of several ranges is wrong", async () => {
    const device = new MemoryDevice({ sizeBytes: 4096 });
    await device.write(0, Buffer.alloc(4096, 5));
    const ranges = [
      { offsetBytes: 0, lengthBytes: 512 },
      { offsetBytes: 4096, lengthBytes: 512 },
    ];
    await expect(device.unmap(ranges)).rejects.toMatchObject({ code: "BLOCK_INVALID_RANGE" });
    const back = Buffer.alloc(4096);
    await device.read(0, back);
    expect(back.every((byte) => byte === 5)).toBe(true);
  });
});
