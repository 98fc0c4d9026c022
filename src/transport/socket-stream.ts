import type { Socket } from "node:net";
import { assert } from "../base/assert.js";
import type { Clock, Timer } from "../base/clock.js";
import { SOCKET_LINGER_MS } from "../base/limits.js";
import { toTransportError } from "./socket-errors.js";
import type { ByteStream, StreamHandlers, TransportError } from "./transport.js";

export interface SocketStreamOptions {
  readonly localAddress: string;
  readonly remoteAddress: string;
}

/**
 * A connected socket of the system as a ByteStream. The socket is paused and has no reader yet; from here on it belongs
 * to the stream. Sockets made by createReadOptions deliver through `receive`, all others through `data` events.
 */
export class SocketStream implements ByteStream {
  readonly localAddress: string;
  readonly remoteAddress: string;
  readonly #socket: Socket;
  readonly #clock: Clock;
  #handlers: StreamHandlers | undefined;
  #error: TransportError | undefined;
  #isClosed = false;
  #isEnding = false;
  #linger: Timer | undefined;

  constructor(socket: Socket, options: SocketStreamOptions, dependencies: { readonly clock: Clock }) {
    this.#socket = socket;
    this.#clock = dependencies.clock;
    this.localAddress = options.localAddress;
    this.remoteAddress = options.remoteAddress;
    socket.on("error", (error) => {
      this.#error ??= toTransportError(error, `the connection with ${this.remoteAddress}`);
    });
    socket.on("close", () => {
      this.#close();
    });
    socket.on("drain", () => {
      if (!this.#isEnding) this.#handlers?.onDrain?.();
    });
  }

  get unsentBytes(): number {
    return this.#socket.writableLength;
  }

  start(handlers: StreamHandlers): void {
    assert(this.#handlers === undefined, "a stream is started once");
    this.#handlers = handlers;
    if (this.#isClosed) {
      // It broke before anybody listened.
      this.#clock.defer(() => handlers.onClose(this.#error));
      return;
    }
    this.#socket.on("data", (chunk) => {
      if (Buffer.isBuffer(chunk)) this.receive(chunk);
    });
    this.#socket.resume();
  }

  /** Bytes that the socket read, in memory that it will use again. */
  receive(chunk: Buffer): void {
    if (!this.#isEnding) this.#handlers?.onData(chunk);
  }

  write(chunks: readonly Buffer[], onSent?: () => void): boolean {
    const socket = this.#socket;
    const last = chunks.at(-1);
    if (last === undefined || this.#isEnding || !socket.writable) return !socket.writableNeedDrain;
    // The callback also comes, with an error, when the socket breaks: the chunks are the caller's again then too.
    const onWritten = onSent === undefined ? undefined : (): void => onSent();
    if (chunks.length === 1) return socket.write(last, onWritten);
    // Corked writes leave in one writev.
    socket.cork();
    for (let index = 0; index < chunks.length - 1; index += 1) {
      const chunk = chunks[index];
      if (chunk !== undefined) socket.write(chunk);
    }
    const hasRoom = socket.write(last, onWritten);
    socket.uncork();
    return hasRoom;
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    if (this.#handlers !== undefined) this.#socket.resume();
  }

  /**
   * Half-closes and reads on until the peer closes too: closing with unread bytes would reset the connection, and the
   * peer might lose what was sent last. A peer that does not close is given SOCKET_LINGER_MS.
   */
  end(): void {
    if (this.#isEnding || this.#isClosed) return;
    this.#isEnding = true;
    this.#socket.end();
    this.#socket.resume();
    this.#linger = this.#clock.setTimer(SOCKET_LINGER_MS, () => this.#socket.destroy());
  }

  destroy(error?: TransportError): void {
    this.#isEnding = true;
    this.#error ??= error;
    this.#socket.destroy();
  }

  #close(): void {
    this.#linger?.cancel();
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#handlers?.onClose(this.#error);
  }
}
