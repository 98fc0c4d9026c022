import { Mutex } from "./mutex.js";

/** One fair lock per key; a key nobody holds or waits for costs nothing. */
export class KeyedMutex {
  readonly #locks = new Map<string, Mutex>();

  /** Runs `work` alone among all that gave the same key. */
  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const lock = this.#locks.get(key) ?? new Mutex();
    this.#locks.set(key, lock);
    try {
      return await lock.run(work);
    } finally {
      if (!lock.isBusy) this.#locks.delete(key);
    }
  }
}
