const SMALLEST_BITS = 12;
const LARGEST_BITS = 23;
const CLASS_COUNT = LARGEST_BITS - SMALLEST_BITS + 1;

/**
 * Data buffers in sizes of powers of two from 4 KiB to 8 MiB, kept for reuse so that steady I/O allocates
 * nothing. A buffer has one owner: whoever acquired it, until release.
 */
export class BufferPool {
  readonly #free: Buffer[][] = Array.from({ length: CLASS_COUNT }, () => []);
  readonly #maxKeptBytes: number;
  #keptBytes = 0;

  constructor(options: { readonly maxKeptBytes: number }) {
    this.#maxKeptBytes = options.maxKeptBytes;
  }

  /** Bytes waiting for reuse. */
  get keptBytes(): number {
    return this.#keptBytes;
  }

  /** A buffer of at least `lengthBytes` with unspecified contents: every byte given out must be written first. */
  acquire(lengthBytes: number): Buffer {
    const sizeClass = classOf(lengthBytes);
    if (sizeClass >= CLASS_COUNT) return Buffer.allocUnsafeSlow(lengthBytes);
    const kept = this.#free[sizeClass]?.pop();
    if (kept === undefined) return Buffer.allocUnsafeSlow(2 ** (SMALLEST_BITS + sizeClass));
    this.#keptBytes -= kept.length;
    return kept;
  }

  /** Takes back what `acquire` gave, the whole buffer and not a view of it. */
  release(buffer: Buffer): void {
    const sizeClass = classOf(buffer.length);
    if (sizeClass >= CLASS_COUNT || this.#keptBytes + buffer.length > this.#maxKeptBytes) return;
    this.#keptBytes += buffer.length;
    this.#free[sizeClass]?.push(buffer);
  }
}

function classOf(lengthBytes: number): number {
  if (lengthBytes <= 2 ** SMALLEST_BITS) return 0;
  return 32 - Math.clz32(lengthBytes - 1) - SMALLEST_BITS;
}
