import { Condition, type SenseCode } from "./check-condition.js";

/** Kept per nexus: more than the kinds there are cannot be pending, since each kind is kept once. */
const MAX_PENDING = 16;

/**
 * The unit attention conditions of one logical unit, per I_T nexus (SAM-5 §5.14). A condition that is already
 * pending is not added twice; a reset or power-on takes the place of everything before it.
 */
export class UnitAttentions {
  readonly #pending = new Map<string, SenseCode[]>();

  /** Is nothing pending for anyone? The fast path of every command. */
  get isEmpty(): boolean {
    return this.#pending.size === 0;
  }

  /** Establishes `condition` for the nexus `nexusId`. */
  add(nexusId: string, condition: SenseCode): void {
    const list = this.#pending.get(nexusId);
    const isReset = condition.asc >>> 8 === 0x29;
    if (list === undefined || isReset) {
      this.#pending.set(nexusId, [condition]);
      return;
    }
    if (list.length < MAX_PENDING && !list.some((known) => known.asc === condition.asc)) list.push(condition);
  }

  /** The oldest condition of the nexus, left in place. */
  peek(nexusId: string): SenseCode | undefined {
    return this.#pending.get(nexusId)?.[0];
  }

  /** The oldest condition of the nexus, taken out: it has been reported. */
  take(nexusId: string): SenseCode | undefined {
    const list = this.#pending.get(nexusId);
    const condition = list?.shift();
    if (list?.length === 0) this.#pending.delete(nexusId);
    return condition;
  }

  /** REPORT LUNS ends REPORTED LUNS DATA HAS CHANGED for its nexus, SPC-5 §6.32. */
  clearReportedLuns(nexusId: string): void {
    const left = this.#pending.get(nexusId)?.filter((known) => known.asc !== Condition.reportedLunsChanged.asc);
    if (left === undefined) return;
    if (left.length === 0) this.#pending.delete(nexusId);
    else this.#pending.set(nexusId, left);
  }

  /** Forgets a nexus that is gone. */
  forget(nexusId: string): void {
    this.#pending.delete(nexusId);
  }
}
