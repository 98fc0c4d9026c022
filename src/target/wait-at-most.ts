import type { Clock } from "../base/clock.js";
import { createDeferred } from "../base/deferred.js";

export interface WaitOptions {
  readonly timeoutMs: number;
  readonly clock: Clock;
  /** When this resolves, nothing is worth waiting for any more. */
  readonly over: Promise<unknown>;
}

/** Waits for `promise` within bounds, and leaves no timer behind. True when it was resolved in time. */
export async function waitAtMost(promise: Promise<unknown>, options: WaitOptions): Promise<boolean> {
  const timeout = createDeferred<boolean>();
  const timer = options.clock.setTimer(options.timeoutMs, () => timeout.resolve(false));
  try {
    return await Promise.race([promise.then(() => true), timeout.promise, options.over.then(() => false)]);
  } finally {
    timer.cancel();
  }
}
