import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);

interface FioJob {
  readonly error: number;
  readonly total_err?: number;
  readonly read: { readonly io_bytes: number };
  readonly write: { readonly io_bytes: number };
}

export interface LoadTotals {
  readonly passes: number;
  readonly writtenBytes: number;
  readonly verifiedBytes: number;
}

export interface VerifiedLoadOptions {
  readonly device: string;
  readonly jobs: number;
  readonly jobBytes: number;
  /** Of each job, while it writes. */
  readonly rateBytes: number;
  readonly seed: number;
}

/**
 * fio on a device, in passes: every job writes each block of its part once, in random order, and reads all of it back.
 * The blocks of a pass carry a seed of their own, so that one left from an earlier pass is found too.
 */
export class VerifiedLoad {
  readonly #options: VerifiedLoadOptions;
  readonly #totals = { passes: 0, writtenBytes: 0, verifiedBytes: 0 };
  #isEnding = false;
  readonly #running: Promise<void>;

  constructor(options: VerifiedLoadOptions) {
    this.#options = options;
    this.#running = this.#runPasses();
    this.#running.catch(() => undefined);
  }

  get totals(): LoadTotals {
    return this.#totals;
  }

  /** Ends with the pass under way. Rejects when fio met an error or a wrong byte in any of them. */
  async end(): Promise<LoadTotals> {
    this.#isEnding = true;
    await this.#running;
    return this.#totals;
  }

  /** Rejects as soon as a pass has failed; never resolves. */
  async failure(): Promise<never> {
    await this.#running;
    return new Promise(() => undefined);
  }

  async #runPasses(): Promise<void> {
    do await this.#pass();
    while (!this.#isEnding);
  }

  async #pass(): Promise<void> {
    const { device, jobs, jobBytes, rateBytes, seed } = this.#options;
    const { passes } = this.#totals;
    const { stdout } = await run(
      "fio",
      [
        ...["--name=load", `--filename=${device}`, `--numjobs=${jobs}`, `--size=${jobBytes}`],
        ...[`--offset_increment=${jobBytes}`, "--rw=randwrite", "--bsrange=4k-64k", `--rate=,${rateBytes}`],
        ...["--ioengine=libaio", "--iodepth=4", "--direct=1", "--verify=crc32c", "--verify_fatal=1"],
        ...["--verify_state_save=0", `--randseed=${(seed + passes) & 0x7fff_ffff}`, "--thread=1"],
        "--output-format=json",
      ],
      { cwd: process.env["SCRATCH"] ?? "/run", maxBuffer: 16 << 20 },
    );
    const report = JSON.parse(stdout.slice(stdout.indexOf("{"))) as { readonly jobs: readonly FioJob[] };
    if (report.jobs.length !== jobs) throw new Error(`fio reports ${report.jobs.length} jobs of ${jobs}`);
    for (const { error, total_err: errors = 0, read, write } of report.jobs) {
      if (error !== 0 || errors !== 0) throw new Error(`fio met error ${error}, ${errors} errors in all`);
      if (read.io_bytes < jobBytes || write.io_bytes < jobBytes) {
        throw new Error(`fio wrote ${write.io_bytes} and verified ${read.io_bytes} bytes of ${jobBytes}`);
      }
      this.#totals.writtenBytes += write.io_bytes;
      this.#totals.verifiedBytes += read.io_bytes;
    }
    this.#totals.passes += 1;
  }
}

interface Wait {
  readonly startMs: number;
  readonly endMs: number;
}

/** The prober as a process of its own, so that nothing else that happens here is part of what it measures. */
export class Prober {
  readonly #child: ChildProcess;
  readonly #waits: Wait[] = [];
  readonly #bad: string[] = [];
  #oldestStartMs = 0;
  #operations = 0;

  constructor(device: string, offsetBytes: number) {
    const program = join(dirname(fileURLToPath(import.meta.url)), "path-prober.js");
    // One thread for each lane, and none waits for another's.
    const env = { ...process.env, UV_THREADPOOL_SIZE: "8" };
    this.#child = spawn(process.execPath, [program, device, String(offsetBytes)], {
      ...{ env, stdio: ["ignore", "pipe", "inherit"] },
    });
    if (this.#child.stdout === null) throw new Error("the prober has no output");
    createInterface({ input: this.#child.stdout }).on("line", (line) => this.#onLine(line));
  }

  get operations(): number {
    return this.#operations;
  }

  /** Errors and wrong data so far. */
  get bad(): readonly string[] {
    return this.#bad;
  }

  /** Waits until every lane has ended an operation that began at `timeMs` or later. */
  async until(timeMs: number, timeoutMs: number): Promise<void> {
    const deadlineMs = Date.now() + timeoutMs;
    while (this.#oldestStartMs < timeMs) {
      if (this.#child.exitCode !== null) throw new Error("the prober ended by itself");
      if (Date.now() > deadlineMs) throw new Error(`I/O did not go on within ${timeoutMs} ms`);
      await delay(50);
    }
  }

  /** The longest operation that was under way in this time; 0 when none was worth telling. */
  longestWaitMs(fromMs: number, toMs: number): number {
    const during = this.#waits.filter(({ startMs, endMs }) => startMs <= toMs && endMs >= fromMs);
    return Math.max(0, ...during.map(({ startMs, endMs }) => endMs - startMs));
  }

  async end(): Promise<void> {
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGTERM");
    await exited;
  }

  #onLine(line: string): void {
    const [kind, first = "", second = ""] = line.split(" ");
    if (kind === "slow") this.#waits.push({ startMs: Number(first), endMs: Number(second) });
    else if (kind === "bad") this.#bad.push(line);
    else if (kind === "beat") {
      this.#oldestStartMs = Number(first);
      this.#operations = Number(second);
    }
  }
}
