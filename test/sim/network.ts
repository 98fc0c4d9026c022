import type { Clock } from "../../src/base/clock.js";
import type { Random } from "../../src/base/random.js";
import { type LinkBehaviour, MemoryNetwork } from "../../src/transport/memory.js";
import type {
  ByteStream,
  Dialer,
  DialOptions,
  Endpoint,
  Listener,
  ListeningSocket,
} from "../../src/transport/transport.js";
import { formatEndpoint } from "../../src/transport/socket-errors.js";
import { TransportError } from "../../src/transport/transport.js";
import { Edge, type Tamper, Wire, type WireObserver } from "./wire.js";

/** A network whose connections carry a tap at each end. */
export class SimNetwork implements Dialer, Listener {
  readonly #memory: MemoryNetwork;
  readonly #observer: WireObserver;
  readonly #tamper: Tamper;
  readonly #wires: Wire[] = [];
  readonly #unclaimed = new Map<string, Edge>();
  readonly #down = new Set<string>();
  #nextId = 1;

  constructor(
    options: {
      readonly behaviour: (wireId: number) => LinkBehaviour;
      readonly observer: WireObserver;
      readonly tamper: Tamper;
    },
    dependencies: { readonly clock: Clock; readonly random: Random },
  ) {
    this.#memory = new MemoryNetwork({ behaviour: () => options.behaviour(this.#nextId) }, dependencies);
    this.#observer = options.observer;
    this.#tamper = options.tamper;
  }

  /** Connections that are not over yet, oldest first. */
  get wires(): readonly Wire[] {
    return this.#wires.filter((wire) => !wire.isOver);
  }

  /** Links that exist: none once everybody has closed. */
  get linkCount(): number {
    return this.#memory.links.length;
  }

  /** By `host:port`: refuses connections, swallows them, or takes them. */
  setPortal(portal: string, state: "up" | "down" | "silent"): void {
    const at = portal.lastIndexOf(":");
    const endpoint: Endpoint = { kind: "tcp", host: portal.slice(0, at), port: Number(portal.slice(at + 1)) };
    this.#memory.setBlackHole(endpoint, state === "silent");
    if (state === "down") this.#down.add(portal);
    else this.#down.delete(portal);
  }

  async dial(endpoint: Endpoint, options: DialOptions): Promise<ByteStream> {
    if (this.#down.has(formatEndpoint(endpoint))) {
      throw new TransportError("transport", "TRANSPORT_REFUSED", "nothing listens there", { retry: "other-path" });
    }
    const stream = await this.#memory.dial(endpoint, options);
    const target = this.#unclaimed.get(stream.localAddress);
    if (target === undefined) throw new Error("a connection without its other end");
    this.#unclaimed.delete(stream.localAddress);
    const edge = new Edge("initiator", target.wire, stream);
    target.wire.initiator = edge;
    this.#observer.onOpen(target.wire);
    return edge;
  }

  listen(endpoint: Endpoint, onConnection: (stream: ByteStream) => void): Promise<ListeningSocket> {
    return this.#memory.listen(endpoint, (stream) => {
      const wire = new Wire({
        id: this.#nextId,
        portal: stream.localAddress,
        observer: this.#observer,
        tamper: this.#tamper,
      });
      this.#nextId += 1;
      const edge = new Edge("target", wire, stream);
      wire.target = edge;
      wire.link = this.#memory.links.at(-1);
      this.#wires.push(wire);
      this.#unclaimed.set(stream.remoteAddress, edge);
      onConnection(edge);
    });
  }
}
