import { lookup } from "node:dns/promises";
import { createServer, isIP, Socket } from "node:net";
import type { Clock } from "../base/clock.js";
import { CancelledError, TimeoutError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { formatPortal } from "../base/portal.js";
import { closeFd, openBoundSocket } from "../host/ffi.js";
import { formatEndpoint, toTransportError } from "./socket-errors.js";
import { ReadBuffer, readInto, WRITE_HIGH_WATER_BYTES } from "./socket-reading.js";
import type { SocketStreamOptions } from "./socket-stream.js";
import { SocketStream } from "./socket-stream.js";
import type { ByteStream, Dialer, DialOptions, Endpoint, Listener, ListeningSocket } from "./transport.js";
import { TransportError } from "./transport.js";

/** Idle time before the system probes whether the peer is still there. */
const KEEP_ALIVE_DELAY_MS = 30_000;

const SOCKET_OPTIONS = {
  readable: true,
  writable: true,
  noDelay: true,
  keepAlive: true,
  keepAliveInitialDelay: KEEP_ALIVE_DELAY_MS,
  // The typings of the constructor leave out some of what `connect` hands on to it.
  writableHighWaterMark: WRITE_HIGH_WATER_BYTES,
};

type TcpEndpoint = Extract<Endpoint, { readonly kind: "tcp" }>;

/** A socket that reads into the shared buffer, and the way to tell it whose bytes they are. */
interface UnconnectedSocket {
  readonly socket: Socket;
  readonly attach: (stream: SocketStream) => void;
}

interface ResolvedHost {
  readonly host: string;
  readonly family: "ipv4" | "ipv6";
}

/** Makes TCP connections: no Nagle delay, keepalive, reads into one shared buffer. */
export class TcpDialer implements Dialer {
  readonly #clock: Clock;
  readonly #readBuffer = new ReadBuffer();

  constructor(dependencies: { readonly clock: Clock }) {
    this.#clock = dependencies.clock;
  }

  async dial(endpoint: Endpoint, options: DialOptions): Promise<ByteStream> {
    if (endpoint.kind !== "tcp") throw wrongKind("TcpDialer", endpoint);
    const { localInterface } = options;
    if (localInterface === undefined) return this.#connect(this.#freeSocket(), endpoint, options);
    // The time limit holds for finding the address and connecting to it together.
    const untilMs = this.#clock.nowMs() + options.timeoutMs;
    const { host, family } = await this.#resolve(endpoint, options);
    let bound: UnconnectedSocket;
    try {
      bound = await this.#boundSocket(family, localInterface);
    } catch (error) {
      throw toTransportError(error, connectingTo(endpoint));
    }
    const timeoutMs = Math.max(0, untilMs - this.#clock.nowMs());
    return this.#connect(bound, { ...endpoint, host }, { ...options, timeoutMs });
  }

  async #connect(
    { socket, attach }: UnconnectedSocket,
    endpoint: TcpEndpoint,
    options: DialOptions,
  ): Promise<ByteStream> {
    const { localAddress } = options;
    try {
      const source = localAddress === undefined ? {} : { localAddress };
      socket.connect({ host: endpoint.host, port: endpoint.port, ...source });
    } catch (error) {
      // A port or a source address that is none.
      socket.destroy();
      throw toTransportError(error, connectingTo(endpoint));
    }
    await whenConnected(socket, endpoint, options, this.#clock);
    const stream = new SocketStream(socket, tcpAddresses(socket), { clock: this.#clock });
    attach(stream);
    return stream;
  }

  #freeSocket(): UnconnectedSocket {
    const { onread, attach } = this.#readBuffer.createReader();
    const options = { ...SOCKET_OPTIONS, onread };
    return { socket: new Socket(options), attach };
  }

  /** A socket that is bound to an interface. Its descriptor belongs to it, or is closed when there is no socket. */
  async #boundSocket(family: "ipv4" | "ipv6", localInterface: string): Promise<UnconnectedSocket> {
    const { onread, attach } = this.#readBuffer.createReader();
    const fd = await openBoundSocket(family, localInterface);
    try {
      // Not connected yet, it must not be read from.
      const options = { ...SOCKET_OPTIONS, onread, fd, pauseOnCreate: true };
      return { socket: new Socket(options), attach };
    } catch (error) {
      closeFd(fd);
      throw error;
    }
  }

  /** The address and its family: a bound socket is made for one family, before it is known whether it connects. */
  async #resolve(endpoint: TcpEndpoint, options: DialOptions): Promise<ResolvedHost> {
    const given = isIP(endpoint.host);
    if (given !== 0) return { host: endpoint.host, family: given === 4 ? "ipv4" : "ipv6" };
    // 0: whichever the name has, as the system prefers.
    const wanted = isIP(options.localAddress ?? "");
    const found = await withinLimits(lookup(endpoint.host, { family: wanted }), endpoint, options, this.#clock);
    return { host: found.address, family: found.family === 4 ? "ipv4" : "ipv6" };
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
export async function whenConnected(
  socket: Socket,
  endpoint: Endpoint,
  options: DialOptions,
  clock: Clock,
): Promise<void> {
  socket.pause();
  const connected = new Promise<void>((resolve, reject) => {
    // Stays: a socket given up may still fail later, and nobody listens any more.
    socket.on("error", reject);
    socket.once("connect", resolve);
  });
  try {
    await withinLimits(connected, endpoint, options, clock);
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/**
 * What `work` gives, or its TransportError; TimeoutError after `timeoutMs`, and CancelledError when the signal aborts.
 * What comes of the work after that is dropped.
 */
function withinLimits<T>(work: Promise<T>, endpoint: Endpoint, options: DialOptions, clock: Clock): Promise<T> {
  const action = connectingTo(endpoint);
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      timer.cancel();
      options.signal?.removeEventListener("abort", onAbort);
    };
    const fail = (error: Error): void => {
      settle();
      reject(error);
    };
    const onAbort = (): void =>
      fail(
        new CancelledError("transport", "TRANSPORT_CANCELLED", `${action} was cancelled`, {
          cause: options.signal?.reason,
        }),
      );
    const timer = clock.setTimer(options.timeoutMs, () =>
      fail(
        new TimeoutError("transport", "TRANSPORT_TIMEOUT", `${action} took longer than ${options.timeoutMs} ms`, {
          retry: "other-path",
        }),
      ),
    );
    options.signal?.addEventListener("abort", onAbort, { once: true });
    if (options.signal?.aborted === true) onAbort();
    work.then(
      (value) => {
        settle();
        resolve(value);
      },
      (error: unknown) => fail(toTransportError(error, action)),
    );
  });
}

function connectingTo(endpoint: Endpoint): string {
  return `connecting to ${formatEndpoint(endpoint)}`;
}

function tcpAddresses(socket: Socket): SocketStreamOptions {
  const format = (host: string | undefined, port: number | undefined): string =>
    host === undefined || port === undefined ? "unknown" : formatPortal({ host, port });
  return {
    localAddress: format(socket.localAddress, socket.localPort),
    remoteAddress: format(socket.remoteAddress, socket.remotePort),
    isTcp: true,
  };
}

function wrongKind(what: string, endpoint: Endpoint): TransportError {
  return new TransportError(
    "transport",
    "TRANSPORT_WRONG_KIND",
    `${what} cannot serve the endpoint ${formatEndpoint(endpoint)}`,
  );
}
