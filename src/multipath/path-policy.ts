/** How the requests of a volume are spread over its paths: the five policies of Microsoft's DSM, and one more. */
export type PathPolicy =
  /** All over one path, the first of the plan that can; back to an earlier one when it is up again. */
  | "fail-over-only"
  /** In turn over all of them. */
  | "round-robin"
  /** In turn over the active ones; over those on standby while no active one can. */
  | "round-robin-subset"
  /** All over the path with the lowest weight. */
  | "weighted-path"
  /** Over the path with the fewest unanswered requests. */
  | "least-queue-depth"
  /** Over the path that would be done first: bytes under way over the throughput measured. */
  | "least-service-time";

export const PATH_POLICIES = [
  "fail-over-only",
  "round-robin",
  "round-robin-subset",
  "weighted-path",
  "least-queue-depth",
  "least-service-time",
] as const satisfies readonly PathPolicy[];

/** Robust where paths differ, and fair where they do not. */
export const DEFAULT_PATH_POLICY: PathPolicy = "least-queue-depth";
