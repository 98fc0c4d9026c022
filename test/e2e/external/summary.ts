import type { Explanation, LeftOut } from "./explained.js";
import { countBy, type Spec } from "./report.js";

export interface SummaryInput {
  readonly specs: readonly Spec[];
  /** Groups of tests that the suite did not define for this driver, by reason. */
  readonly unregistered: ReadonlyMap<string, number>;
  readonly explained: readonly Explanation[];
  readonly leftOut: readonly LeftOut[];
}

export interface Summary {
  readonly passed: number;
  readonly failed: readonly Spec[];
  readonly explainedFailures: readonly (Spec & { readonly reason: string })[];
  /** Explanations of tests that did not fail: to be removed. */
  readonly idleExplanations: readonly Explanation[];
  /** Skipped tests by reason. */
  readonly skipped: ReadonlyMap<string, number>;
  readonly unregistered: ReadonlyMap<string, number>;
}

/** Sorts the outcome of a run. */
export function summarize({ specs, unregistered, explained, leftOut }: SummaryInput): Summary {
  const failed = specs.filter(({ state }) => state === "failed");
  const reasonOf = (spec: Spec): string | undefined => explained.find(({ name }) => name === spec.name)?.reason;
  const skipped = specs.filter(({ state }) => state === "skipped");
  return {
    passed: specs.filter(({ state }) => state === "passed").length,
    failed: failed.filter((spec) => reasonOf(spec) === undefined),
    explainedFailures: failed.flatMap((spec) => {
      const reason = reasonOf(spec);
      return reason === undefined ? [] : [{ ...spec, reason }];
    }),
    idleExplanations: explained.filter(({ name }) => !failed.some((spec) => spec.name === name)),
    skipped: countBy(skipped, (spec) => skipReason(spec, leftOut)),
    unregistered,
  };
}

function skipReason(spec: Spec, leftOut: readonly LeftOut[]): string {
  if (spec.message !== "") return spec.message.trim();
  const chosen = leftOut.find(({ expression }) => expression.test(spec.name));
  return chosen === undefined ? "not selected" : `left out here: ${chosen.reason}`;
}

/** May the run count as good? Something must have passed. */
export function isGood(summary: Summary): boolean {
  return summary.passed > 0 && summary.failed.length === 0 && summary.idleExplanations.length === 0;
}

/** For a terminal. */
export function formatSummary(summary: Summary): string {
  const lines: string[] = [];
  const count = (reasons: ReadonlyMap<string, number>): number => [...reasons.values()].reduce((sum, n) => sum + n, 0);
  for (const { name, message } of summary.failed) lines.push(`FAILED  ${name}`, indent(message));
  for (const { name, reason } of summary.explainedFailures)
    lines.push(`failed  ${name}`, `        explained: ${reason}`);
  for (const { name } of summary.idleExplanations) lines.push(`explained in vain, it did not fail: ${name}`);
  lines.push("", "Skipped tests, by the suite's reason:");
  for (const [reason, number] of summary.skipped) lines.push(`  ${String(number).padStart(4)}  ${reason}`);
  lines.push("", "Groups of tests that do not apply to the driver, by the suite's reason:");
  for (const [reason, number] of summary.unregistered) lines.push(`  ${String(number).padStart(4)}  ${reason}`);
  const failed = `${summary.failed.length} failed, ${summary.explainedFailures.length} failed for an explained reason`;
  lines.push("", `${summary.passed} passed, ${failed}, ${count(summary.skipped)} skipped`);
  return lines.join("\n");
}

function indent(message: string): string {
  return message
    .trim()
    .split("\n")
    .slice(0, 6)
    .map((line) => `        ${line}`)
    .join("\n");
}
