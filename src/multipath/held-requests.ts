import type { Clock, Timer } from "../base/clock.js";
import { createDeferred, type Deferred } from "../base/deferred.js";
import type { AppError } from "../base/errors.js";

/**
 * Requests that are not under way over any path: held until there is one, or pausing before they are tried again. There
 * are never more than the device's users have given it. What was held longest goes first.
 */
export class HeldRequests {
  readonly #clock: Clock;
  /** In the order in which they came. */
  readonly #held = new Set<Deferred<undefined>>();
  readonly #pausing = new Map<Deferred<undefined>, Timer>();
  #refusal: AppError | undefined;
  #isOver = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Requests that wait for a path. */
  get count(): number {
    return this.#held.size;
  }

  /** Why no request is taken any more, for good; undefined while they are. */
  get end(): AppError | undefined {
    return this.#isOver ? this.#refusal : undefined;
  }

  /** Resolves when there is a path again. Rejects at once or later with what `refuse` and `finish` were given. */
  hold(signal?: AbortSignal): Promise<undefined> {
    if (this.#refusal !== undefined) return Promise.reject(this.#refusal);
    const held = createDeferred<undefined>();
    this.#held.add(held);
    const onAbort = (): void => {
      this.#held.delete(held);
      held.reject(signal?.reason);
    };
    if (signal?.aborted === true) onAbort();
    signal?.addEventListener("abort", onAbort, { once: true });
    return held.promise.finally(() => signal?.removeEventListener("abort", onAbort));
  }

  /** Resolves after `delayMs`. Rejects with what `finish` was given. */
  pause(delayMs: number): Promise<undefined> {
    const pausing = createDeferred<undefined>();
    const timer = this.#clock.setTimer(delayMs, () => {
      this.#pausing.delete(pausing);
      pausing.resolve(undefined);
    });
    this.#pausing.set(pausing, timer);
    return pausing.promise;
  }

  /** There is a path. */
  release(): void {
    if (this.#isOver) return;
    this.#refusal = undefined;
    for (const held of this.#takeHeld()) held.resolve(undefined);
  }

  /** What is held, and what would be until `release`, fails. */
  refuse(reason: AppError): void {
    if (this.#isOver) return;
    this.#refusal = reason;
    for (const held of this.#takeHeld()) held.reject(reason);
  }

  /** Nothing is taken any more. Only the first call counts. */
  finish(reason: AppError): void {
    this.refuse(reason);
    this.#isOver = true;
    for (const [pausing, timer] of this.#pausing) {
      timer.cancel();
      pausing.reject(this.#refusal);
    }
    this.#pausing.clear();
  }

  #takeHeld(): Deferred<undefined>[] {
    const held = [...this.#held];
    this.#held.clear();
    return held;
  }
}
