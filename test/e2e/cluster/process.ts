import { spawn, type ChildProcess } from "node:child_process";
import { open, readFile } from "node:fs/promises";

const started = process.hrtime.bigint();

/** Prints one line of progress with the time since this program started. */
export function progress(text: string): void {
  const seconds = Number((process.hrtime.bigint() - started) / 1_000_000n) / 1000;
  console.log(`[${seconds.toFixed(1).padStart(6)}s] ${text}`);
}

/** Waits `ms` milliseconds. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

const running = new Set<ChildProcess>();
let isInterrupted = false;

/**
 * Ends the programs that are waited for and lets no other start, so that whatever is under way fails and cleans up.
 * What is run with `isCleanup` goes on.
 */
export function interrupt(): void {
  isInterrupted = true;
  for (const child of running) child.kill("SIGTERM");
}

function refuseWhenInterrupted(): void {
  if (isInterrupted) throw new Error("interrupted");
}

/** Runs a program with this one's input and output; resolves with its exit code. */
export function runInForeground(program: string, args: readonly string[]): Promise<number> {
  refuseWhenInterrupted();
  const child = spawn(program, args, { stdio: "inherit" });
  running.add(child);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      running.delete(child);
      resolve(code ?? 1);
    });
  });
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  /** Default ten minutes; then the program is killed and the call fails. */
  readonly timeoutMs?: number;
  /** Part of cleaning up: an interruption neither stops nor prevents it. */
  readonly isCleanup?: boolean;
}

/** Runs a program to its end and returns what it printed. Throws with its last lines when it fails. */
export async function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const isCleanup = options.isCleanup ?? false;
  if (!isCleanup) refuseWhenInterrupted();
  const env = { ...process.env, ...options.env };
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"], env, cwd: options.cwd });
  if (!isCleanup) running.add(child);
  return new Promise<string>((resolve, reject) => {
    const output: string[] = [];
    const errors: string[] = [];
    const timer = setTimeout(() => child.kill("SIGKILL"), options.timeoutMs ?? 600_000);
    child.stdout.setEncoding("utf8").on("data", (text: string) => output.push(text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => errors.push(text));
    child.on("error", (error) => {
      clearTimeout(timer);
      reject(new Error(`${program} could not be started: ${error.message}`));
    });
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      running.delete(child);
      if (code === 0) resolve(output.join(""));
      else {
        const last = lastLines(errors.join("") || output.join(""), 15);
        reject(
          new Error(`${[program, ...args].join(" ").slice(0, 300)}: ${signal ?? `exit code ${code ?? "?"}`}\n${last}`),
        );
      }
    });
    // A program that ends without reading its input is judged by its exit code, not by the broken pipe.
    child.stdin.on("error", () => undefined);
    child.stdin.end(options.input ?? "");
  });
}

/** The last `count` lines of a text. */
export function lastLines(text: string, count: number): string {
  return text.trimEnd().split("\n").slice(-count).join("\n");
}

/** The last `count` lines of a file; says so when there is none. */
export async function tailOf(path: string, count: number): Promise<string> {
  return lastLines(await readFile(path, "utf8").catch(() => "(no log)"), count);
}

/** A program that was started and left running. */
export interface Background {
  readonly name: string;
  readonly log: string;
  readonly pid: number;
  /** What it ended with, or undefined while it runs. */
  readonly ended: () => string | undefined;
}

/** Starts a program that outlives this one; what it prints goes to `log`. */
export async function startInBackground(
  name: string,
  log: string,
  command: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Background> {
  refuseWhenInterrupted();
  const [program = "", ...args] = command;
  const file = await open(log, "a");
  const child = spawn(program, args, {
    detached: true,
    stdio: ["ignore", file.fd, file.fd],
    env: { ...process.env, ...env },
  });
  // Before anything is awaited: a program may end at once.
  let end: string | undefined;
  child.on("error", (error) => (end = error.message));
  child.on("exit", (code, signal) => (end = signal ?? `exit code ${code ?? "?"}`));
  child.unref();
  await file.close();
  return { name, log, pid: child.pid ?? 0, ended: () => end };
}

/**
 * Repeats `probe` until it returns true. Throws when `limitMs` passes or one of `needed` ends first, with the last
 * lines of the logs that tell why.
 */
export async function waitFor(
  what: string,
  needed: readonly Background[],
  limitMs: number,
  probe: () => Promise<boolean>,
): Promise<void> {
  const deadline = process.hrtime.bigint() + BigInt(limitMs) * 1_000_000n;
  for (;;) {
    if (await probe().catch(() => false)) return;
    refuseWhenInterrupted();
    const dead = needed.find((component) => component.ended() !== undefined);
    const isLate = process.hrtime.bigint() > deadline;
    if (dead !== undefined || isLate) {
      const suspects = dead === undefined ? needed : [dead];
      const tails = await Promise.all(
        suspects.map(async ({ name, log }) => `--- ${name}: ${log}\n${await tailOf(log, 20)}`),
      );
      const why =
        dead === undefined ? `not so after ${limitMs / 1000} s` : `${dead.name} ended with ${dead.ended() ?? ""}`;
      throw new Error([`${what}: ${why}`, ...tails].join("\n"));
    }
    await pause(500);
  }
}
