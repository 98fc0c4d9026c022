import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type FioResult, readFioReport } from "../../support/fio-report.js";

const scratch = process.env["SCRATCH"] ?? "/run";

/** How fio ends when it was interrupted. */
const INTERRUPTED = 128;

/**
 * One fio that never pauses: it writes every block of the first `sizeBytes` of a device in random order, reads all of them
 * back and compares, and begins anew, at a steady rate.
 */
export class SteadyLoad {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #reportPath = join(scratch, "steady-load.json");

  constructor(options: { readonly device: string; readonly sizeBytes: number; readonly rateBytes: number }) {
    const { device, sizeBytes, rateBytes } = options;
    this.#child = spawn(
      "fio",
      [
        ...["--name=load", `--filename=${device}`, `--size=${sizeBytes}`, `--rate=${rateBytes}`, "--thread=1"],
        ...["--rw=randwrite", "--bsrange=4k-32k", "--ioengine=libaio", "--iodepth=4", "--direct=1", "--time_based=1"],
        ...["--runtime=600", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--randseed=7143"],
        ...["--output-format=json", `--output=${this.#reportPath}`],
      ],
      { cwd: scratch, stdio: "inherit" },
    );
    this.#exited = once(this.#child, "exit");
  }

  /** Rejects when it ends by itself: it has met an error or a wrong byte. Never resolves. */
  async failure(): Promise<never> {
    await this.#exited;
    throw new Error(`fio has ended: ${readFileSync(this.#reportPath, "utf8").slice(0, 2_000)}`);
  }

  /** Rejects when it has met an error or a wrong byte. */
  async end(): Promise<FioResult> {
    this.#child.kill("SIGINT");
    await this.#exited;
    if (this.#child.exitCode !== INTERRUPTED && this.#child.exitCode !== 0) {
      throw new Error(`fio ended with ${String(this.#child.exitCode)}`);
    }
    return readFioReport(readFileSync(this.#reportPath, "utf8"));
  }
}
