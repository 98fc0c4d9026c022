import type { BlockDevice, BlockExtent, ByteRange, WriteOptions, WriteZeroesOptions } from "./device.js";
import { BlockError } from "./errors.js";
import { ForwardingDevice } from "./forwarding-device.js";

/**
 * A device that refuses, before `device` sees it, what the contract forbids: ranges outside the device or not aligned
 * (BLOCK_INVALID_RANGE), changes of a read-only device (BLOCK_READ_ONLY), anything after `close` (BLOCK_CLOSED) and
 * what the device says it cannot do (BLOCK_NOT_SUPPORTED). Operations on zero bytes succeed without reaching it.
 */
export function validateFilter(device: BlockDevice): BlockDevice {
  return new ValidatedDevice(device);
}

class ValidatedDevice extends ForwardingDevice {
  #closing: Promise<void> | undefined;

  override read(offsetBytes: number, target: Buffer): Promise<void> {
    const refusal = this.#refusal(offsetBytes, target.length);
    if (refusal !== undefined) return Promise.reject(refusal);
    return target.length === 0 ? Promise.resolve() : this.inner.read(offsetBytes, target);
  }

  override write(offsetBytes: number, source: Buffer, options?: WriteOptions): Promise<void> {
    const refusal = this.#refusal(offsetBytes, source.length) ?? this.#readOnlyRefusal("write");
    if (refusal !== undefined) return Promise.reject(refusal);
    return source.length === 0 ? Promise.resolve() : this.inner.write(offsetBytes, source, options);
  }

  override flush(): Promise<void> {
    const refusal = this.#refusal(0, 0);
    return refusal === undefined ? this.inner.flush() : Promise.reject(refusal);
  }

  override unmap(ranges: readonly ByteRange[]): Promise<void> {
    const refusal = this.#readOnlyRefusal("unmap") ?? this.#unmapRefusal(ranges);
    if (refusal !== undefined) return Promise.reject(refusal);
    const work = ranges.filter(({ lengthBytes }) => lengthBytes > 0);
    return work.length === 0 ? Promise.resolve() : this.inner.unmap(work);
  }

  override writeZeroes(range: ByteRange, options?: WriteZeroesOptions): Promise<void> {
    const refusal =
      this.#refusal(range.offsetBytes, range.lengthBytes) ??
      this.#readOnlyRefusal("write zeroes to") ??
      (this.inner.info.canWriteZeroes ? undefined : this.#unsupported("write zeroes"));
    if (refusal !== undefined) return Promise.reject(refusal);
    return range.lengthBytes === 0 ? Promise.resolve() : this.inner.writeZeroes(range, options);
  }

  override blockStatus(range: ByteRange): Promise<readonly BlockExtent[]> {
    const refusal =
      this.#refusal(range.offsetBytes, range.lengthBytes) ??
      (this.inner.info.canReportBlockStatus ? undefined : this.#unsupported("report block status"));
    if (refusal !== undefined) return Promise.reject(refusal);
    return range.lengthBytes === 0 ? Promise.resolve([]) : this.inner.blockStatus(range);
  }

  /** A second call returns the first one's promise. */
  override close(): Promise<void> {
    this.#closing ??= this.inner.close();
    return this.#closing;
  }

  #unmapRefusal(ranges: readonly ByteRange[]): BlockError | undefined {
    if (this.#closing === undefined && !this.inner.info.canUnmap) return this.#unsupported("unmap");
    if (ranges.length === 0) return this.#refusal(0, 0);
    for (const { offsetBytes, lengthBytes } of ranges) {
      const refusal = this.#refusal(offsetBytes, lengthBytes);
      if (refusal !== undefined) return refusal;
    }
    return undefined;
  }

  #refusal(offsetBytes: number, lengthBytes: number): BlockError | undefined {
    if (this.#closing !== undefined) return new BlockError("BLOCK_CLOSED", "the device is closed");
    const { sizeBytes, logicalBlockBytes } = this.inner.info;
    const endBytes = offsetBytes + lengthBytes;
    // A remainder of a fraction or of NaN is never 0, so both fail here too.
    const isGood =
      offsetBytes >= 0 &&
      lengthBytes >= 0 &&
      endBytes <= sizeBytes &&
      offsetBytes % logicalBlockBytes === 0 &&
      lengthBytes % logicalBlockBytes === 0;
    if (isGood) return undefined;
    return new BlockError(
      "BLOCK_INVALID_RANGE",
      `${lengthBytes} bytes at offset ${offsetBytes} are outside the device of ${sizeBytes} bytes ` +
        `or not a multiple of its ${logicalBlockBytes}-byte blocks`,
      { details: { offsetBytes, lengthBytes, sizeBytes, logicalBlockBytes } },
    );
  }

  #readOnlyRefusal(what: string): BlockError | undefined {
    if (!this.inner.info.isReadOnly) return undefined;
    return new BlockError("BLOCK_READ_ONLY", `cannot ${what} the device ${this.#name()}: it is read-only`);
  }

  #unsupported(what: string): BlockError {
    return new BlockError("BLOCK_NOT_SUPPORTED", `the device ${this.#name()} cannot ${what}`);
  }

  #name(): string {
    const { id, vendor, product } = this.inner.info.identity;
    return id === "" ? `${vendor} ${product}` : id;
  }
}
