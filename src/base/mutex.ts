/** A fair asynchronous lock: holders come in the order in which they asked. */
export class Mutex {
  #tail: Promise<void> = Promise.resolve();
  #holders = 0;

  /** Is the lock held or waited for? */
  get isBusy(): boolean {
    return this.#holders > 0;
  }

  /** Runs `work` alone; its result or error is passed on. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    const previous = this.#tail;
    let release!: () => void;
    this.#tail = new Promise((resolve) => {
      release = resolve;
    });
    this.#holders += 1;
    await previous;
    try {
      return await work();
    } finally {
      this.#holders -= 1;
      release();
    }
  }
}
