import type { TaskRecord } from "./task-record.js";

/** Tasks that wait for the window, a slot or a path: first in, first out. The owner bounds it. */
export class TaskQueue {
  #items: (TaskRecord | undefined)[] = [];
  #head = 0;

  get length(): number {
    return this.#items.length - this.#head;
  }

  push(record: TaskRecord): void {
    this.#items.push(record);
  }

  /** The first one, still in the queue. */
  peek(): TaskRecord | undefined {
    return this.#items[this.#head];
  }

  shift(): TaskRecord | undefined {
    const record = this.#items[this.#head];
    if (record === undefined) return undefined;
    this.#items[this.#head] = undefined;
    this.#head += 1;
    if (this.#head >= 64 && this.#head * 2 >= this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return record;
  }

  /** Puts `records` before all others, in their order. */
  unshift(records: readonly TaskRecord[]): void {
    this.#items = [...records, ...this.#items.slice(this.#head)];
    this.#head = 0;
  }

  /** Takes out what `isTaken` picks, in order. */
  takeWhere(isTaken: (record: TaskRecord) => boolean): TaskRecord[] {
    const taken: TaskRecord[] = [];
    const kept: TaskRecord[] = [];
    for (const record of this.#items) {
      if (record === undefined) continue;
      (isTaken(record) ? taken : kept).push(record);
    }
    this.#items = kept;
    this.#head = 0;
    return taken;
  }
}
