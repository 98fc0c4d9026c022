import { chmod, lstat, mkdtemp, rename, rm } from "node:fs/promises";
import { connect, createServer, Socket } from "node:net";
import type { Server } from "node:net";
import { dirname, join } from "node:path";
import type { Clock } from "../base/clock.js";
import { errorCode } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { formatEndpoint, toTransportError } from "./socket-errors.js";
import { ReadBuffer, readInto, WRITE_HIGH_WATER_BYTES } from "./socket-reading.js";
import { SocketStream } from "./socket-stream.js";
import { whenConnected } from "./tcp.js";
import type { ByteStream, Dialer, DialOptions, Endpoint, Listener, ListeningSocket } from "./transport.js";
import { TransportError } from "./transport.js";

/** sun_path of sockaddr_un, without its NUL. */
const MAX_PATH_BYTES = 107;

/** Time to find out whether somebody still listens on a socket file. */
const PROBE_TIMEOUT_MS = 1_000;

const DEFAULT_MODE = 0o600;

interface UnixDependencies {
  readonly clock: Clock;
}

/** Makes connections to unix sockets. */
export class UnixDialer implements Dialer {
  readonly #clock: Clock;
  readonly #readBuffer = new ReadBuffer();

  constructor(dependencies: UnixDependencies) {
    this.#clock = dependencies.clock;
  }

  async dial(endpoint: Endpoint, options: DialOptions): Promise<ByteStream> {
    const path = pathOf(endpoint);
    const reader = this.#readBuffer.createReader();
    const socket = connect({ path, onread: reader.onread, ...{ writableHighWaterMark: WRITE_HIGH_WATER_BYTES } });
    await whenConnected(socket, endpoint, options, this.#clock);
    const addresses = { localAddress: "", remoteAddress: path, isTcp: false };
    const stream = new SocketStream(socket, addresses, { clock: this.#clock });
    reader.attach(stream);
    return stream;
  }
}

export interface UnixListenerOptions {
  /** Permissions of the socket file; default 0600: whoever may write to the file may connect. */
  readonly mode?: number;
}

/**
 * Accepts connections on unix sockets. The file appears with its permissions already set, in place of a stale one that a
 * dead process left; a file that is no socket, or on which somebody listens, is never replaced.
 */
export class UnixListener implements Listener {
  readonly #options: UnixListenerOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #readBuffer = new ReadBuffer();

  constructor(options: UnixListenerOptions, dependencies: UnixDependencies & { readonly logger: Logger }) {
    this.#options = options;
    this.#clock = dependencies.clock;
    this.#logger = dependencies.logger;
  }

  async listen(endpoint: Endpoint, onConnection: (stream: ByteStream) => void): Promise<ListeningSocket> {
    const path = pathOf(endpoint);
    const action = `listening on ${path}`;
    const server = createServer({ pauseOnConnect: true, highWaterMark: WRITE_HIGH_WATER_BYTES });
    server.on("connection", (socket) => {
      const reader = this.#readBuffer.createReader();
      const addresses = { localAddress: path, remoteAddress: "", isTcp: false };
      const stream = new SocketStream(readInto(socket, reader.onread), addresses, { clock: this.#clock });
      reader.attach(stream);
      onConnection(stream);
    });
    let inode: bigint;
    try {
      await this.#refuseLiveSocket(path, endpoint);
      inode = await bindAt(server, path, this.#options.mode ?? DEFAULT_MODE);
    } catch (error) {
      server.close();
      throw toTransportError(error, action);
    }
    server.on("error", (error) => this.#logger.warn("accepting a connection failed", { error: error.message }));
    return {
      endpoint,
      close: async () => {
        server.close();
        // Only our own file: another process may have replaced it since.
        const found = await statOf(path);
        if (found?.ino === inode) await rm(path, { force: true });
      },
    };
  }

  async #refuseLiveSocket(path: string, endpoint: Endpoint): Promise<void> {
    const found = await statOf(path);
    if (found === undefined) return;
    if (!found.isSocket()) {
      throw new TransportError(
        "transport",
        "TRANSPORT_ADDRESS_IN_USE",
        `${path} exists and is not a socket; remove it`,
      );
    }
    try {
      const probe = await new UnixDialer({ clock: this.#clock }).dial(endpoint, { timeoutMs: PROBE_TIMEOUT_MS });
      probe.destroy();
    } catch (error) {
      if (error instanceof TransportError && error.code === "TRANSPORT_REFUSED") return;
      throw error;
    }
    throw new TransportError("transport", "TRANSPORT_ADDRESS_IN_USE", `another process listens on ${path}`);
  }
}

/**
 * One end of a connected socket pair as a stream. The file descriptor belongs to the stream from here on: it is closed
 * with it. Nothing else may read, write or close it.
 */
export function wrapFd(fd: number, dependencies: UnixDependencies): ByteStream {
  const reader = new ReadBuffer().createReader();
  // The typings of the constructor do not know `onread`, which it takes as `connect` does.
  const options = {
    fd,
    readable: true,
    writable: true,
    onread: reader.onread,
    writableHighWaterMark: WRITE_HIGH_WATER_BYTES,
  };
  const socket = new Socket(options);
  socket.pause();
  const name = `fd ${fd}`;
  const stream = new SocketStream(socket, { localAddress: name, remoteAddress: name, isTcp: false }, dependencies);
  reader.attach(stream);
  return stream;
}

/**
 * Binds inside a private directory, sets the mode and only then moves the socket to its place: at no time could another
 * user connect, whatever the umask, and a stale file is replaced in one step. Gives the inode of the file.
 */
async function bindAt(server: Server, path: string, mode: number): Promise<bigint> {
  const directory = await mkdtemp(join(dirname(path), ".s"));
  try {
    const temporary = join(directory, "s");
    checkLength(temporary);
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ path: temporary }, () => {
        server.off("error", reject);
        resolve();
      });
    });
    await chmod(temporary, mode);
    await rename(temporary, path);
    return (await lstat(path, { bigint: true })).ino;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function statOf(path: string): Promise<{ readonly ino: bigint; isSocket(): boolean } | undefined> {
  try {
    return await lstat(path, { bigint: true });
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

function pathOf(endpoint: Endpoint): string {
  if (endpoint.kind !== "unix") {
    throw new TransportError(
      "transport",
      "TRANSPORT_WRONG_KIND",
      `a unix socket cannot serve the endpoint ${formatEndpoint(endpoint)}`,
    );
  }
  checkLength(endpoint.path);
  return endpoint.path;
}

/** Without this the system cuts the path and binds something else. */
function checkLength(path: string): void {
  if (Buffer.byteLength(path) <= MAX_PATH_BYTES) return;
  throw new TransportError(
    "transport",
    "TRANSPORT_PATH_TOO_LONG",
    `the socket path ${path} is longer than ${MAX_PATH_BYTES} bytes; choose a shorter directory`,
  );
}
