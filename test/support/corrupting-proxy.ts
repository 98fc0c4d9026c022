import { once } from "node:events";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import type { PortalAddress } from "../../src/base/access.js";
import { type Fault, FaultPlan, type FaultRule } from "./corrupting-proxy-faults.js";
import { type CutPdu, LoginWatcher, PduCutter } from "./corrupting-proxy-pdus.js";

/** One portal of the proxy and the target's portal behind it. */
export interface ProxyRoute {
  /** Port 0 takes a free one. */
  readonly listen: PortalAddress;
  readonly target: PortalAddress;
}

export interface CorruptingProxyOptions {
  readonly routes: readonly ProxyRoute[];
  readonly rules?: readonly FaultRule[];
  /** Of the random places and rates. */
  readonly seed?: number;
}

/** What a proxy has done since it started. */
export interface ProxyReport {
  /** Connections that came, and those killed by `killNext`. */
  readonly connections: number;
  readonly killed: number;
  /** Faults by `kind fault`. */
  readonly faults: Readonly<Record<string, number>>;
  /** PDUs that came, by kind. */
  readonly pdus: Readonly<Record<string, number>>;
}

type Direction = "to-target" | "to-initiator";

/** One connection through the proxy. */
class Passage {
  readonly #initiator: Socket;
  readonly #target: Socket;
  readonly #onPdu: (pdu: CutPdu) => Fault | undefined;
  readonly #plan: FaultPlan;
  readonly #login = new LoginWatcher();
  readonly #cutters = { "to-target": new PduCutter(), "to-initiator": new PduCutter() };
  readonly #stalled = new Set<Direction>();

  constructor(
    initiator: Socket,
    target: Socket,
    plan: FaultPlan,
    onPdu: (pdu: CutPdu) => Fault | undefined,
    onClosed: () => void,
  ) {
    this.#initiator = initiator;
    this.#target = target;
    this.#plan = plan;
    this.#onPdu = onPdu;
    this.#join(initiator, target, "to-target", onClosed);
    this.#join(target, initiator, "to-initiator", onClosed);
  }

  /** Past its login? */
  get isFullFeature(): boolean {
    return this.#login.isFullFeature;
  }

  /** Both sides see a reset. */
  kill(): void {
    for (const socket of [this.#initiator, this.#target]) {
      // A socket that is being shut down cannot be reset; its handle would stay open.
      if (socket.writableEnded) socket.destroy();
      else socket.resetAndDestroy();
    }
  }

  #join(from: Socket, to: Socket, direction: Direction, onClosed: () => void): void {
    from.setNoDelay(true);
    from.on("data", (chunk) => {
      if (this.#stalled.has(direction)) return;
      this.#cutters[direction].push(chunk, (pdu) => this.#pass(pdu, to, direction));
      if (to.writableNeedDrain) {
        from.pause();
        to.once("drain", () => from.resume());
      }
    });
    from.on("end", () => to.end());
    from.on("error", () => to.destroy());
    from.on("close", () => {
      to.destroy();
      onClosed();
    });
  }

  #pass(pdu: CutPdu, to: Socket, direction: Direction): void {
    if (this.#stalled.has(direction) || to.destroyed) return;
    const fault = this.#onPdu(pdu);
    if (pdu.kind === "login-response" && !this.#login.isFullFeature) {
      const digests = this.#login.take(pdu);
      if (digests !== undefined) {
        this.#cutters["to-initiator"].digests = digests;
        this.#cutters["to-target"].digests = digests;
      }
    }
    if (fault === "drop") return;
    if (fault === "stall") {
      this.#stalled.add(direction);
      return;
    }
    if (fault === "cut") {
      to.write(pdu.bytes.subarray(0, pdu.bytes.length >> 1), () => this.kill());
      this.#stalled.add(direction);
      return;
    }
    if (fault !== undefined) this.#plan.corrupt(pdu, fault);
    to.write(pdu.bytes);
  }
}

/**
 * Stands between an initiator and a target and spoils chosen PDUs, in both directions, over any number of connections
 * and portals. It reads the framing of RFC 7143 and the outcome of the digest negotiation; all else goes through as it
 * is. Nothing is spoilt but by a rule.
 */
export class CorruptingProxy {
  readonly #plan: FaultPlan;
  readonly #servers: Server[] = [];
  readonly #passages: Passage[] = [];
  readonly #pdus = new Map<string, number>();
  #connections = 0;
  #killed = 0;

  private constructor(options: CorruptingProxyOptions) {
    this.#plan = new FaultPlan(options.rules ?? [], options.seed ?? 1);
  }

  /** Listens on every route; fails when a port is taken. Stop it with `close`. */
  static async start(options: CorruptingProxyOptions): Promise<CorruptingProxy> {
    const proxy = new CorruptingProxy(options);
    try {
      for (const route of options.routes) await proxy.#listen(route);
    } catch (error) {
      await proxy.close();
      throw error;
    }
    return proxy;
  }

  /** Where the routes listen, in their order. */
  get portals(): readonly PortalAddress[] {
    return this.#servers.map((server) => {
      const address = server.address();
      if (address === null || typeof address === "string") throw new Error("the proxy does not listen");
      return { host: address.address, port: address.port };
    });
  }

  get report(): ProxyReport {
    return {
      connections: this.#connections,
      killed: this.#killed,
      faults: this.#plan.counts,
      pdus: Object.fromEntries([...this.#pdus].sort()),
    };
  }

  /** Connections that are past their login now. */
  get established(): number {
    return this.#passages.filter((passage) => passage.isFullFeature).length;
  }

  setRules(rules: readonly FaultRule[]): void {
    this.#plan.setRules(rules);
  }

  /** Resets the oldest connection that is past its login, so that repeated calls go through all. False: there is none. */
  killNext(): boolean {
    const passage = this.#passages.find((candidate) => candidate.isFullFeature);
    if (passage === undefined) return false;
    this.#killed += 1;
    this.#forget(passage);
    passage.kill();
    return true;
  }

  /** Resets every connection and stops listening. */
  async close(): Promise<void> {
    for (const passage of this.#passages.splice(0)) passage.kill();
    await Promise.all(
      this.#servers.map(async (server) => {
        if (!server.listening) return;
        const closed = once(server, "close");
        server.close();
        await closed;
      }),
    );
  }

  async #listen({ listen, target }: ProxyRoute): Promise<void> {
    const server = createServer((initiator) => this.#accept(initiator, target));
    this.#servers.push(server);
    server.listen(listen.port, listen.host);
    await once(server, "listening");
  }

  #accept(initiator: Socket, target: PortalAddress): void {
    this.#connections += 1;
    const onPdu = (pdu: CutPdu): Fault | undefined => {
      this.#pdus.set(pdu.kind, (this.#pdus.get(pdu.kind) ?? 0) + 1);
      return this.#plan.faultFor(pdu);
    };
    const onClosed = (): void => this.#forget(passage);
    const passage = new Passage(initiator, createConnection(target), this.#plan, onPdu, onClosed);
    this.#passages.push(passage);
  }

  #forget(passage: Passage): void {
    const index = this.#passages.indexOf(passage);
    if (index >= 0) this.#passages.splice(index, 1);
  }
}
