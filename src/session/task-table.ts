import { assert } from "../base/assert.js";
import type { TaskRecord } from "./task-record.js";

/**
 * The tasks that are at the target, found by their tag without hashing: the low half of an initiator task tag is
 * the slot, the high half counts how often the slot was used, so that a late PDU of an older task does not match.
 */
export class TaskTable {
  readonly #slots: (TaskRecord | undefined)[];
  /** As long as the highest slot that was ever used. */
  readonly #generations: number[] = [];
  readonly #free: number[];

  /** `capacity` is below 0xfffe: the slots 0xfffe and 0xffff belong to control tasks and to the reserved tag. */
  constructor(capacity: number) {
    assert(capacity > 0 && capacity < 0xfffe, "task table capacity out of range");
    this.#slots = new Array<TaskRecord | undefined>(capacity).fill(undefined);
    this.#free = Array.from({ length: capacity }, (_, index) => capacity - 1 - index);
  }

  get hasRoom(): boolean {
    return this.#free.length > 0;
  }

  get size(): number {
    return this.#slots.length - this.#free.length;
  }

  /** Puts a task into a free slot and gives it its tag; only while `hasRoom`. */
  add(record: TaskRecord): void {
    const slot = this.#free.pop();
    assert(slot !== undefined, "task table is full");
    const generation = ((this.#generations[slot] ?? 0) + 1) & 0xffff;
    this.#generations[slot] = generation;
    this.#slots[slot] = record;
    record.initiatorTaskTag = ((generation << 16) | slot) >>> 0;
  }

  find(initiatorTaskTag: number): TaskRecord | undefined {
    const record = this.#slots[initiatorTaskTag & 0xffff];
    return record !== undefined && record.initiatorTaskTag === initiatorTaskTag ? record : undefined;
  }

  /** Frees the slot; the record is the caller's. */
  remove(record: TaskRecord): void {
    const slot = record.initiatorTaskTag & 0xffff;
    assert(this.#slots[slot] === record, "task is not in the table");
    this.#slots[slot] = undefined;
    this.#free.push(slot);
  }

  /** The tasks in the order in which they were given to the session. */
  inOrder(): TaskRecord[] {
    const records: TaskRecord[] = [];
    for (const record of this.#slots) if (record !== undefined) records.push(record);
    return records.sort((a, b) => a.sequence - b.sequence);
  }
}
