import { FLAP_DAMPING_MS, FLAP_FALLS, FLAP_WINDOW_MS, MAX_FLAP_DAMPING_MS } from "../base/limits.js";

/**
 * Judges a path by how often it came and went. One that fell several times in a short while is left alone when it is up
 * again, twice as long with every further fall before it has been quiet for that while.
 */
export class FlapDamper {
  /** When it fell last, oldest first; at most FLAP_FALLS. */
  #fallsMs: number[] = [];
  /** 0: it may be used as soon as it is up. */
  #pauseMs = 0;
  #quietAtMs = 0;

  fell(nowMs: number): void {
    this.#fallsMs = [...this.#fallsMs, nowMs].slice(-FLAP_FALLS);
    if (this.#pauseMs > 0 && nowMs <= this.#quietAtMs) {
      this.#pauseMs = Math.min(MAX_FLAP_DAMPING_MS, 2 * this.#pauseMs);
      return;
    }
    const [oldestMs = nowMs] = this.#fallsMs;
    const isFlapping = this.#fallsMs.length === FLAP_FALLS && nowMs - oldestMs <= FLAP_WINDOW_MS;
    this.#pauseMs = isFlapping ? FLAP_DAMPING_MS : 0;
  }

  /** How long to leave it alone now that it is up; 0: not at all. */
  cameUp(nowMs: number): number {
    this.#quietAtMs = nowMs + this.#pauseMs + FLAP_WINDOW_MS;
    return this.#pauseMs;
  }
}
