import { assert } from "../base/assert.js";
import type { TaskRecord } from "./task-record.js";

/**
 * The tasks that are at the target, found by their tag without hashing: the low half of an initiator task tag is
 * the slot, the high half counts how often the slot was used, so that a late PDU of an older task does not match.
 */
export class TaskTable {
  readonly #slots: (TaskRecord | undefined)[];
  readonly #generations: Uint16Array;
  readonly #free: Uint16Array;
  #freeCount: number;

  /** `capacity` is below 0xfffe: the slots 0xfffe and 0xffff belong to control tasks and to the reserved tag. */
  constructor(capacity: number) {
    assert(capacity > 0 && capacity < 0xfffe, "task table capacity out of range");
    this.#slots = new Array<TaskRecord | undefined>(capacity).fill(undefined);
    this.#generations = new Uint16Array(capacity);
    this.#free = new Uint16Array(capacity);
    for (let index = 0; index < capacity; index += 1) this.#free[index] = capacity - 1 - index;
    this.#freeCount = capacity;
  }

  get hasRoom(): boolean {
    return this.#freeCount > 0;
  }

  get size(): number {
    return this.#slots.length - this.#freeCount;
  }

  /** Puts a task into a free slot and gives it its tag; only while `hasRoom`. */
  add(record: TaskRecord): void {
    assert(this.#freeCount > 0, "task table is full");
    this.#freeCount -= 1;
    const slot = this.#free[this.#freeCount] ?? 0;
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
    this.#free[this.#freeCount] = slot;
    this.#freeCount += 1;
  }

  /** The tasks in the order in which they were given to the session. */
  inOrder(): TaskRecord[] {
    const records: TaskRecord[] = [];
    for (const record of this.#slots) if (record !== undefined) records.push(record);
    return records.sort((a, b) => a.sequence - b.sequence);
  }
}
