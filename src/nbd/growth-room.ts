import type {
  BlockDevice,
  BlockDeviceInfo,
  BlockExtent,
  ByteRange,
  WriteOptions,
  WriteZeroesOptions,
} from "../block/device.js";
import { BlockError } from "../block/errors.js";
import { ForwardingDevice } from "../block/forwarding-device.js";

/** What a device with room claims to hold: more than any volume, and still far inside every interface's numbers. */
export const GROWTH_ROOM_BYTES = 2 ** 50;

/**
 * The device with a size that never changes, so that a client which learns the size once (nbdfuse) need not be replaced
 * when the volume grows. What lies beyond the real end cannot be used; whoever shows the device onwards (a loop device)
 * must limit it to the real size.
 */
export function withGrowthRoom(device: BlockDevice): BlockDevice {
  return new RoomyDevice(device);
}

class RoomyDevice extends ForwardingDevice {
  #innerInfo: BlockDeviceInfo;
  #info: BlockDeviceInfo;

  constructor(inner: BlockDevice) {
    super(inner);
    this.#innerInfo = inner.info;
    this.#info = Object.freeze({ ...inner.info, sizeBytes: GROWTH_ROOM_BYTES });
  }

  override get info(): BlockDeviceInfo {
    if (this.inner.info !== this.#innerInfo) {
      this.#innerInfo = this.inner.info;
      this.#info = Object.freeze({ ...this.#innerInfo, sizeBytes: GROWTH_ROOM_BYTES });
    }
    return this.#info;
  }

  override async read(offsetBytes: number, target: Buffer): Promise<void> {
    this.#check(offsetBytes, target.length);
    await this.inner.read(offsetBytes, target);
  }

  override async write(offsetBytes: number, source: Buffer, options?: WriteOptions): Promise<void> {
    this.#check(offsetBytes, source.length);
    await this.inner.write(offsetBytes, source, options);
  }

  override async unmap(ranges: readonly ByteRange[]): Promise<void> {
    for (const range of ranges) this.#check(range.offsetBytes, range.lengthBytes);
    await this.inner.unmap(ranges);
  }

  override async writeZeroes(range: ByteRange, options?: WriteZeroesOptions): Promise<void> {
    this.#check(range.offsetBytes, range.lengthBytes);
    await this.inner.writeZeroes(range, options);
  }

  override async blockStatus(range: ByteRange): Promise<readonly BlockExtent[]> {
    const realBytes = this.inner.info.sizeBytes;
    if (range.offsetBytes >= realBytes) return [{ ...range, isAllocated: false, readsZeroes: true }];
    const lengthBytes = Math.min(range.lengthBytes, realBytes - range.offsetBytes);
    return this.inner.blockStatus({ offsetBytes: range.offsetBytes, lengthBytes });
  }

  #check(offsetBytes: number, lengthBytes: number): void {
    if (offsetBytes + lengthBytes <= this.inner.info.sizeBytes) return;
    throw new BlockError(
      "BLOCK_INVALID_RANGE",
      `offset ${offsetBytes} and ${lengthBytes} bytes are beyond the device's end`,
    );
  }
}
