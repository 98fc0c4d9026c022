import type { PortalAddress } from "../../src/base/access.js";
import type { Logger } from "../../src/base/logger.js";
import type { Random } from "../../src/base/random.js";
import type { TargetServerControl } from "../../src/target/api.js";
import { createTargetServer } from "../../src/target/target-server.js";
import type { SimNetwork } from "./network.js";
import type { Plan } from "./plan.js";
import type { SimClock } from "./sim-clock.js";
import type { SimDisk } from "./sim-disk.js";

export const TARGET_NAME = "iqn.2026-11.sim:disk";
export const LUN_NUMBER = 1;

export interface SimTargetDependencies {
  readonly clock: SimClock;
  readonly random: Random;
  readonly network: SimNetwork;
  readonly logger: Logger;
  readonly disk: SimDisk;
}

/** The real target, with the hand of the simulation on its power switch. */
export class SimTarget {
  readonly #plan: Plan;
  readonly #portals: readonly PortalAddress[];
  readonly #deps: SimTargetDependencies;
  readonly #runs: TargetServerControl[] = [];
  #server: TargetServerControl | undefined;
  #isServing = false;
  #stopping: Promise<void> = Promise.resolve();

  constructor(plan: Plan, portals: readonly PortalAddress[], dependencies: SimTargetDependencies) {
    this.#plan = plan;
    this.#portals = portals;
    this.#deps = dependencies;
  }

  /** The one that runs; undefined while the power is off or it has not begun to serve. */
  get server(): TargetServerControl | undefined {
    return this.#isServing ? this.#server : undefined;
  }

  /** What all runs of the target together have repaired. */
  recoveryTally(): Readonly<Record<string, number>> {
    const sum: Record<string, number> = {};
    for (const server of this.#runs) {
      for (const [name, count] of Object.entries<number>({ ...server.recoveryTally() })) {
        sum[name] = (sum[name] ?? 0) + count;
      }
    }
    return sum;
  }

  async ensureRunning(): Promise<void> {
    if (this.#server !== undefined) return;
    const { clock, random, network, logger, disk } = this.#deps;
    const server = createTargetServer(
      {
        portals: this.#portals,
        limits: { queueDepth: this.#plan.targetQueueDepth, pingIntervalMs: 10_000, loginTimeoutMs: 8_000 },
        preferences: this.#plan.targetOffers,
      },
      { listener: network, clock, random: new StatSnRandom(random, this.#plan.isStatSnWrapping), logger },
    );
    this.#server = server;
    this.#runs.push(server);
    await this.#stopping;
    if (this.#server !== server) return;
    server.addTarget({ name: TARGET_NAME, luns: new Map([[LUN_NUMBER, disk.open()]]), access: { kind: "any" } });
    await server.start();
    this.#isServing = true;
  }

  /** In order: sessions are told, tasks end. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    this.#isServing = false;
    if (server === undefined) return;
    this.#stopping = server.stop();
    await this.#stopping;
  }

  /** From one moment to the next: nobody is told but by the connections that break, the disk keeps what it has. */
  crash(): void {
    const { network, disk } = this.#deps;
    disk.crash();
    for (const wire of network.wires) wire.link?.cut();
    void this.stop();
  }
}

/** Has the first StatSN of a connection lie just below the end of the numbers. */
class StatSnRandom implements Random {
  readonly #inner: Random;
  readonly #isWrapping: boolean;

  constructor(inner: Random, isWrapping: boolean) {
    this.#inner = inner;
    this.#isWrapping = isWrapping;
  }

  uint32(): number {
    const value = this.#inner.uint32();
    return this.#isWrapping ? 0xffff_ffff - (value % 40) : value;
  }

  fraction(): number {
    return this.#inner.fraction();
  }

  bytes(lengthBytes: number): Buffer {
    return this.#inner.bytes(lengthBytes);
  }
}
