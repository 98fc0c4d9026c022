import { connect, createServer } from "node:net";
import type { Socket } from "node:net";
import type { Clock } from "../base/clock.js";
import { CancelledError, TimeoutError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { formatPortal } from "../base/portal.js";
import { formatEndpoint, toTransportError } from "./socket-errors.js";
import { ReadBuffer, readInto, WRITE_HIGH_WATER_BYTES } from "./socket-reading.js";
import { SocketStream } from "./socket-stream.js";
import type { ByteStream, Dialer, DialOptions, Endpoint, Listener, ListeningSocket } from "./transport.js";
import { TransportError } from "./transport.js";

/** Idle time before the system probes whether the peer is still there. */
const KEEP_ALIVE_DELAY_MS = 30_000;

/** Makes TCP connections: no Nagle delay, keepalive, reads into one shared buffer. */
export class TcpDialer implements Dialer {
  readonly #clock: Clock;
  readonly #readBuffer = new ReadBuffer();

  constructor(dependencies: { readonly clock: Clock }) {
    this.#clock = dependencies.clock;
  }

  async dial(endpoint: Endpoint, options: DialOptions): Promise<ByteStream> {
    if (endpoint.kind !== "tcp") throw wrongKind("TcpDialer", endpoint);
    const reader = this.#readBuffer.createReader();
    const { localAddress } = options;
    const socket = connect({
      host: endpoint.host,
      port: endpoint.port,
      ...(localAddress === undefined ? {} : { localAddress }),
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_DELAY_MS,
      onread: reader.onread,
      ...{ writableHighWaterMark: WRITE_HIGH_WATER_BYTES },
    });
    await whenConnected(socket, endpoint, options, this.#clock);
    const stream = new SocketStream(socket, tcpAddresses(socket), { clock: this.#clock });
    reader.attach(stream);
    return stream;
  }
}

/** Accepts TCP connections. Port 0 takes any free port; `::` takes IPv4 as well where the system does. */
export class TcpListener implements Listener {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #readBuffer = new ReadBuffer();

  constructor(dependencies: { readonly clock: Clock; readonly logger: Logger }) {
    this.#clock = dependencies.clock;
    this.#logger = dependencies.logger;
  }

  listen(endpoint: Endpoint, onConnection: (stream: ByteStream) => void): Promise<ListeningSocket> {
    if (endpoint.kind !== "tcp") return Promise.reject(wrongKind("TcpListener", endpoint));
    const server = createServer({
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_DELAY_MS,
      pauseOnConnect: true,
      highWaterMark: WRITE_HIGH_WATER_BYTES,
    });
    server.on("connection", (accepted) => {
      const reader = this.#readBuffer.createReader();
      const socket = readInto(accepted, reader.onread);
      const stream = new SocketStream(socket, tcpAddresses(socket), { clock: this.#clock });
      reader.attach(stream);
      onConnection(stream);
    });
    return new Promise((resolve, reject) => {
      server.once("error", (error) => reject(toTransportError(error, `listening on ${formatEndpoint(endpoint)}`)));
      server.listen({ host: endpoint.host, port: endpoint.port }, () => {
        server.removeAllListeners("error");
        server.on("error", (error) => this.#logger.warn("accepting a connection failed", { error: error.message }));
        const address = server.address();
        const port = typeof address === "object" && address !== null ? address.port : endpoint.port;
        resolve({
          endpoint: { kind: "tcp", host: endpoint.host, port },
          close: () => {
            // The callback of close() waits for the connections, which are to live on; the port is free at once.
            server.close();
            return Promise.resolve();
          },
        });
      });
    });
  }
}

/**
 * Resolves when the socket, paused, is connected. Rejects with TransportError, with TimeoutError after `timeoutMs`, and
 * with CancelledError when the signal aborts; the socket is then destroyed.
 */
export function whenConnected(socket: Socket, endpoint: Endpoint, options: DialOptions, clock: Clock): Promise<void> {
  const action = `connecting to ${formatEndpoint(endpoint)}`;
  socket.pause();
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      settle();
      // A socket given up may still fail later; nobody listens any more.
      socket.on("error", () => undefined);
      socket.destroy();
      reject(error);
    };
    const onError = (error: Error): void => fail(toTransportError(error, action));
    const onAbort = (): void =>
      fail(
        new CancelledError("transport", "TRANSPORT_CANCELLED", `${action} was cancelled`, {
          cause: options.signal?.reason,
        }),
      );
    const onConnect = (): void => {
      settle();
      resolve();
    };
    const timer = clock.setTimer(options.timeoutMs, () =>
      fail(
        new TimeoutError("transport", "TRANSPORT_TIMEOUT", `${action} took longer than ${options.timeoutMs} ms`, {
          retry: "other-path",
        }),
      ),
    );
    const settle = (): void => {
      timer.cancel();
      options.signal?.removeEventListener("abort", onAbort);
      socket.off("error", onError);
      socket.off("connect", onConnect);
    };
    socket.once("error", onError);
    socket.once("connect", onConnect);
    options.signal?.addEventListener("abort", onAbort, { once: true });
    if (options.signal?.aborted === true) onAbort();
  });
}

function tcpAddresses(socket: Socket): { readonly localAddress: string; readonly remoteAddress: string } {
  const format = (host: string | undefined, port: number | undefined): string =>
    host === undefined || port === undefined ? "unknown" : formatPortal({ host, port });
  return {
    localAddress: format(socket.localAddress, socket.localPort),
    remoteAddress: format(socket.remoteAddress, socket.remotePort),
  };
}

function wrongKind(what: string, endpoint: Endpoint): TransportError {
  return new TransportError(
    "transport",
    "TRANSPORT_WRONG_KIND",
    `${what} cannot serve the endpoint ${formatEndpoint(endpoint)}`,
  );
}
