import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Outcome } from "./scenarios/run-scenario.js";

export interface RunResult {
  readonly startedAt: string;
  readonly durationMs: number;
  readonly outcomes: readonly Outcome[];
  /** What the cluster or this machine could not do, and why. */
  readonly notes: readonly string[];
}

function figuresText({ figures }: Outcome): string {
  return figures.map(({ name, value, unit }) => `${name} ${value}${unit === "" ? "" : ` ${unit}`}`).join(", ");
}

function detailText(outcome: Outcome): string {
  const parts = [outcome.problem.split("\n")[0] ?? "", figuresText(outcome), ...outcome.notes];
  return parts.filter((part) => part !== "").join("; ");
}

/** The table for a terminal: verdict, duration, name, what it showed, figures. */
export function formatTable(result: RunResult): string {
  const width = Math.max(...result.outcomes.map(({ name }) => name.length), 4);
  const rows = result.outcomes.map((outcome) => {
    const verdict = outcome.isPassed ? "passed" : "FAILED";
    const seconds = `${(outcome.durationMs / 1000).toFixed(1)} s`;
    const detail = detailText(outcome);
    const head = `${verdict}  ${seconds.padStart(8)}  ${outcome.name.padEnd(width)}  ${outcome.title}`;
    return detail === "" ? head : `${head}\n${" ".repeat(20 + width)}${detail}`;
  });
  const failed = result.outcomes.filter(({ isPassed }) => !isPassed).length;
  const sum = `${result.outcomes.length - failed} passed, ${failed} failed, ${(result.durationMs / 1000).toFixed(0)} s in all`;
  return [...rows, ...result.notes.map((note) => `note: ${note}`), sum].join("\n");
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|").replaceAll("\n", " ");
}

/** The same as a Markdown table. */
export function formatMarkdown(result: RunResult): string {
  const rows = result.outcomes.map((outcome) => {
    const verdict = outcome.isPassed ? "passed" : "**failed**";
    const seconds = (outcome.durationMs / 1000).toFixed(1);
    return `| ${outcome.name} | ${cell(outcome.title)} | ${verdict} | ${seconds} | ${cell(detailText(outcome))} |`;
  });
  return [
    `End-to-end scenarios of ${result.startedAt}`,
    "",
    "| scenario | what it shows | verdict | seconds | figures |",
    "|---|---|---|---|---|",
    ...rows,
    "",
    ...result.notes.map((note) => `- ${note}`),
    "",
  ].join("\n");
}

/** Writes `scenarios.json` and `scenarios.md` into `directory`; failed scenarios leave a file of their own. */
export function writeResults(directory: string, result: RunResult): void {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "scenarios.json"), `${JSON.stringify(result, undefined, 2)}\n`);
  writeFileSync(join(directory, "scenarios.md"), formatMarkdown(result));
  for (const { name, problem, diagnostics } of result.outcomes.filter(({ isPassed }) => !isPassed)) {
    writeFileSync(join(directory, `failed-${name}.txt`), `${problem}\n\n${diagnostics}\n`);
  }
}
