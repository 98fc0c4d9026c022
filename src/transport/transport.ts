import { AppError } from "../base/errors.js";

/** Refused, unreachable, reset, timed out: the byte stream is not there (any more). */
export class TransportError extends AppError {}

/** Where a stream goes. `host` is an address or a DNS name without brackets. */
export type Endpoint =
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string };

/** What the reader of a stream is told. Set once, before any byte arrives. */
export interface StreamHandlers {
  /** Bytes arrived. `chunk` is valid only until the call returns: the transport reuses its memory. */
  onData(chunk: Buffer): void;
  /** The amount of unsent bytes fell below the low-water mark after `write` had returned false. */
  onDrain?(): void;
  /** The stream is gone: once, and nothing comes after it. No error when we or the peer closed it in order. */
  onClose(error?: TransportError): void;
}

/** A connected, ordered, reliable stream of bytes. */
export interface ByteStream {
  readonly localAddress: string;
  readonly remoteAddress: string;
  /** Bytes given to `write` and not yet taken by the operating system. */
  readonly unsentBytes: number;
  start(handlers: StreamHandlers): void;
  /**
   * Sends the chunks in order, in one gather write where the system can. The chunks are borrowed until they
   * have been sent, which the caller learns from `onSent`; they must not change before that.
   * Returns false when the caller should pause until `onDrain`.
   */
  write(chunks: readonly Buffer[], onSent?: () => void): boolean;
  /** Stops and resumes delivery of data (backpressure towards the peer). */
  pause(): void;
  resume(): void;
  /** Sends what is queued, then closes. */
  end(): void;
  /**
   * Closes now. What the system has not sent yet is lost, and never sent later: a request that was repeated elsewhere is
   * not to arrive after all. Packets under way may. TCP peers see a reset. `onClose` follows, with `error` if one is given.
   */
  destroy(error?: TransportError): void;
}

export interface DialOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  /** Source address: one of this machine's, of the family of the endpoint. */
  readonly localAddress?: string;
  /** Leave through this interface whatever the routes say. For TCP only. */
  readonly localInterface?: string;
}

export interface Dialer {
  /** Connects or rejects with a TransportError (TimeoutError past `timeoutMs`). */
  dial(endpoint: Endpoint, options: DialOptions): Promise<ByteStream>;
}

export interface ListeningSocket {
  /** The endpoint as bound: the real port when 0 was asked for. */
  readonly endpoint: Endpoint;
  /** Stops accepting; connections that exist live on. */
  close(): Promise<void>;
}

export interface Listener {
  listen(endpoint: Endpoint, onConnection: (stream: ByteStream) => void): Promise<ListeningSocket>;
}
