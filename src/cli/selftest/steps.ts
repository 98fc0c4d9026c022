import type { Clock } from "../../base/clock.js";
import { errorMessage } from "../../base/errors.js";
import type { OutputPort } from "../output.js";

/** One line of the report. */
export interface StepResult {
  readonly name: string;
  readonly isPassed: boolean;
  readonly durationMs: number;
  readonly detail: string;
}

/**
 * Runs named steps in order, a line each with its time. The first failure ends the walk; what was prepared with
 * `onCleanUp` is undone in reverse order in any case, each as a step of its own.
 */
export class StepRunner {
  readonly #output: OutputPort;
  readonly #clock: Clock;
  readonly #results: StepResult[] = [];
  readonly #cleanUps: { readonly name: string; readonly work: () => Promise<string> }[] = [];

  constructor(dependencies: { readonly output: OutputPort; readonly clock: Clock }) {
    this.#output = dependencies.output;
    this.#clock = dependencies.clock;
  }

  get results(): readonly StepResult[] {
    return this.#results;
  }

  get hasFailed(): boolean {
    return this.#results.some((result) => !result.isPassed);
  }

  /** Runs `work`, which returns what to show beside the name. Passes its error on. */
  async step<T>(name: string, work: () => Promise<T>, describe: (value: T) => string = () => ""): Promise<T> {
    const startMs = this.#clock.nowMs();
    try {
      const value = await work();
      this.#report(name, true, startMs, describe(value));
      return value;
    } catch (error) {
      this.#report(name, false, startMs, errorMessage(error));
      throw error;
    }
  }

  /** Remembers how to undo what comes next. */
  onCleanUp(name: string, work: () => Promise<string>): void {
    this.#cleanUps.push({ name, work });
  }

  /** Undoes everything, newest first; a failure is reported and the rest is still undone. */
  async cleanUp(): Promise<void> {
    for (let next = this.#cleanUps.pop(); next !== undefined; next = this.#cleanUps.pop()) {
      await this.step(next.name, next.work, (text) => text).catch(() => undefined);
    }
  }

  #report(name: string, isPassed: boolean, startMs: number, detail: string): void {
    const durationMs = this.#clock.nowMs() - startMs;
    this.#results.push({ name, isPassed, durationMs, detail });
    const mark = isPassed ? "ok  " : "FAIL";
    this.#output.write(`  ${mark} ${name.padEnd(44)} ${durationMs.toFixed(0).padStart(6)} ms  ${detail}\n`);
  }
}
