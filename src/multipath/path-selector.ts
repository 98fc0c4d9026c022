import { unreachable } from "../base/assert.js";
import type { PathPolicy } from "./path-policy.js";

/** What a policy knows of a path that takes requests. */
export interface PolicyCandidate {
  /** Place in the plan; 0 is preferred. */
  readonly rank: number;
  readonly weight: number;
  readonly isStandby: boolean;
  /** See accessTier: never NO_TIER here. */
  readonly tier: number;
  /** PREF of its target port group. */
  readonly isPreferred: boolean;
  readonly upSinceMs: number;
  readonly requestsInFlight: number;
  readonly bytesInFlight: number;
  /** 0 when it is not known. */
  bytesPerMs(nowMs: number): number;
}

/**
 * Chooses the path of each request. Which paths come into question is worked out when something changes (`update`), so
 * that a request costs a look at those few.
 */
export class PathSelector<T extends PolicyCandidate> {
  readonly #failbackDelayMs: number | undefined;
  #policy: PathPolicy;
  #candidates: readonly T[] = [];
  #chosen: readonly T[] = [];
  /** The one path of fail-over-only. */
  #active: T | undefined;
  #turn = 0;

  /** `failbackDelayMs` undefined: fail-over-only keeps to its path as long as that takes requests. */
  constructor(policy: PathPolicy, failbackDelayMs: number | undefined) {
    this.#policy = policy;
    this.#failbackDelayMs = failbackDelayMs;
  }

  get policy(): PathPolicy {
    return this.#policy;
  }

  /** From the next `update` on, which must follow. */
  set policy(policy: PathPolicy) {
    if (policy === this.#policy) return;
    this.#policy = policy;
    this.#active = undefined;
  }

  /** The paths requests are spread over now. */
  get chosen(): readonly T[] {
    return this.#chosen;
  }

  /** The one path of fail-over-only; undefined with the other policies, and when there is none. */
  get active(): T | undefined {
    return this.#active;
  }

  /**
   * Takes over which paths take requests, lowest rank first. Returns after how many milliseconds to call it again because
   * a better path will have been up for long enough; undefined: not by itself.
   */
  update(candidates: readonly T[], nowMs: number): number | undefined {
    this.#candidates = candidates;
    if (this.#policy === "fail-over-only") return this.#updateActive(bestTier(candidates), nowMs);
    this.#chosen = eligible(this.#policy, candidates);
    return undefined;
  }

  /** The path of the next request; undefined when none takes any. */
  next(lengthBytes: number, nowMs: number): T | undefined {
    return this.#pick(this.#chosen, lengthBytes, nowMs);
  }

  /** The same for a request that should not go over any of `avoided`; undefined when no other path takes it. */
  nextBeside(avoided: ReadonlySet<T>, lengthBytes: number, nowMs: number): T | undefined {
    const others = this.#candidates.filter((candidate) => !avoided.has(candidate));
    return this.#pick(eligible(this.#policy, others), lengthBytes, nowMs);
  }

  #updateActive(candidates: readonly T[], nowMs: number): number | undefined {
    const best = preferred(candidates);
    const isKept = this.#active !== undefined && candidates.includes(this.#active) && this.#active !== best;
    const waitMs = isKept && best !== undefined ? this.#failbackWait(best, nowMs) : 0;
    if (waitMs === 0) this.#active = best;
    this.#chosen = this.#active === undefined ? [] : [this.#active];
    return waitMs > 0 && Number.isFinite(waitMs) ? waitMs : undefined;
  }

  #failbackWait(best: T, nowMs: number): number {
    if (this.#failbackDelayMs === undefined) return Number.POSITIVE_INFINITY;
    return Math.max(0, best.upSinceMs + this.#failbackDelayMs - nowMs);
  }

  #pick(paths: readonly T[], lengthBytes: number, nowMs: number): T | undefined {
    if (paths.length <= 1) return paths[0];
    switch (this.#policy) {
      case "fail-over-only":
      case "weighted-path":
        return paths[0];
      case "round-robin":
      case "round-robin-subset":
        return this.#leastInTurn(paths, alike);
      case "least-queue-depth":
        return this.#leastInTurn(paths, queueDepth);
      case "least-service-time":
        return this.#leastInTurn(paths, serviceTime(paths, lengthBytes, nowMs));
      default:
        return unreachable(this.#policy);
    }
  }

  /** The path with the lowest measure; those that are alike take turns. */
  #leastInTurn(paths: readonly T[], measure: (path: T) => number): T | undefined {
    let best: T | undefined;
    let bestIndex = 0;
    let lowest = Number.POSITIVE_INFINITY;
    for (let step = 0; step < paths.length; step += 1) {
      const index = (this.#turn + step) % paths.length;
      const path = paths[index];
      if (path === undefined) continue;
      const value = measure(path);
      if (best !== undefined && value >= lowest) continue;
      best = path;
      bestIndex = index;
      lowest = value;
    }
    this.#turn = (bestIndex + 1) % paths.length;
    return best;
  }
}

const alike = (): number => 0;
const queueDepth = (path: PolicyCandidate): number => path.requestsInFlight;

/** When would a request of `lengthBytes` be done? A path that was not measured counts as the fastest of those that were. */
function serviceTime(
  paths: readonly PolicyCandidate[],
  lengthBytes: number,
  nowMs: number,
): (path: PolicyCandidate) => number {
  let fastest = 0;
  for (const path of paths) fastest = Math.max(fastest, path.bytesPerMs(nowMs));
  const assumed = fastest === 0 ? 1 : fastest;
  return (path) => {
    const bytesPerMs = path.bytesPerMs(nowMs);
    return (path.bytesInFlight + lengthBytes) / (bytesPerMs === 0 ? assumed : bytesPerMs);
  };
}

/** Those of `candidates` that the policy spreads requests over. */
function eligible<T extends PolicyCandidate>(policy: PathPolicy, candidates: readonly T[]): readonly T[] {
  const best = bestTier(candidates);
  switch (policy) {
    case "fail-over-only":
      return onlyOne(preferred(best));
    case "weighted-path":
      return onlyOne(least(best, (path) => path.weight));
    case "round-robin-subset": {
      const active = best.filter((path) => !path.isStandby);
      return active.length > 0 ? active : best;
    }
    case "round-robin":
    case "least-queue-depth":
    case "least-service-time":
      return best;
    default:
      return unreachable(policy);
  }
}

function bestTier<T extends PolicyCandidate>(candidates: readonly T[]): readonly T[] {
  let lowest = Number.POSITIVE_INFINITY;
  for (const { tier } of candidates) lowest = Math.min(lowest, tier);
  return candidates.filter(({ tier }) => tier === lowest);
}

/** The lowest rank of those the array would like to be used, or of all when it does not say. */
function preferred<T extends PolicyCandidate>(candidates: readonly T[]): T | undefined {
  return least(candidates, (path) => (path.isPreferred ? 0 : 1));
}

/** The path with the lowest measure, and of several alike the one with the lowest rank. */
function least<T extends PolicyCandidate>(paths: readonly T[], measure: (path: T) => number): T | undefined {
  let best: T | undefined;
  for (const path of paths) {
    if (best === undefined || (measure(path) - measure(best) || path.rank - best.rank) < 0) best = path;
  }
  return best;
}

function onlyOne<T>(path: T | undefined): readonly T[] {
  return path === undefined ? [] : [path];
}
