import type { Clock, Timer } from "./clock.js";

/** The machine's clock. Timers do not keep the process alive on their own when `unref` is set. */
export class SystemClock implements Clock {
  readonly #unref: boolean;

  constructor(options: { readonly unref?: boolean } = {}) {
    this.#unref = options.unref ?? false;
  }

  nowMs(): number {
    return performance.now();
  }

  wallTimeMs(): number {
    return Date.now();
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const handle = setTimeout(callback, Math.max(0, delayMs));
    if (this.#unref) handle.unref();
    return { cancel: () => clearTimeout(handle) };
  }

  defer(callback: () => void): void {
    setImmediate(callback);
  }
}
