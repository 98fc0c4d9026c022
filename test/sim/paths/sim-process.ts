import type { Clock, Timer } from "../../../src/base/clock.js";

/**
 * A process of the simulation, with a clock of its own: when it is killed its timers never fire, and whoever holds
 * something of it can ask whether it still lives.
 */
export class SimProcess implements Clock {
  readonly name: string;
  readonly #clock: Clock;
  readonly #timers = new Set<Timer>();
  readonly #onDeath = new Set<() => void>();
  #isAlive = true;
  #tellDeath: () => void = () => undefined;
  /** Resolves when it is killed. */
  readonly death: Promise<void>;

  constructor(name: string, clock: Clock) {
    this.name = name;
    this.#clock = clock;
    this.death = new Promise((resolve) => (this.#tellDeath = resolve));
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  /** Timers that have neither fired nor been cancelled. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Calls `act` when the process is killed; the returned function undoes that. */
  onDeath(act: () => void): () => void {
    this.#onDeath.add(act);
    return () => this.#onDeath.delete(act);
  }

  /** From one moment to the next, without a goodbye. */
  kill(): void {
    this.#isAlive = false;
    for (const timer of this.#timers) timer.cancel();
    this.#timers.clear();
    for (const act of [...this.#onDeath]) act();
    this.#onDeath.clear();
    this.#tellDeath();
  }

  nowMs(): number {
    return this.#clock.nowMs();
  }

  wallTimeMs(): number {
    return this.#clock.wallTimeMs();
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    if (!this.#isAlive) return { cancel: () => undefined };
    const inner = this.#clock.setTimer(delayMs, () => {
      this.#timers.delete(timer);
      callback();
    });
    const timer: Timer = {
      cancel: () => {
        this.#timers.delete(timer);
        inner.cancel();
      },
    };
    this.#timers.add(timer);
    return timer;
  }

  defer(callback: () => void): void {
    this.setTimer(0, callback);
  }
}
