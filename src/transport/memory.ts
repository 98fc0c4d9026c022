import { CancelledError, TimeoutError } from "../base/errors.js";
import type { LinkBehaviour, MemoryLinkDependencies } from "./memory-link.js";
import { MemoryLink } from "./memory-link.js";
import { formatEndpoint } from "./socket-errors.js";
import type { ByteStream, Dialer, DialOptions, Endpoint, Listener, ListeningSocket } from "./transport.js";
import { TransportError } from "./transport.js";

export type { LinkBehaviour, LinkDirection } from "./memory-link.js";
export { MemoryLink } from "./memory-link.js";

export interface MemoryNetworkOptions {
  /**
   * How new links behave, by the endpoint dialled and where the dialer comes from; asked once for each connection.
   * Default: at once and whole.
   */
  readonly behaviour?: (endpoint: Endpoint, from: DialOptions) => LinkBehaviour;
}

/** Where a connection comes from: an address or an interface. */
export type DialSource = Pick<DialOptions, "localAddress" | "localInterface">;

type OnConnection = (stream: ByteStream) => void;

const FIRST_EPHEMERAL_PORT = 49_152;

/**
 * A network inside the process, driven by a Clock and a Random: the same seed and calls give the same trace. Dialer and
 * Listener at once; addresses mean nothing beyond being equal or not.
 */
export class MemoryNetwork implements Dialer, Listener {
  readonly #options: MemoryNetworkOptions;
  readonly #dependencies: MemoryLinkDependencies;
  readonly #listeners = new Map<string, OnConnection>();
  readonly #blackHoles = new Set<string>();
  readonly #links = new Set<MemoryLink>();
  #nextPort = FIRST_EPHEMERAL_PORT;

  constructor(options: MemoryNetworkOptions, dependencies: MemoryLinkDependencies) {
    this.#options = options;
    this.#dependencies = dependencies;
  }

  /** The connections that exist, oldest first. */
  get links(): readonly MemoryLink[] {
    return [...this.#links];
  }

  /**
   * Makes an endpoint swallow connection attempts (they run into their timeout), or ends that: all attempts, or those from
   * `source` alone. The two are set apart from each other.
   */
  setBlackHole(endpoint: Endpoint, isBlackHole: boolean, source?: DialSource): void {
    const way = wayTo(formatEndpoint(endpoint), source);
    if (isBlackHole) this.#blackHoles.add(way);
    else this.#blackHoles.delete(way);
  }

  dial(endpoint: Endpoint, options: DialOptions): Promise<ByteStream> {
    const { clock } = this.#dependencies;
    const name = formatEndpoint(endpoint);
    return new Promise((resolve, reject) => {
      const settle = (act: () => void): void => {
        timer.cancel();
        options.signal?.removeEventListener("abort", onAbort);
        isSettled = true;
        act();
      };
      let isSettled = false;
      const onAbort = (): void => {
        settle(() =>
          reject(new CancelledError("transport", "TRANSPORT_CANCELLED", `connecting to ${name} was cancelled`)),
        );
      };
      const timer = clock.setTimer(options.timeoutMs, () => {
        settle(() =>
          reject(
            new TimeoutError(
              "transport",
              "TRANSPORT_TIMEOUT",
              `connecting to ${name} took longer than ${options.timeoutMs} ms`,
              { retry: "other-path" },
            ),
          ),
        );
      });
      options.signal?.addEventListener("abort", onAbort, { once: true });
      if (options.signal?.aborted === true) onAbort();
      clock.defer(() => {
        if (isSettled || this.#isBlackHole(name, options)) return;
        const onConnection = this.#listeners.get(name);
        settle(() => {
          if (onConnection === undefined) reject(refused(name));
          else resolve(this.#connect(endpoint, name, options, onConnection));
        });
      });
    });
  }

  listen(endpoint: Endpoint, onConnection: OnConnection): Promise<ListeningSocket> {
    const bound: Endpoint =
      endpoint.kind === "tcp" && endpoint.port === 0 ? { ...endpoint, port: this.#port() } : endpoint;
    const name = formatEndpoint(bound);
    if (this.#listeners.has(name)) {
      const message = `listening on ${name} failed: something listens there already`;
      return Promise.reject(new TransportError("transport", "TRANSPORT_ADDRESS_IN_USE", message));
    }
    this.#listeners.set(name, onConnection);
    return Promise.resolve({
      endpoint: bound,
      close: () => {
        if (this.#listeners.get(name) === onConnection) this.#listeners.delete(name);
        return Promise.resolve();
      },
    });
  }

  #isBlackHole(name: string, { localAddress, localInterface }: DialSource): boolean {
    const isBlackHole = (source?: DialSource): boolean => this.#blackHoles.has(wayTo(name, source));
    return (
      isBlackHole() ||
      (localAddress !== undefined && isBlackHole({ localAddress })) ||
      (localInterface !== undefined && isBlackHole({ localInterface }))
    );
  }

  #connect(endpoint: Endpoint, name: string, options: DialOptions, onConnection: OnConnection): ByteStream {
    const dialer = `${options.localAddress ?? options.localInterface ?? "dialer"}:${this.#port()}`;
    const behaviour = this.#options.behaviour?.(endpoint, options) ?? {};
    const link: MemoryLink = new MemoryLink({ dialer, listener: name }, behaviour, {
      ...this.#dependencies,
      onOver: () => this.#links.delete(link),
    });
    this.#links.add(link);
    onConnection(link.listenerEnd);
    return link.dialerEnd;
  }

  #port(): number {
    const port = this.#nextPort;
    this.#nextPort = port === 65_535 ? FIRST_EPHEMERAL_PORT : port + 1;
    return port;
  }
}

function wayTo(name: string, source: DialSource = {}): string {
  return JSON.stringify([name, source.localAddress, source.localInterface]);
}

function refused(name: string): TransportError {
  return new TransportError("transport", "TRANSPORT_REFUSED", `connecting to ${name} failed: nothing listens there`, {
    retry: "other-path",
  });
}
