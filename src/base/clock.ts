/** A timer that was set; `cancel` after it fired does nothing. */
export interface Timer {
  cancel(): void;
}

/** Time as the core sees it, so that a simulation can own it. */
export interface Clock {
  /** Monotonic milliseconds (with fractions) since an arbitrary start: for durations and deadlines. */
  nowMs(): number;
  /** Milliseconds since 1970: only for what people read. */
  wallTimeMs(): number;
  /** Calls `callback` once, not before `delayMs` have passed. */
  setTimer(delayMs: number, callback: () => void): Timer;
  /** Calls `callback` after the work that is ready now, in the same turn of the event loop or the next. */
  defer(callback: () => void): void;
}

/** Resolves after `delayMs`; rejects with the signal's reason when that aborts first. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(signal.reason as Error);
      return;
    }
    const onAbort = (): void => {
      timer.cancel();
      reject(signal?.reason as Error);
    };
    const timer = clock.setTimer(delayMs, () => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
