/**
 * How the commands of a session are spread over its connections: the five policies of Microsoft's initiator. Pure
 * choices among the connections that are alive.
 */
export type ConnectionPolicy =
  /** All on one connection, the first of the plan that is alive; back to an earlier one as soon as it is. */
  | "fail-over-only"
  /** In turn over all of them. */
  | "round-robin"
  /** In turn over the active ones; over the standby ones while no active one is alive. */
  | "round-robin-subset"
  /** All on the one with the lowest weight. */
  | "weighted-path"
  /** To the one with the fewest unanswered commands. */
  | "least-queue-depth";

export const CONNECTION_POLICIES = [
  "fail-over-only",
  "round-robin",
  "round-robin-subset",
  "weighted-path",
  "least-queue-depth",
] as const satisfies readonly ConnectionPolicy[];

/** What a policy knows of a connection. */
export interface PolicyCandidate {
  /** Place in the session's plan: the preferred one is 0. */
  readonly rank: number;
  readonly weight: number;
  readonly isStandby: boolean;
  /** Commands that were sent over it and not answered. */
  readonly inFlight: number;
}

/** Chooses for one session; keeps the turn of the round robins. */
export class ConnectionSelector {
  policy: ConnectionPolicy;
  #turn = 0;

  constructor(policy: ConnectionPolicy) {
    this.policy = policy;
  }

  /** The connection for the next command; undefined when there is none. `candidates` is in the plan's order. */
  choose<T extends PolicyCandidate>(candidates: readonly T[]): T | undefined {
    if (candidates.length <= 1) return candidates[0];
    switch (this.policy) {
      case "fail-over-only":
        return least(candidates, (candidate) => candidate.rank);
      case "round-robin":
        return this.#next(candidates);
      case "round-robin-subset": {
        const active = candidates.filter((candidate) => !candidate.isStandby);
        return this.#next(active.length > 0 ? active : candidates);
      }
      case "weighted-path":
        return least(candidates, (candidate) => candidate.weight);
      case "least-queue-depth":
        return least(candidates, (candidate) => candidate.inFlight);
    }
  }

  #next<T>(candidates: readonly T[]): T | undefined {
    this.#turn = (this.#turn + 1) % candidates.length;
    return candidates[this.#turn];
  }
}

/** The first of those with the lowest measure. */
function least<T>(candidates: readonly T[], measure: (candidate: T) => number): T | undefined {
  let best: T | undefined;
  let lowest = Number.POSITIVE_INFINITY;
  for (const candidate of candidates) {
    const value = measure(candidate);
    if (value >= lowest) continue;
    lowest = value;
    best = candidate;
  }
  return best;
}
