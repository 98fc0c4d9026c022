import type { Random } from "./random.js";

export interface BackoffOptions {
  readonly initialMs: number;
  readonly maximumMs: number;
  /** Factor between one delay and the next; default 2. */
  readonly factor?: number;
  /** Share of the delay that is random, 0 to 1; default 0.5. */
  readonly jitter?: number;
}

/** Growing delays with jitter, so that many sessions that lost one target do not return in step. */
export class Backoff {
  readonly #options: Required<BackoffOptions>;
  readonly #random: Random;
  #nextMs: number;

  constructor(options: BackoffOptions, dependencies: { readonly random: Random }) {
    this.#options = { factor: 2, jitter: 0.5, ...options };
    this.#random = dependencies.random;
    this.#nextMs = options.initialMs;
  }

  /** The delay to wait now; the one after it is longer, up to the maximum. */
  next(): number {
    const { jitter, factor, maximumMs } = this.#options;
    const delayMs = this.#nextMs * (1 - jitter + jitter * this.#random.fraction());
    this.#nextMs = Math.min(maximumMs, this.#nextMs * factor);
    return delayMs;
  }

  reset(): void {
    this.#nextMs = this.#options.initialMs;
  }
}
