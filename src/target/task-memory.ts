import type { TargetTask } from "./task.js";

export interface TaskMemoryOptions {
  readonly maxBytes: number;
  /** Executes a task: there is room for its answer. */
  readonly run: (task: TargetTask) => void;
  /** A task has to wait. */
  readonly onShort: () => void;
}

/** The memory that answers of one session take: a task that does not fit waits, in order, until others gave back theirs. */
export class TaskMemory {
  readonly #options: TaskMemoryOptions;
  readonly #waiting: { readonly task: TargetTask; readonly costBytes: number }[] = [];
  #heldBytes = 0;

  constructor(options: TaskMemoryOptions) {
    this.#options = options;
  }

  /** Does a task wait for room? */
  get isShort(): boolean {
    return this.#waiting.length > 0;
  }

  /** Runs a queued task now, or when there is room. A single answer always has room. */
  request(task: TargetTask, costBytes: number): void {
    if (costBytes > 0 && !this.#fits(costBytes)) {
      this.#waiting.push({ task, costBytes });
      this.#options.onShort();
      return;
    }
    this.#run(task, costBytes);
  }

  /** A task gave its data back; doing so again does nothing. */
  giveBack(task: TargetTask): void {
    this.#heldBytes -= task.budgetBytes;
    task.budgetBytes = 0;
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const isWaiting = next.task.state === "queued";
      if (isWaiting && !this.#fits(next.costBytes)) {
        this.#options.onShort();
        return;
      }
      this.#waiting.shift();
      if (isWaiting) this.#run(next.task, next.costBytes);
    }
  }

  #fits(costBytes: number): boolean {
    return this.#heldBytes === 0 || this.#heldBytes + costBytes <= this.#options.maxBytes;
  }

  #run(task: TargetTask, costBytes: number): void {
    task.budgetBytes = costBytes;
    this.#heldBytes += costBytes;
    this.#options.run(task);
  }
}
