import { addCounts } from "../tally.js";
import type { PathWorldResult } from "./path-world.js";

/** What many worlds of paths come to; plain numbers, so that processes can hand it over. */
export interface PathTally {
  seeds: number;
  failed: { readonly seed: number; readonly violations: readonly string[] }[];
  operations: number;
  virtualMs: number;
  longestMs: number;
  cpuMs: number;
  readonly fired: Record<string, number>;
  readonly recovery: Record<string, number>;
  readonly changes: Record<string, number>;
  readonly checked: Record<string, number>;
  readonly failures: Record<string, number>;
}

const MAX_VIOLATIONS_KEPT = 5;

export function emptyPathTally(): PathTally {
  return {
    ...{ seeds: 0, operations: 0, virtualMs: 0, longestMs: 0, cpuMs: 0 },
    failed: [],
    ...{ fired: {}, recovery: {}, changes: {}, checked: {}, failures: {} },
  };
}

export function addPathResult(tally: PathTally, result: PathWorldResult): void {
  const { seed, violations } = result;
  const failed = violations.length === 0 ? [] : [{ seed, violations: violations.slice(0, MAX_VIOLATIONS_KEPT) }];
  addPathTally(tally, { ...result, seeds: 1, cpuMs: 0, failed });
}

export function addPathTally(tally: PathTally, other: Omit<PathTally, never>): void {
  tally.seeds += other.seeds;
  tally.operations += other.operations;
  tally.virtualMs += other.virtualMs;
  tally.longestMs = Math.max(tally.longestMs, other.longestMs);
  tally.cpuMs += other.cpuMs;
  tally.failed.push(...other.failed);
  addCounts(tally.fired, other.fired);
  addCounts(tally.recovery, other.recovery);
  addCounts(tally.changes, other.changes);
  addCounts(tally.checked, other.checked);
  addCounts(tally.failures, other.failures);
}
