import type { ByteStream, StreamHandlers, TransportError } from "../../../src/transport/transport.js";
import type { SimProcess } from "./sim-process.js";

/**
 * The end of a connection as a kernel keeps it for a process: takes what is written at once, and goes on delivering it
 * after the process has closed the connection, or is no more (RFC 9293 §3.6: CLOSE means "no more data to send").
 */
export class KernelStream implements ByteStream {
  readonly #inner: ByteStream;
  readonly #process: SimProcess;
  /** Is what was written delivered although the owner has gone? Else it is lost with the connection. */
  readonly #keepsBytes: () => boolean;
  readonly #forgetDeath: () => void;
  #handlers: StreamHandlers | undefined;
  #isOver = false;

  constructor(inner: ByteStream, process: SimProcess, keepsBytes: () => boolean) {
    this.#inner = inner;
    this.#process = process;
    this.#keepsBytes = keepsBytes;
    this.#forgetDeath = process.onDeath(() => this.#letGo());
  }

  get localAddress(): string {
    return this.#inner.localAddress;
  }
  get remoteAddress(): string {
    return this.#inner.remoteAddress;
  }
  get unsentBytes(): number {
    return this.#inner.unsentBytes;
  }

  start(handlers: StreamHandlers): void {
    this.#handlers = handlers;
    this.#inner.start({
      onData: (chunk) => {
        if (!this.#isOver) handlers.onData(chunk);
      },
      onDrain: () => {
        if (!this.#isOver) handlers.onDrain?.();
      },
      onClose: (error) => this.#tellClosed(error),
    });
  }

  write(chunks: readonly Buffer[], onSent?: () => void): boolean {
    const hasRoom = this.#inner.write([Buffer.concat(chunks)]);
    if (onSent !== undefined) this.#process.defer(onSent);
    return hasRoom;
  }

  pause(): void {
    this.#inner.pause();
  }

  resume(): void {
    this.#inner.resume();
  }

  end(): void {
    this.#inner.end();
  }

  destroy(error?: TransportError): void {
    if (this.#isOver) return;
    if (this.#handlers !== undefined) this.#process.defer(() => this.#tellClosed(error));
    this.#letGo();
  }

  #letGo(): void {
    // Without a reader nobody could be told of the end.
    if (this.#handlers !== undefined && this.#keepsBytes()) this.#inner.end();
    else this.#inner.destroy();
  }

  #tellClosed(error: TransportError | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#forgetDeath();
    if (this.#process.isAlive) this.#handlers?.onClose(error);
  }
}
