import type { Clock } from "../../../src/base/clock.js";
import type { Random } from "../../../src/base/random.js";
import { type LinkBehaviour, MemoryNetwork } from "../../../src/transport/memory.js";
import { formatEndpoint } from "../../../src/transport/socket-errors.js";
import {
  type ByteStream,
  type Dialer,
  type DialOptions,
  type Endpoint,
  type Listener,
  type ListeningSocket,
  TransportError,
} from "../../../src/transport/transport.js";
import { Edge, type Tamper, Wire, type WireObserver } from "../wire.js";
import { KernelStream } from "./kernel-stream.js";
import type { SimProcess } from "./sim-process.js";

/** Which way a connection goes: out of a node by a source, into the target by a portal. */
export interface Route {
  readonly node: string;
  /** Empty where the routes choose. */
  readonly source: string;
  /** `host:port` as dialled. */
  readonly portal: string;
}

export type WayState = "up" | "refused" | "silent";

export interface PathNetworkOptions {
  readonly sources: readonly string[];
  readonly behaviour: (endpoint: Endpoint) => LinkBehaviour;
  readonly observer: WireObserver;
  readonly tamper: Tamper;
  readonly keepsBytes: () => boolean;
}

/** A connection that was dialled, before its other end is known. */
interface Lane {
  readonly memory: MemoryNetwork;
}

/** Several networks beside each other, one for each source of a node, with the same portals at their far end. */
export class PathNetwork implements Listener {
  readonly #options: PathNetworkOptions;
  readonly #clock: Clock;
  readonly #lanes: ReadonlyMap<string, Lane>;
  readonly #wires: Wire[] = [];
  readonly #routes = new Map<Wire, Route>();
  readonly #unclaimed = new Map<string, Edge>();
  readonly #states = new Map<string, WayState>();
  readonly #detours = new Map<string, string>();
  #nextId = 1;

  constructor(options: PathNetworkOptions, dependencies: { readonly clock: Clock; readonly random: Random }) {
    this.#options = options;
    this.#clock = dependencies.clock;
    const { behaviour } = options;
    this.#lanes = new Map(
      ["", ...options.sources].map((source) => [source, { memory: new MemoryNetwork({ behaviour }, dependencies) }]),
    );
  }

  /** Connections that are not over yet, oldest first. */
  get wires(): readonly Wire[] {
    return this.#wires.filter((wire) => !wire.isOver);
  }

  get linkCount(): number {
    return [...this.#lanes.values()].reduce((sum, { memory }) => sum + memory.links.length, 0);
  }

  routeOf(wire: Wire): Route {
    return this.#routes.get(wire) ?? { node: "", source: "", portal: wire.portal };
  }

  /** What becomes of connections that are made from a source to a portal; `*` is any of them. */
  setWay(source: string, portal: string, state: WayState): void {
    if (state === "up") this.#states.delete(`${source}|${portal}`);
    else this.#states.set(`${source}|${portal}`, state);
  }

  /** Leads whoever dials a portal to another host at the same port; undefined ends that. */
  setDetour(portal: string, host: string | undefined): void {
    if (host === undefined) this.#detours.delete(portal);
    else this.#detours.set(portal, host);
  }

  hasDetour(portal: string): boolean {
    return this.#detours.has(portal);
  }

  healWays(): void {
    this.#states.clear();
    this.#detours.clear();
  }

  dialerOf(process: SimProcess): Dialer {
    return { dial: (endpoint, options) => this.#dial(process, endpoint, options) };
  }

  async listen(endpoint: Endpoint, onConnection: (stream: ByteStream) => void): Promise<ListeningSocket> {
    const sockets: ListeningSocket[] = [];
    for (const { memory } of this.#lanes.values()) {
      sockets.push(await memory.listen(endpoint, (stream) => onConnection(this.#accept(memory, stream))));
    }
    return {
      endpoint,
      close: async () => {
        await Promise.all(sockets.map((socket) => socket.close()));
      },
    };
  }

  async #dial(process: SimProcess, endpoint: Endpoint, options: DialOptions): Promise<ByteStream> {
    const portal = formatEndpoint(endpoint);
    const source = options.localAddress ?? "";
    const lane = this.#lanes.get(source);
    if (lane === undefined) throw notThere(source);
    const state = this.#stateOf(source, portal);
    const host = this.#detours.get(portal);
    const led: Endpoint = host === undefined || endpoint.kind !== "tcp" ? endpoint : { ...endpoint, host };
    lane.memory.setBlackHole(led, state === "silent");
    if (state === "refused") {
      await new Promise<void>((resolve) => this.#clock.defer(resolve));
      throw new TransportError("transport", "TRANSPORT_REFUSED", `nothing listens at ${portal}`, {
        retry: "other-path",
      });
    }
    const stream = await ofLiving(process, lane.memory.dial(led, options));
    const target = this.#unclaimed.get(stream.localAddress);
    if (target === undefined) throw new Error("a connection without its other end");
    this.#unclaimed.delete(stream.localAddress);
    const { wire } = target;
    this.#routes.set(wire, { node: process.name, source, portal });
    const edge = new Edge("initiator", wire, new KernelStream(stream, process, this.#options.keepsBytes));
    wire.initiator = edge;
    this.#options.observer.onOpen(wire);
    return edge;
  }

  #stateOf(source: string, portal: string): WayState {
    for (const key of [`${source}|${portal}`, `${source}|*`, `*|${portal}`]) {
      const state = this.#states.get(key);
      if (state !== undefined) return state;
    }
    return "up";
  }

  #accept(memory: MemoryNetwork, stream: ByteStream): Edge {
    const { observer, tamper } = this.#options;
    const wire = new Wire({ id: this.#nextId, portal: stream.localAddress, observer, tamper });
    this.#nextId += 1;
    const edge = new Edge("target", wire, stream);
    wire.target = edge;
    wire.link = memory.links.at(-1);
    this.#wires.push(wire);
    this.#unclaimed.set(stream.remoteAddress, edge);
    return edge;
  }
}

/** What a dead process waited for never comes; a connection that was made for it is closed. */
function ofLiving(process: SimProcess, dialled: Promise<ByteStream>): Promise<ByteStream> {
  return new Promise((resolve, reject) => {
    dialled.then(
      (stream) => {
        if (process.isAlive) resolve(stream);
        else stream.destroy();
      },
      (error: unknown) => {
        if (process.isAlive) reject(error instanceof Error ? error : new Error(String(error)));
      },
    );
  });
}

function notThere(source: string): TransportError {
  return new TransportError("transport", "TRANSPORT_ADDRESS_NOT_AVAILABLE", `this node has no address ${source}`, {
    retry: "other-path",
  });
}
