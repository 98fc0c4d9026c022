import type { Clock, Timer } from "../../src/base/clock.js";

interface Entry {
  readonly atMs: number;
  readonly order: number;
  callback: (() => void) | undefined;
}

/** Steps that one turn of the event loop takes: each gets its own turn of the promise queue all the same. */
const STEPS_PER_TURN = 64;

/**
 * Virtual time for simulations: a heap of timers, one step per timer, and after each step every promise settles
 * that can. Time moves only from timer to timer.
 */
export class SimClock implements Clock {
  readonly #heap: Entry[] = [];
  #nowMs = 0;
  #wallOffsetMs = 0;
  #order = 0;
  #live = 0;
  #steps = 0;
  /** Told of what a timer's callback threw: in production the process would have ended. */
  onCrash: (error: unknown) => void = (error) => {
    throw error;
  };

  nowMs(): number {
    return this.#nowMs;
  }

  wallTimeMs(): number {
    return 1_800_000_000_000 + this.#nowMs + this.#wallOffsetMs;
  }

  /** Timers and deferred calls that have neither run nor been cancelled. */
  get pending(): number {
    return this.#live;
  }

  /** Timers that have run. */
  get steps(): number {
    return this.#steps;
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const entry: Entry = { atMs: this.#nowMs + Math.max(0, delayMs), order: this.#order, callback };
    this.#order += 1;
    this.#live += 1;
    this.#push(entry);
    return {
      cancel: () => {
        if (entry.callback === undefined) return;
        entry.callback = undefined;
        this.#live -= 1;
      },
    };
  }

  defer(callback: () => void): void {
    this.setTimer(0, callback);
  }

  /** Moves what people read as the time of day; nothing that runs may depend on it. */
  jumpWallTime(byMs: number): void {
    this.#wallOffsetMs += byMs;
  }

  /** The process did not run for so long: timers that fell due meanwhile run late, one after the other. */
  pause(forMs: number): void {
    this.#nowMs += forMs;
  }

  /** Runs timers until `isDone` says so, there is none left, or the next one lies beyond `limitMs`. */
  run(isDone: () => boolean, limitMs: number): Promise<void> {
    return new Promise((resolve) => {
      let isOver = false;
      const turn = (): void => {
        if (isOver) return;
        if (isDone() || !this.#step(limitMs)) {
          isOver = true;
          resolve();
        }
      };
      const batch = (): void => {
        if (isOver) return;
        for (let index = 0; index < STEPS_PER_TURN; index += 1) setImmediate(turn);
        setImmediate(batch);
      };
      // The first turn lets settle what the caller has begun.
      setImmediate(batch);
    });
  }

  #step(limitMs: number): boolean {
    for (;;) {
      const next = this.#heap[0];
      if (next === undefined || next.atMs > limitMs) return false;
      this.#pop();
      const { callback } = next;
      if (callback === undefined) continue;
      next.callback = undefined;
      this.#live -= 1;
      this.#steps += 1;
      if (next.atMs > this.#nowMs) this.#nowMs = next.atMs;
      try {
        callback();
      } catch (error) {
        this.onCrash(error);
      }
      return true;
    }
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let index = heap.length;
    heap.push(entry);
    while (index > 0) {
      const parentIndex = (index - 1) >> 1;
      const parent = heap[parentIndex];
      if (parent === undefined || isBefore(parent, entry)) break;
      heap[index] = parent;
      index = parentIndex;
    }
    heap[index] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    const size = heap.length;
    if (last === undefined || size === 0) return;
    let index = 0;
    for (;;) {
      let childIndex = 2 * index + 1;
      let child = heap[childIndex];
      if (child === undefined) break;
      const right = heap[childIndex + 1];
      if (right !== undefined && isBefore(right, child)) {
        child = right;
        childIndex += 1;
      }
      if (isBefore(last, child)) break;
      heap[index] = child;
      index = childIndex;
    }
    heap[index] = last;
  }
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
