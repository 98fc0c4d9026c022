import { MAX_NBD_CONNECTIONS, MAX_NBD_IDLE_BUFFER_BYTES } from "../base/limits.js";
import type { ByteStream, Endpoint, Listener, ListeningSocket } from "../transport/transport.js";
import { BufferPool } from "./buffer-pool.js";
import { NbdConnection, type NbdDependencies } from "./connection.js";
import { NbdError } from "./errors.js";
import type { NbdExports } from "./export.js";

export interface NbdServerOptions {
  readonly endpoint: Endpoint;
  readonly exports: NbdExports;
  readonly handshakeTimeoutMs?: number;
  readonly maxConnections?: number;
}

/** Serves block devices to NBD clients on one endpoint. Does not own the devices. */
export class NbdServer {
  readonly #options: NbdServerOptions;
  readonly #listener: Listener;
  readonly #dependencies: NbdDependencies;
  readonly #connections = new Set<NbdConnection>();
  #socket: ListeningSocket | undefined;
  #isClosed = false;

  constructor(options: NbdServerOptions, dependencies: NbdDependencies & { readonly listener: Listener }) {
    this.#options = options;
    this.#listener = dependencies.listener;
    const pool = dependencies.pool ?? new BufferPool({ maxIdleBytes: MAX_NBD_IDLE_BUFFER_BYTES });
    this.#dependencies = { clock: dependencies.clock, logger: dependencies.logger, pool };
  }

  /** Clients connected now. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  /** Starts to listen; the endpoint as bound. Rejects with a TransportError. */
  async start(): Promise<Endpoint> {
    if (this.#isClosed || this.#socket !== undefined) {
      throw new NbdError("NBD_SERVER_STATE", "an NBD server is started once, and not after it was closed");
    }
    this.#socket = await this.#listener.listen(this.#options.endpoint, (stream) => this.#accept(stream));
    return this.#socket.endpoint;
  }

  /** Takes no more clients, lets the requests of those there finish, and hangs up. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#socket?.close();
    await Promise.all([...this.#connections].map((connection) => connection.close()));
  }

  /** As `close`, but does not wait for requests. */
  async destroy(): Promise<void> {
    this.#isClosed = true;
    for (const connection of this.#connections) connection.destroy();
    await this.#socket?.close();
  }

  #accept(stream: ByteStream): void {
    const isFull = this.#connections.size >= (this.#options.maxConnections ?? MAX_NBD_CONNECTIONS);
    if (isFull || this.#isClosed) {
      this.#dependencies.logger.warn("NBD client refused", { reason: isFull ? "too many clients" : "closing" });
      stream.destroy();
      return;
    }
    const { exports, handshakeTimeoutMs } = this.#options;
    const connection = new NbdConnection(
      { stream, exports, ...(handshakeTimeoutMs === undefined ? {} : { handshakeTimeoutMs }) },
      this.#dependencies,
    );
    this.#connections.add(connection);
    void connection.closed.then(() => this.#connections.delete(connection));
  }
}
