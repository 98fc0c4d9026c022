import type { PduView } from "./pdu-view.js";

/** Counts what was looked at and remembers what was wrong. */
export class Findings {
  readonly violations: string[] = [];
  readonly checked: Record<string, number> = {};
  readonly #nowMs: () => number;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  require(isTrue: boolean, rule: string, pdu: PduView, seen: unknown): void {
    this.checked[rule] = (this.checked[rule] ?? 0) + 1;
    if (!isTrue) this.report(`${rule}: ${JSON.stringify(seen)} in ${pdu.describe()}`);
  }

  report(text: string): void {
    this.violations.push(`[${this.#nowMs().toFixed(3)} ms] ${text}`);
  }
}
