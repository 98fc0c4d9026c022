import { CsiError } from "./errors.js";

/**
 * Lets one call per volume through at a time. The check and the entry are one synchronous step, so that no second
 * call can pass between them; a call that is refused changes nothing and can be repeated.
 */
export class InFlight {
  readonly #keys = new Map<string, string>();

  /** Runs `work` as the only holder of `key`; CSI_ABORTED names the call that is under way. */
  async run<T>(key: string, method: string, work: () => Promise<T>): Promise<T> {
    const holder = this.#keys.get(key);
    if (holder !== undefined) {
      throw new CsiError("CSI_ABORTED", `${holder} for ${key} is still under way; try again`);
    }
    this.#keys.set(key, method);
    try {
      return await work();
    } finally {
      this.#keys.delete(key);
    }
  }
}
