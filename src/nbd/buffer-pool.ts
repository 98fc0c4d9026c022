/** Room before the data for the longest reply header (28 bytes), so that a read is answered from one buffer. */
export const HEADROOM_BYTES = 32;

const SMALLEST_CLASS_BYTES = 4096;
const CLASSES = 9;

/** A buffer with room for a header in front of its data. Owned by one request from `take` to `give`. */
export class PooledBuffer {
  readonly bytes: Buffer;
  readonly sizeClass: number;
  #data: Buffer;

  constructor(bytes: Buffer, sizeClass: number) {
    this.bytes = bytes;
    this.sizeClass = sizeClass;
    this.#data = bytes.subarray(HEADROOM_BYTES);
  }

  /** The `lengthBytes` after the headroom. Consecutive users mostly ask for one length, so the view is kept. */
  data(lengthBytes: number): Buffer {
    if (this.#data.length !== lengthBytes) {
      this.#data = this.bytes.subarray(HEADROOM_BYTES, HEADROOM_BYTES + lengthBytes);
    }
    return this.#data;
  }
}

/**
 * Payload buffers for reuse, in classes of powers of two from 4 KiB to 1 MiB; larger ones are not kept. The content
 * is what the last user left: whoever takes one writes every byte it uses.
 */
export class BufferPool {
  readonly #maxIdleBytes: number;
  readonly #idle: PooledBuffer[][] = Array.from({ length: CLASSES }, () => []);
  #idleBytes = 0;

  constructor(options: { readonly maxIdleBytes: number }) {
    this.#maxIdleBytes = options.maxIdleBytes;
  }

  /** Bytes kept for reuse. */
  get idleBytes(): number {
    return this.#idleBytes;
  }

  /** A buffer for at least `lengthBytes` of data. */
  take(lengthBytes: number): PooledBuffer {
    const sizeClass = lengthBytes <= SMALLEST_CLASS_BYTES ? 0 : 20 - Math.clz32(lengthBytes - 1);
    const idle = this.#idle[sizeClass]?.pop();
    if (idle !== undefined) {
      this.#idleBytes -= idle.bytes.length;
      return idle;
    }
    const capacityBytes = sizeClass < CLASSES ? SMALLEST_CLASS_BYTES << sizeClass : lengthBytes;
    return new PooledBuffer(Buffer.allocUnsafeSlow(HEADROOM_BYTES + capacityBytes), sizeClass);
  }

  /** Gives a buffer back; nobody may use it afterwards. */
  give(buffer: PooledBuffer): void {
    const idle = this.#idle[buffer.sizeClass];
    if (idle === undefined || this.#idleBytes + buffer.bytes.length > this.#maxIdleBytes) return;
    idle.push(buffer);
    this.#idleBytes += buffer.bytes.length;
  }
}
