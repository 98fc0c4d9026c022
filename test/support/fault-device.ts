import type { BlockDevice, BlockExtent, ByteRange, WriteOptions, WriteZeroesOptions } from "../../src/block/device.js";
import { ForwardingDevice } from "../../src/block/forwarding-device.js";

export type FaultableOperation = "read" | "write" | "flush" | "unmap" | "writeZeroes" | "blockStatus";

export interface FaultSubject {
  readonly operation: FaultableOperation;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/**
 * What to do with an operation: nothing (undefined), fail it before the device sees it (an Error), or wait for a
 * promise first; a promise that rejects fails it.
 */
export type Fault = Error | Promise<unknown> | undefined;

/** A device whose operations fail or wait as `decide` says; it also keeps the list of what was asked. */
export class FaultDevice extends ForwardingDevice {
  readonly operations: FaultSubject[] = [];
  readonly #decide: (subject: FaultSubject) => Fault;

  constructor(inner: BlockDevice, decide: (subject: FaultSubject) => Fault) {
    super(inner);
    this.#decide = decide;
  }

  override read(offsetBytes: number, target: Buffer): Promise<void> {
    const subject = { operation: "read", offsetBytes, lengthBytes: target.length } as const;
    return this.#pass(subject, () => this.inner.read(offsetBytes, target));
  }

  override write(offsetBytes: number, source: Buffer, options?: WriteOptions): Promise<void> {
    const subject = { operation: "write", offsetBytes, lengthBytes: source.length } as const;
    return this.#pass(subject, () => this.inner.write(offsetBytes, source, options));
  }

  override flush(): Promise<void> {
    return this.#pass({ operation: "flush", offsetBytes: 0, lengthBytes: 0 }, () => this.inner.flush());
  }

  override unmap(ranges: readonly ByteRange[]): Promise<void> {
    const lengthBytes = ranges.reduce((sum, range) => sum + range.lengthBytes, 0);
    const subject = { operation: "unmap", offsetBytes: ranges[0]?.offsetBytes ?? 0, lengthBytes } as const;
    return this.#pass(subject, () => this.inner.unmap(ranges));
  }

  override writeZeroes(range: ByteRange, options?: WriteZeroesOptions): Promise<void> {
    return this.#pass({ operation: "writeZeroes", ...range }, () => this.inner.writeZeroes(range, options));
  }

  override blockStatus(range: ByteRange): Promise<readonly BlockExtent[]> {
    return this.#pass({ operation: "blockStatus", ...range }, () => this.inner.blockStatus(range));
  }

  async #pass<T>(subject: FaultSubject, work: () => Promise<T>): Promise<T> {
    this.operations.push(subject);
    const fault = this.#decide(subject);
    if (fault instanceof Error) throw fault;
    await fault;
    return work();
  }
}
