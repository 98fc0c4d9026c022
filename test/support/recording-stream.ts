import type { ByteStream, StreamHandlers, TransportError } from "../../src/transport/transport.js";

/** A ByteStream whose other side is the test: it sends with `deliver` and sees what was written. */
export class RecordingStream implements ByteStream {
  readonly localAddress = "local";
  readonly remoteAddress = "remote";
  readonly unsentBytes = 0;
  /** One entry for each call of `write`: the bytes, joined. */
  readonly writes: Buffer[] = [];
  isPaused = false;
  isEnded = false;
  isDestroyed = false;
  /** Whether writes are reported as sent at once; else `confirm` does it. */
  isInstant = true;
  #handlers: StreamHandlers | undefined;
  #unconfirmed: (() => void)[] = [];

  start(handlers: StreamHandlers): void {
    this.#handlers = handlers;
  }

  write(chunks: readonly Buffer[], onSent?: () => void): boolean {
    this.writes.push(Buffer.concat(chunks));
    if (this.isInstant) onSent?.();
    else if (onSent !== undefined) this.#unconfirmed.push(onSent);
    return true;
  }

  /** Everything written so far, joined. */
  get written(): Buffer {
    return Buffer.concat(this.writes);
  }

  confirm(): void {
    for (const onSent of this.#unconfirmed.splice(0)) onSent();
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  end(): void {
    this.isEnded = true;
  }

  destroy(error?: TransportError): void {
    this.isDestroyed = true;
    this.#handlers?.onClose(error);
  }

  /** The peer sends; the memory is overwritten afterwards, as a transport would. */
  deliver(bytes: Buffer): void {
    const chunk = Buffer.from(bytes);
    this.#handlers?.onData(chunk);
    chunk.fill(0xee);
  }

  /** The peer hangs up. */
  hangUp(error?: TransportError): void {
    this.#handlers?.onClose(error);
  }
}
