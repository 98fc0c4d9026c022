import type { ByteStream, StreamHandlers } from "../../../src/transport/transport.js";

/** The target's end of a connection, in memory: what it writes goes to the peer, `closed` tells how it ended. */
export class PeerStream implements ByteStream {
  readonly localAddress: string;
  readonly remoteAddress = "192.0.2.9:40000";
  unsentBytes = 0;
  isPaused = false;
  closed: "open" | "ended" | "destroyed" = "open";
  handlers: StreamHandlers | undefined;
  readonly #onWrite: (bytes: Buffer) => void;

  constructor(onWrite: (bytes: Buffer) => void, localAddress: string) {
    this.localAddress = localAddress;
    this.#onWrite = onWrite;
  }

  start(handlers: StreamHandlers): void {
    this.handlers = handlers;
  }

  write(chunks: readonly Buffer[], onSent?: () => void): boolean {
    for (const chunk of chunks) this.#onWrite(Buffer.from(chunk));
    onSent?.();
    return true;
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  end(): void {
    this.#close("ended");
  }

  destroy(): void {
    this.#close("destroyed");
  }

  #close(how: "ended" | "destroyed"): void {
    if (this.closed !== "open") return;
    this.closed = how;
    queueMicrotask(() => this.handlers?.onClose());
  }
}
