import { SeededRandom } from "../../src/base/seeded-random.js";
import type { BlockDevice, DeviceEvent } from "../../src/block/device.js";

/** One kind of device for the suite. */
export interface BlockDeviceUnderTest {
  readonly device: BlockDevice;
  /** Changes the size behind the device's back, as an administrator would; leave it out where that cannot be. */
  readonly resize?: (sizeBytes: number) => Promise<void>;
  /** Called after the device was closed. */
  readonly cleanUp?: () => Promise<void>;
}

export interface BlockDeviceContractOptions {
  readonly logicalBlockBytes: 512 | 4096;
  /** A new device of this size that reads as zeroes. */
  open(sizeBytes: number): Promise<BlockDeviceUnderTest>;
  /** Devices that keep nothing (null device): data are not compared. */
  readonly keepsNothing?: boolean;
}

const MIB = 1_048_576;
const SIZE_BYTES = 8 * MIB;

/** What every BlockDevice must do, whatever is behind it. Call it at the top level of a test file. */
export function describeBlockDeviceContract(name: string, options: BlockDeviceContractOptions): void {
  const block = options.logicalBlockBytes;
  const keeps = options.keepsNothing !== true;

  describe(`${name} keeps the BlockDevice contract with ${block}-byte blocks`, () => {
    let subject: BlockDeviceUnderTest;
    let device: BlockDevice;

    beforeEach(async () => {
      subject = await options.open(SIZE_BYTES);
      device = subject.device;
    });

    afterEach(async () => {
      await device.close().catch(() => undefined);
      await subject.cleanUp?.();
    });

    const pattern = (seed: number, lengthBytes: number): Buffer => new SeededRandom(seed).bytes(lengthBytes);
    const readBack = async (offsetBytes: number, lengthBytes: number): Promise<Buffer> => {
      const target = Buffer.alloc(lengthBytes, 0xee);
      await device.read(offsetBytes, target);
      return target;
    };

    it("describes itself with whole blocks", () => {
      const { info } = device;
      expect(info.logicalBlockBytes).toBe(block);
      expect(info.sizeBytes).toBe(SIZE_BYTES);
      expect(info.physicalBlockBytes % block).toBe(0);
      expect(info.maxTransferBytes).toBeGreaterThanOrEqual(info.physicalBlockBytes);
      expect(info.maxTransferBytes % block).toBe(0);
      expect(info.isReadOnly).toBe(false);
    });

    it("reads zeroes where nothing was written", async () => {
      expect((await readBack(0, 16 * block)).every((byte) => byte === 0)).toBe(true);
      expect((await readBack(SIZE_BYTES - block, block)).every((byte) => byte === 0)).toBe(true);
    });

    if (keeps) {
      it("reads what was written, and nothing beside it changes", async () => {
        const data = pattern(1, 7 * block);
        await device.write(3 * block, data);
        expect((await readBack(3 * block, data.length)).equals(data)).toBe(true);
        expect((await readBack(2 * block, block)).every((byte) => byte === 0)).toBe(true);
        expect((await readBack(10 * block, block)).every((byte) => byte === 0)).toBe(true);
      });

      it("writes the first and the last block", async () => {
        await device.write(0, pattern(2, block));
        await device.write(SIZE_BYTES - block, pattern(3, block), { fua: true });
        await device.flush();
        expect((await readBack(0, block)).equals(pattern(2, block))).toBe(true);
        expect((await readBack(SIZE_BYTES - block, block)).equals(pattern(3, block))).toBe(true);
      });

      it("leaves the caller's buffer as it was and does not keep it", async () => {
        const data = pattern(4, 2 * block);
        const copy = Buffer.from(data);
        await device.write(0, data);
        expect(data).toEqual(copy);
        data.fill(0);
        expect((await readBack(0, copy.length)).equals(copy)).toBe(true);
      });

      it("takes many operations at once", async () => {
        const count = 64;
        const step = 4 * block;
        const writes = Array.from({ length: count }, (_, index) => device.write(index * step, pattern(index, step)));
        await Promise.all(writes);
        const reads = await Promise.all(Array.from({ length: count }, (_, index) => readBack(index * step, step)));
        reads.forEach((bytes, index) => expect(bytes.equals(pattern(index, step))).toBe(true));
      });

      it("writes zeroes", async () => {
        if (!device.info.canWriteZeroes) return;
        await device.write(0, pattern(5, 64 * block));
        await device.writeZeroes({ offsetBytes: 8 * block, lengthBytes: 16 * block });
        await device.writeZeroes({ offsetBytes: 40 * block, lengthBytes: 8 * block }, { mayUnmap: true, fua: true });
        const expected = pattern(5, 64 * block)
          .fill(0, 8 * block, 24 * block)
          .fill(0, 40 * block, 48 * block);
        expect((await readBack(0, expected.length)).equals(expected)).toBe(true);
      });

      it("unmaps several ranges and keeps what lies between them", async () => {
        if (!device.info.canUnmap) return;
        const grain = Math.max(device.info.unmapGranularityBytes, block);
        const data = pattern(6, 8 * grain);
        await device.write(0, data);
        await device.unmap([
          { offsetBytes: 0, lengthBytes: 2 * grain },
          { offsetBytes: 4 * grain, lengthBytes: grain },
        ]);
        expect((await readBack(2 * grain, 2 * grain)).equals(data.subarray(2 * grain, 4 * grain))).toBe(true);
        expect((await readBack(5 * grain, 3 * grain)).equals(data.subarray(5 * grain))).toBe(true);
        if (!device.info.unmapReadsZeroes) return;
        expect((await readBack(0, 2 * grain)).every((byte) => byte === 0)).toBe(true);
        expect((await readBack(4 * grain, grain)).every((byte) => byte === 0)).toBe(true);
      });

      it("reports block status in order, without gaps, and never calls data zero", async () => {
        if (!device.info.canReportBlockStatus) return;
        await device.write(MIB, pattern(7, 256 * 1024));
        const range = { offsetBytes: 0, lengthBytes: 4 * MIB };
        let at = 0;
        while (at < range.lengthBytes) {
          const extents = await device.blockStatus({ offsetBytes: at, lengthBytes: range.lengthBytes - at });
          expect(extents.length).toBeGreaterThan(0);
          for (const extent of extents) {
            expect(extent.offsetBytes).toBe(at);
            expect(extent.lengthBytes).toBeGreaterThan(0);
            at += extent.lengthBytes;
            const holdsData = extent.offsetBytes < MIB + 256 * 1024 && at > MIB;
            if (holdsData) expect(extent).toMatchObject({ isAllocated: true, readsZeroes: false });
          }
        }
        expect(at).toBe(range.lengthBytes);
      });

      it("keeps data when it grows, and reads zeroes in what is new", async () => {
        if (subject.resize === undefined) return;
        await device.write(SIZE_BYTES - block, pattern(8, block));
        const events: DeviceEvent[] = [];
        const stop = device.onEvent((event) => events.push(event));
        await subject.resize(2 * SIZE_BYTES);
        expect(events).toContainEqual({ kind: "info-changed", info: device.info });
        expect(device.info.sizeBytes).toBe(2 * SIZE_BYTES);
        expect((await readBack(SIZE_BYTES - block, block)).equals(pattern(8, block))).toBe(true);
        expect((await readBack(2 * SIZE_BYTES - block, block)).every((byte) => byte === 0)).toBe(true);
        stop();
        const seen = events.length;
        await subject.resize(3 * SIZE_BYTES);
        expect(events).toHaveLength(seen);
      });
    }

    it.each<[string, number, number]>([
      ["beyond the end", SIZE_BYTES, block],
      ["across the end", SIZE_BYTES - block, 2 * block],
      ["at a negative offset", -block, block],
      ["at an offset inside a block", 1, block],
      ["of part of a block", 0, block - 1],
    ])("refuses a transfer %s", async (_name, offsetBytes, lengthBytes) => {
      const refusal = { code: "BLOCK_INVALID_RANGE", layer: "block" };
      await expect(device.read(offsetBytes, Buffer.alloc(lengthBytes))).rejects.toMatchObject(refusal);
      await expect(device.write(offsetBytes, Buffer.alloc(lengthBytes))).rejects.toMatchObject(refusal);
    });

    it("refuses everything after it was closed, and may be closed twice", async () => {
      await device.close();
      await device.close();
      const closed = { code: "BLOCK_CLOSED" };
      await expect(device.read(0, Buffer.alloc(block))).rejects.toMatchObject(closed);
      await expect(device.write(0, Buffer.alloc(block))).rejects.toMatchObject(closed);
      await expect(device.flush()).rejects.toMatchObject(closed);
    });
  });
}
