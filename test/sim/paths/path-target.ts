import type { Logger } from "../../../src/base/logger.js";
import type { Random } from "../../../src/base/random.js";
import type { ByteRange } from "../../../src/block/device.js";
import { ForwardingDevice } from "../../../src/block/forwarding-device.js";
import { MemoryDevice } from "../../../src/block/memory-device.js";
import type { AluaState } from "../../../src/scsi/alua.js";
import type { TargetServerControl } from "../../../src/target/api.js";
import type { ReservationState, ReservationStore } from "../../../src/target/scsi/persistent-reservations.js";
import { createTargetServer } from "../../../src/target/target-server.js";
import { BLOCK_BYTES } from "../disk-model.js";
import type { SimClock } from "../sim-clock.js";
import type { SimDisk } from "../sim-disk.js";
import { LUN_NUMBER, TARGET_NAME } from "../sim-target.js";
import type { PathNetwork } from "./path-network.js";
import type { PathPlan, PlannedPortal } from "./path-plan.js";

export const UNIT_ID = "naa.60014052222222222222222222222222";
const IMPOSTOR_ID = "naa.60014053333333333333333333333333";

const LIMITS = { queueDepth: 64, pingIntervalMs: 10_000, loginTimeoutMs: 8_000 };

export interface PathTargetDependencies {
  readonly clock: SimClock;
  readonly random: Random;
  readonly network: PathNetwork;
  readonly logger: Logger;
  readonly disk: SimDisk;
  readonly report: (violation: string) => void;
}

/** Where a detour leads: the impostor listens beside each portal. */
export function impostorHost(host: string): string {
  return `impostor-${host}`;
}

/** The real target with its portals and groups, the hand of the simulation on its power switch, and an impostor. */
export class PathTarget {
  readonly #plan: PathPlan;
  readonly #deps: PathTargetDependencies;
  readonly #store = new MemoryStore();
  readonly #states = new Map<number, AluaState>();
  #portals: readonly PlannedPortal[];
  #server: TargetServerControl | undefined;
  #impostor: TargetServerControl | undefined;
  /** Portal groups of the server that runs. */
  #servedGroups: ReadonlySet<number> = new Set();
  #isServing = false;
  #stopping: Promise<void> = Promise.resolve();

  constructor(plan: PathPlan, dependencies: PathTargetDependencies) {
    this.#plan = plan;
    this.#deps = dependencies;
    this.#portals = plan.portals;
    if (this.groups.length > 1) this.#states.set(2, plan.secondGroupState);
  }

  /** The one that runs; undefined while the power is off or it has not begun to serve. */
  get server(): TargetServerControl | undefined {
    return this.#isServing ? this.#server : undefined;
  }

  get portals(): readonly PlannedPortal[] {
    return this.#portals;
  }

  get groups(): readonly number[] {
    return [...new Set(this.#plan.portals.map(({ portalGroupTag }) => portalGroupTag))];
  }

  stateOf(group: number): AluaState {
    return this.#states.get(group) ?? "active-optimized";
  }

  /** As an administrator of the array would, or its own failover. */
  setState(group: number, state: AluaState): void {
    this.#states.set(group, state);
    if (this.#servedGroups.has(group)) this.server?.setAccessState(TARGET_NAME, group, state);
  }

  /** From its next start on. */
  replacePortal(old: PlannedPortal, fresh: PlannedPortal): void {
    this.#portals = this.#portals.map((portal) => (portal === old ? fresh : portal));
  }

  async ensureRunning(): Promise<void> {
    if (this.#server !== undefined) return;
    const { clock, random, network, logger, disk } = this.#deps;
    const server = createTargetServer(
      { portals: this.#portals, limits: LIMITS },
      { listener: network, clock, random, logger, reservationStore: this.#store },
    );
    this.#server = server;
    await this.#stopping;
    if (this.#server !== server) return;
    server.addTarget({
      name: TARGET_NAME,
      luns: new Map([[LUN_NUMBER, disk.open()]]),
      access: { kind: "any" },
      explicitAccessStates: this.#plan.hasExplicitStates,
    });
    this.#servedGroups = new Set(this.#portals.map(({ portalGroupTag }) => portalGroupTag));
    // A group whose portals are gone has no state; it comes back with the one it had.
    for (const [group, state] of this.#states) {
      if (this.#servedGroups.has(group)) server.setAccessState(TARGET_NAME, group, state);
    }
    await server.start();
    this.#isServing = true;
    if (this.#impostor === undefined) await this.#startImpostor();
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
    for (const wire of network.wires) if (!isImpostors(wire.portal)) wire.link?.cut();
    void this.stop();
  }

  async stopAll(): Promise<void> {
    await this.stop();
    await this.#impostor?.stop();
  }

  async #startImpostor(): Promise<void> {
    const { clock, random, network, logger, report } = this.#deps;
    const portals = [...this.#plan.portals, ...(this.#plan.sparePortal === undefined ? [] : [this.#plan.sparePortal])];
    const impostor = createTargetServer(
      { portals: portals.map((portal) => ({ ...portal, host: impostorHost(portal.host) })), limits: LIMITS },
      { listener: network, clock, random, logger, reservationStore: new MemoryStore() },
    );
    this.#impostor = impostor;
    impostor.addTarget({
      name: TARGET_NAME,
      luns: new Map([[LUN_NUMBER, new ImpostorDisk(this.#plan.blocks * BLOCK_BYTES, report)]]),
      access: { kind: "any" },
    });
    await impostor.start();
  }
}

export function isImpostors(portal: string): boolean {
  return portal.startsWith("impostor-");
}

/** Another unit, which nobody has anything to write to. */
class ImpostorDisk extends ForwardingDevice {
  readonly #report: (violation: string) => void;

  constructor(sizeBytes: number, report: (violation: string) => void) {
    super(new MemoryDevice({ sizeBytes, id: IMPOSTOR_ID }));
    this.#report = report;
  }

  override read(offsetBytes: number, target: Buffer): Promise<void> {
    this.#report(`another unit was read at ${offsetBytes}`);
    return this.inner.read(offsetBytes, target);
  }

  override write(offsetBytes: number, source: Buffer): Promise<void> {
    this.#report(`another unit was written to at ${offsetBytes}`);
    return this.inner.write(offsetBytes, source);
  }

  override unmap(ranges: readonly ByteRange[]): Promise<void> {
    this.#report("blocks of another unit were unmapped");
    return this.inner.unmap(ranges);
  }

  override writeZeroes(range: ByteRange): Promise<void> {
    this.#report(`another unit was zeroed at ${range.offsetBytes}`);
    return this.inner.writeZeroes(range);
  }
}

/** Reservations outlive a loss of power. */
class MemoryStore implements ReservationStore {
  readonly #states = new Map<string, ReservationState>();

  load(unitId: string): ReservationState | undefined {
    return this.#states.get(unitId);
  }

  save(unitId: string, state: ReservationState | undefined): Promise<void> {
    if (state === undefined) this.#states.delete(unitId);
    else this.#states.set(unitId, state);
    return Promise.resolve();
  }
}
