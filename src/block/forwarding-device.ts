import type {
  BlockDevice,
  BlockDeviceInfo,
  BlockExtent,
  ByteRange,
  DeviceEvent,
  WriteOptions,
  WriteZeroesOptions,
} from "./device.js";

/** Hands every operation to another device. Filters extend it and override what they are about. */
export class ForwardingDevice implements BlockDevice {
  protected readonly inner: BlockDevice;

  /** Takes over `inner`: closing this device closes it. */
  constructor(inner: BlockDevice) {
    this.inner = inner;
  }

  get info(): BlockDeviceInfo {
    return this.inner.info;
  }

  read(offsetBytes: number, target: Buffer): Promise<void> {
    return this.inner.read(offsetBytes, target);
  }

  write(offsetBytes: number, source: Buffer, options?: WriteOptions): Promise<void> {
    return this.inner.write(offsetBytes, source, options);
  }

  flush(): Promise<void> {
    return this.inner.flush();
  }

  unmap(ranges: readonly ByteRange[]): Promise<void> {
    return this.inner.unmap(ranges);
  }

  writeZeroes(range: ByteRange, options?: WriteZeroesOptions): Promise<void> {
    return this.inner.writeZeroes(range, options);
  }

  blockStatus(range: ByteRange): Promise<readonly BlockExtent[]> {
    return this.inner.blockStatus(range);
  }

  onEvent(listener: (event: DeviceEvent) => void): () => void {
    return this.inner.onEvent(listener);
  }

  close(): Promise<void> {
    return this.inner.close();
  }
}
