import type { BlockDevice, BlockDeviceInfo, BlockExtent, ByteRange, DeviceIdentity } from "./device.js";
import { BlockError } from "./errors.js";

export interface NullDeviceOptions {
  readonly sizeBytes: number;
  readonly logicalBlockBytes?: number;
  readonly identity?: DeviceIdentity;
}

/** For benchmarks only: reads give zeroes, writes are acknowledged and lost. It measures everything but the medium. */
export class NullDevice implements BlockDevice {
  readonly info: BlockDeviceInfo;
  #isClosed = false;

  constructor(options: NullDeviceOptions) {
    const logicalBlockBytes = options.logicalBlockBytes ?? 512;
    this.info = Object.freeze({
      sizeBytes: options.sizeBytes,
      logicalBlockBytes,
      physicalBlockBytes: Math.max(4096, logicalBlockBytes),
      maxTransferBytes: 33_554_432,
      optimalTransferBytes: 0,
      isReadOnly: false,
      hasVolatileCache: false,
      canUnmap: true,
      unmapReadsZeroes: true,
      canWriteZeroes: true,
      canReportBlockStatus: false,
      unmapGranularityBytes: logicalBlockBytes,
      identity: options.identity ?? { id: "", vendor: "HAWSER", product: "null", revision: "1", serial: "" },
    });
  }

  read(offsetBytes: number, target: Buffer): Promise<void> {
    target.fill(0);
    return this.#check(offsetBytes, target.length);
  }

  write(offsetBytes: number, source: Buffer): Promise<void> {
    return this.#check(offsetBytes, source.length);
  }

  flush(): Promise<void> {
    return this.#check(0, 0);
  }

  async unmap(ranges: readonly ByteRange[]): Promise<void> {
    for (const range of ranges) await this.#check(range.offsetBytes, range.lengthBytes);
  }

  writeZeroes(range: ByteRange): Promise<void> {
    return this.#check(range.offsetBytes, range.lengthBytes);
  }

  async blockStatus(range: ByteRange): Promise<readonly BlockExtent[]> {
    await this.#check(range.offsetBytes, range.lengthBytes);
    return [{ ...range, isAllocated: false, readsZeroes: true }];
  }

  /** Nothing ever changes. */
  onEvent(): () => void {
    return () => undefined;
  }

  close(): Promise<void> {
    this.#isClosed = true;
    return Promise.resolve();
  }

  #check(offsetBytes: number, lengthBytes: number): Promise<void> {
    if (this.#isClosed) return Promise.reject(new BlockError("BLOCK_CLOSED", "the null device is closed"));
    const block = this.info.logicalBlockBytes;
    const isAligned = offsetBytes % block === 0 && lengthBytes % block === 0;
    if (isAligned && offsetBytes >= 0 && offsetBytes + lengthBytes <= this.info.sizeBytes) return Promise.resolve();
    return Promise.reject(
      new BlockError("BLOCK_INVALID_RANGE", `${lengthBytes} bytes at ${offsetBytes} are not in the null device`),
    );
  }
}
