import type { Clock } from "../base/clock.js";
import type { Logger } from "../base/logger.js";
import { TcpDialer, TcpListener } from "./tcp.js";
import type { ByteStream, Dialer, DialOptions, Endpoint, Listener, ListeningSocket } from "./transport.js";
import type { UnixListenerOptions } from "./unix.js";
import { UnixDialer, UnixListener } from "./unix.js";

/** Dials TCP and unix endpoints alike. One for each thread: its connections share a read buffer. */
export class SystemDialer implements Dialer {
  readonly #tcp: TcpDialer;
  readonly #unix: UnixDialer;

  constructor(dependencies: { readonly clock: Clock }) {
    this.#tcp = new TcpDialer(dependencies);
    this.#unix = new UnixDialer(dependencies);
  }

  dial(endpoint: Endpoint, options: DialOptions): Promise<ByteStream> {
    return (endpoint.kind === "tcp" ? this.#tcp : this.#unix).dial(endpoint, options);
  }
}

/** Listens on TCP and unix endpoints alike. */
export class SystemListener implements Listener {
  readonly #tcp: TcpListener;
  readonly #unix: UnixListener;

  constructor(options: UnixListenerOptions, dependencies: { readonly clock: Clock; readonly logger: Logger }) {
    this.#tcp = new TcpListener(dependencies);
    this.#unix = new UnixListener(options, dependencies);
  }

  listen(endpoint: Endpoint, onConnection: (stream: ByteStream) => void): Promise<ListeningSocket> {
    return (endpoint.kind === "tcp" ? this.#tcp : this.#unix).listen(endpoint, onConnection);
  }
}
