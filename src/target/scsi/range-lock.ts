interface Held {
  readonly firstBlock: number;
  readonly endBlock: number;
  readonly isExclusive: boolean;
}

interface Waiting extends Held {
  readonly grant: (held: Held) => void;
}

/** A range that was locked; give it back with `unlock`. */
export type LockedRange = Held;

/**
 * Keeps COMPARE AND WRITE, ORWRITE and atomic writes whole: an exclusive range waits for every operation that
 * overlaps it, and holds off those that come after. Shared holders never wait for each other.
 */
export class RangeLock {
  readonly #held = new Set<Held>();
  readonly #waiting: Waiting[] = [];
  #exclusiveCount = 0;

  /** Locks at once when nothing is in the way; otherwise undefined, and the caller uses `wait`. */
  tryLock(firstBlock: number, blocks: number, isExclusive: boolean): LockedRange | undefined {
    const wanted = { firstBlock, endBlock: firstBlock + blocks, isExclusive };
    if (this.#exclusiveCount === 0 && !isExclusive) {
      this.#held.add(wanted);
      return wanted;
    }
    if (this.#isBlocked(wanted, this.#waiting.length)) return undefined;
    return this.#hold(wanted);
  }

  /** Locks when the range is free, in the order of asking where ranges overlap. */
  wait(firstBlock: number, blocks: number, isExclusive: boolean): Promise<LockedRange> {
    return new Promise((grant) => {
      if (isExclusive) this.#exclusiveCount += 1;
      this.#waiting.push({ firstBlock, endBlock: firstBlock + blocks, isExclusive, grant });
      this.#grantWaiting();
    });
  }

  unlock(range: LockedRange): void {
    this.#held.delete(range);
    if (range.isExclusive) this.#exclusiveCount -= 1;
    if (this.#waiting.length > 0) this.#grantWaiting();
  }

  #hold(wanted: Held): Held {
    this.#held.add(wanted);
    if (wanted.isExclusive) this.#exclusiveCount += 1;
    return wanted;
  }

  #grantWaiting(): void {
    for (let index = 0; index < this.#waiting.length;) {
      const candidate = this.#waiting[index];
      if (candidate === undefined || this.#isBlocked(candidate, index)) {
        index += 1;
        continue;
      }
      this.#waiting.splice(index, 1);
      const { firstBlock, endBlock, isExclusive } = candidate;
      const held = { firstBlock, endBlock, isExclusive };
      this.#held.add(held);
      candidate.grant(held);
    }
  }

  /** Is there an overlapping holder, or one of the first `ahead` waiters, that excludes `wanted`? */
  #isBlocked(wanted: Held, ahead: number): boolean {
    for (const other of this.#held) if (conflicts(wanted, other)) return true;
    for (let index = 0; index < ahead; index += 1) {
      const other = this.#waiting[index];
      if (other !== undefined && conflicts(wanted, other)) return true;
    }
    return false;
  }
}

function conflicts(a: Held, b: Held): boolean {
  return (a.isExclusive || b.isExclusive) && a.firstBlock < b.endBlock && b.firstBlock < a.endBlock;
}
