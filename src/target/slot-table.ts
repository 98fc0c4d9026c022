import type { Clock, Timer } from "../base/clock.js";
import type { ConnectionSlot } from "./connection-slot.js";

export interface SlotTableDependencies {
  readonly clock: Clock;
  /** The time to recover a connection, or its tasks, is over; it is `closed` and no longer in the table. */
  readonly onExpired: (slot: ConnectionSlot) => void;
}

/**
 * The connections of one session: by CID those that are there and those that are gone without a logout (CLEANUP_WAIT of
 * RFC 7143 §8.2), and apart from them those logged out for recovery, whose tasks wait for TASK REASSIGN (§7.2.2).
 */
export class SlotTable {
  readonly #deps: SlotTableDependencies;
  readonly #byCid = new Map<number, ConnectionSlot>();
  readonly #recovering = new Set<ConnectionSlot>();
  readonly #timers = new Map<ConnectionSlot, Timer>();
  #open: readonly ConnectionSlot[] = [];

  constructor(dependencies: SlotTableDependencies) {
    this.#deps = dependencies;
  }

  /** Connections that are there, those in their login included. */
  get open(): readonly ConnectionSlot[] {
    return this.#open;
  }

  /** Connections that are gone and not forgotten. */
  get gone(): readonly ConnectionSlot[] {
    const lost = [...this.#byCid.values()].filter((slot) => slot.state === "cleanup-wait");
    return [...lost, ...this.#recovering];
  }

  get isEmpty(): boolean {
    return this.#byCid.size === 0 && this.#recovering.size === 0;
  }

  find(cid: number): ConnectionSlot | undefined {
    return this.#byCid.get(cid);
  }

  add(slot: ConnectionSlot): void {
    this.#byCid.set(slot.cid, slot);
    this.#update();
  }

  /** The connection is gone without a logout: its CID is remembered for `retainMs`. */
  fail(slot: ConnectionSlot, retainMs: number): void {
    slot.state = "cleanup-wait";
    this.#update();
    this.#expireAfter(slot, retainMs);
  }

  /** The connection was logged out for recovery: its tasks may be reassigned for `retainMs`. */
  recover(slot: ConnectionSlot, retainMs: number): void {
    this.#byCid.delete(slot.cid);
    slot.state = "recovering";
    this.#recovering.add(slot);
    this.#update();
    this.#expireAfter(slot, retainMs);
  }

  /** The connection and all its tasks are done with. */
  close(slot: ConnectionSlot): void {
    slot.state = "closed";
    if (this.#byCid.get(slot.cid) === slot) this.#byCid.delete(slot.cid);
    this.#recovering.delete(slot);
    this.#timers.get(slot)?.cancel();
    this.#timers.delete(slot);
    this.#update();
  }

  /** Forgets everything. */
  end(): void {
    for (const slot of [...this.#byCid.values(), ...this.#recovering]) this.close(slot);
  }

  #expireAfter(slot: ConnectionSlot, retainMs: number): void {
    this.#timers.get(slot)?.cancel();
    const timer = this.#deps.clock.setTimer(retainMs, () => {
      this.close(slot);
      this.#deps.onExpired(slot);
    });
    this.#timers.set(slot, timer);
  }

  #update(): void {
    this.#open = [...this.#byCid.values()].filter((slot) => slot.state === "joining" || slot.state === "logged-in");
  }
}
