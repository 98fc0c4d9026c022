import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

export type ProgramName = "hawser" | "hawserctl";

const files: Readonly<Record<ProgramName, string>> = {
  hawser: join(process.cwd(), "dist", "main.js"),
  hawserctl: join(process.cwd(), "dist", "hawserctl.js"),
};

/** What these tests need: the built programs. */
export const CLI_NEEDS = Object.values(files);

export interface CliResult {
  readonly exitCode: number | null;
  readonly out: string;
  readonly err: string;
}

/** One of our programs as a real process, started by `starter` (setpriv, unshare) when one is given. */
export class CliProcess {
  readonly #child: ChildProcess;
  #out = "";
  #err = "";

  constructor(program: ProgramName, args: readonly string[], starter: readonly string[] = []) {
    const [file = "", ...rest] = [...starter, process.execPath, files[program], ...args];
    this.#child = spawn(file, rest, { stdio: ["ignore", "pipe", "pipe"] });
    this.#child.stdout?.on("data", (chunk: Buffer) => (this.#out += chunk.toString()));
    this.#child.stderr?.on("data", (chunk: Buffer) => (this.#err += chunk.toString()));
  }

  /** Waits until the program has written this, to either of its outputs. */
  async says(pattern: RegExp): Promise<void> {
    for (let attempt = 0; attempt < 300; attempt += 1) {
      if (pattern.test(this.#out + this.#err)) return;
      if (this.#child.exitCode !== null) break;
      await delay(50);
    }
    throw new Error(`the program did not say ${String(pattern)}:\n${this.#out}${this.#err}`);
  }

  /** Waits for its end; kills it after `limitMs` (the exit code is null then). */
  async end(limitMs = 20_000): Promise<CliResult> {
    const killer = setTimeout(() => this.#child.kill("SIGKILL"), limitMs);
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, "close");
    clearTimeout(killer);
    return { exitCode: this.#child.exitCode, out: this.#out, err: this.#err };
  }

  /** Ctrl-C, and its end. */
  interrupt(signal: "SIGINT" | "SIGTERM" = "SIGINT"): Promise<CliResult> {
    this.#child.kill(signal);
    return this.end(10_000);
  }
}

/** Runs a program to its end. */
export function runCli(program: ProgramName, ...args: readonly string[]): Promise<CliResult> {
  return new CliProcess(program, args).end();
}
