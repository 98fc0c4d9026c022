import type { Socket } from "node:net";
import { assert } from "../base/assert.js";
import type { Clock, Timer } from "../base/clock.js";
import { SOCKET_LINGER_MS } from "../base/limits.js";
import { toTransportError } from "./socket-errors.js";
import type { ByteStream, StreamHandlers, TransportError } from "./transport.js";

export interface SocketStreamOptions {
  readonly localAddress: string;
  readonly remoteAddress: string;
  /** TCP, which can be reset; false for unix sockets, whose bytes are at the peer once they are written. */
  readonly isTcp: boolean;
}

/**
 * A connected socket of the system as a ByteStream. The socket is paused and has no reader yet; from here on it belongs
 * to the stream. Sockets made by createReadOptions deliver through `receive`, all others through `data` events.
 */
export class SocketStream implements ByteStream {
  readonly localAddress: string;
  readonly remoteAddress: string;
  readonly #socket: Socket;
  readonly #isTcp: boolean;
  readonly #clock: Clock;
  #handlers: StreamHandlers | undefined;
  #error: TransportError | undefined;
  #isClosed = false;
  #isEnding = false;
  #isCut = false;
  #linger: Timer | undefined;

  constructor(socket: Socket, options: SocketStreamOptions, dependencies: { readonly clock: Clock }) {
    this.#socket = socket;
    this.#isTcp = options.isTcp;
    this.#clock = dependencies.clock;
    this.localAddress = options.localAddress;
    this.remoteAddress = options.remoteAddress;
    socket.on("error", (error) => {
      // What follows on a close of ours is no news.
      if (!this.#isCut) this.#error ??= toTransportError(error, `the connection with ${this.remoteAddress}`);
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
   * peer might lose what was sent last. A peer that does not close, or does not take what is queued, is given
   * SOCKET_LINGER_MS.
   */
  end(): void {
    if (this.#isEnding || this.#isClosed) return;
    this.#isEnding = true;
    this.#socket.end();
    this.#socket.resume();
    this.#linger = this.#clock.setTimer(SOCKET_LINGER_MS, () => this.#cut());
  }

  destroy(error?: TransportError): void {
    this.#isEnding = true;
    this.#error ??= error;
    this.#cut();
  }

  /**
   * Closing alone leaves the system sending what it holds, for minutes when the link was down: a write that was repeated
   * over another path could land after later ones. A reset throws it away (RFC 9293 §3.10.5). Packets that have left
   * TCP are out of reach: those under way, and those that wait, for seconds at most, until ARP has found the next hop.
   */
  #cut(): void {
    const socket = this.#socket;
    if (this.#isCut) return;
    this.#isCut = true;
    if (!this.#isTcp || socket.destroyed) {
      socket.destroy();
      return;
    }
    // While the system is told of the end of our side, libuv refuses to reset (EINVAL) and the descriptor would be lost.
    // Nothing is left to be written by then, so that ends in this turn of the event loop.
    const isShuttingDown = socket.writableEnded && !socket.writableFinished && socket.writableLength === 0;
    if (!isShuttingDown) socket.resetAndDestroy();
    else
      socket.once("finish", () => {
        if (!socket.destroyed) socket.resetAndDestroy();
      });
  }

  #close(): void {
    this.#linger?.cancel();
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#handlers?.onClose(this.#error);
  }
}
