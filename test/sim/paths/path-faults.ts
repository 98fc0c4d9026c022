import type { Draw } from "../plan.js";

/** What goes wrong between a node and its unit when there are several paths. */
export const PATH_FAULT_KINDS = [
  "path-cut",
  "paths-cut",
  "path-stall-to-target",
  "path-stall-to-initiator",
  "path-stall-both",
  /** Nothing comes through any more, logins neither; what was sent comes later. */
  "path-black-hole",
  "source-dead",
  "portal-refused",
  "portal-silent",
  "portal-replaced",
  "target-crash",
  "target-restart",
  "target-freeze",
  "disk-hang",
  /** Some writes take far longer than others, and a group of paths never hears of them. */
  "writes-lag",
  "states-swapped",
  "states-transitioning",
  "group-unavailable",
  "all-standby",
  "identity-swapped",
  "unit-grown",
  "unit-grown-unevenly",
  "rival-writes",
  "rival-preempts",
  "process-crash",
  "process-pause",
  "wall-clock-jump",
] as const;
export type PathFaultKind = (typeof PATH_FAULT_KINDS)[number];

export interface PathFault {
  readonly kind: PathFaultKind;
  readonly atMs: number;
  /** How long it lasts, where it lasts. */
  readonly durationMs: number;
  /** Decides what the kind leaves open. */
  readonly salt: number;
}

export interface PathFaultTerms {
  readonly spanMs: number;
  readonly portals: number;
  readonly hasTwoGroups: boolean;
  readonly hasSpare: boolean;
  readonly isReserved: boolean;
  readonly keepsBytes: boolean;
}

/** Happen once in a world at most. */
const ONCE: ReadonlySet<PathFaultKind> = new Set([
  "portal-replaced",
  "unit-grown",
  "unit-grown-unevenly",
  "rival-preempts",
  "process-crash",
]);

/** Those that try what this layer is for, and so come more often. */
const FAVOURITES: readonly PathFaultKind[] = [
  "path-stall-to-target",
  "path-stall-to-initiator",
  "path-black-hole",
  "path-black-hole",
  "writes-lag",
  "writes-lag",
  "process-crash",
];

export function drawPathFaults(draw: Draw, terms: PathFaultTerms): PathFault[] {
  const kinds = [...PATH_FAULT_KINDS, ...FAVOURITES].filter((kind) => isPossible(kind, terms));
  const had = new Set<PathFaultKind>();
  const faults: PathFault[] = [];
  // One world in seven has none: there nothing may go wrong at all, and requests go where the policy says.
  const count = draw.chance(0.14) ? 0 : draw.between(1, draw.chance(0.15) ? 10 : 4);
  let atMs = 0;
  for (let index = 0; index < count; index += 1) {
    // Two at once, now and then.
    if (index === 0 || !draw.chance(0.25)) atMs = draw.between(0, Math.floor(terms.spanMs * 0.9));
    const kind = draw.pick(kinds);
    const durationMs = draw.pick([50, 500, 3_000, 8_000, 15_000]);
    const salt = draw.random.uint32();
    if (ONCE.has(kind) && had.has(kind)) continue;
    had.add(kind);
    faults.push({ kind, atMs, durationMs, salt });
  }
  return faults.sort((a, b) => a.atMs - b.atMs);
}

function isPossible(kind: PathFaultKind, terms: PathFaultTerms): boolean {
  if (kind === "portal-replaced") return terms.hasSpare;
  if (kind === "states-swapped") return terms.hasTwoGroups;
  if (kind === "path-black-hole") return terms.keepsBytes;
  if (kind === "unit-grown-unevenly") return terms.portals > 1;
  return kind.startsWith("rival-") ? terms.isReserved : true;
}
