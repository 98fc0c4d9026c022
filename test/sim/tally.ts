import type { WorldResult } from "./world.js";

/** What many worlds come to; plain numbers, so that processes can hand it over. */
export interface Tally {
  seeds: number;
  failed: { readonly seed: number; readonly violations: readonly string[] }[];
  operations: number;
  virtualMs: number;
  cpuMs: number;
  readonly fired: Record<string, number>;
  readonly recovery: Record<string, number>;
  readonly targetRecovery: Record<string, number>;
  readonly changes: Record<string, number>;
  readonly checked: Record<string, number>;
  readonly failures: Record<string, number>;
}

export function emptyTally(): Tally {
  return {
    ...{ seeds: 0, operations: 0, virtualMs: 0, cpuMs: 0 },
    failed: [],
    fired: {},
    recovery: {},
    targetRecovery: {},
    changes: {},
    checked: {},
    failures: {},
  };
}

const MAX_VIOLATIONS_KEPT = 5;

export function addResult(tally: Tally, result: WorldResult): void {
  tally.seeds += 1;
  tally.operations += result.operations;
  tally.virtualMs += result.virtualMs;
  addCounts(tally.fired, result.fired);
  addCounts(tally.recovery, result.recovery);
  addCounts(tally.targetRecovery, result.targetRecovery);
  addCounts(tally.changes, result.changes);
  addCounts(tally.checked, result.checked);
  addCounts(tally.failures, result.failures);
  if (result.violations.length === 0) return;
  tally.failed.push({ seed: result.seed, violations: result.violations.slice(0, MAX_VIOLATIONS_KEPT) });
}

export function addTally(tally: Tally, other: Tally): void {
  tally.seeds += other.seeds;
  tally.operations += other.operations;
  tally.virtualMs += other.virtualMs;
  tally.cpuMs += other.cpuMs;
  tally.failed.push(...other.failed);
  addCounts(tally.fired, other.fired);
  addCounts(tally.recovery, other.recovery);
  addCounts(tally.targetRecovery, other.targetRecovery);
  addCounts(tally.changes, other.changes);
  addCounts(tally.checked, other.checked);
  addCounts(tally.failures, other.failures);
}

export function addCounts(sum: Record<string, number>, counts: Readonly<Record<string, number | undefined>>): void {
  for (const [name, count] of Object.entries(counts)) sum[name] = (sum[name] ?? 0) + (count ?? 0);
}

/** `name count` pairs in columns, by name. */
export function formatCounts(counts: Readonly<Record<string, number>>): string {
  const width = Math.max(0, ...Object.keys(counts).map((name) => name.length));
  return Object.entries(counts)
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([name, count]) => `  ${name.padEnd(width)} ${String(count).padStart(9)}`)
    .join("\n");
}
