import { rm, stat, writeFile } from "node:fs/promises";
import { sleep, type Clock } from "../base/clock.js";
import { errorCode } from "../base/errors.js";
import { FUSE_START_TIMEOUT_MS, FUSE_STOP_TIMEOUT_MS } from "../base/limits.js";
import { HostError } from "./errors.js";
import { spawnLongRunning, type LongRunningProcess } from "./exec.js";
import { unmountPath } from "./ffi.js";

export interface NbdFuseOptions {
  /** Unix socket of an NBD server whose default export is to be shown. */
  readonly socketPath: string;
  /** The file that shows it; made here, and gone after `stop`. */
  readonly filePath: string;
  /** Size of the export: the file is there when it has this size. */
  readonly sizeBytes: number;
}

const POLL_MS = 20;

/** A program that shows an NBD export as a file. When it ends, the file fails with ENOTCONN. */
export class NbdFuse {
  readonly #options: NbdFuseOptions;
  readonly #clock: Clock;
  readonly #process: LongRunningProcess;
  #hasExited = false;

  private constructor(options: NbdFuseOptions, process: LongRunningProcess, clock: Clock) {
    this.#options = options;
    this.#clock = clock;
    this.#process = process;
    void process.exited.then(() => {
      this.#hasExited = true;
    });
  }

  /** Resolves when the file is there. HOST_FUSE_FAILED with the program's own words when it does not appear. */
  static async start(options: NbdFuseOptions, dependencies: { readonly clock: Clock }): Promise<NbdFuse> {
    await writeFile(options.filePath, "", { mode: 0o600 });
    // Killed the moment we are, and the kernel gives up all requests to the file. Without that, a thread of ours that
    // is inside a request (LOOP_CONFIGURE syncs the file) keeps our sockets open after SIGKILL, nbdfuse waits for an
    // answer from them, and every loop device of the host waits for that thread.
    const command = ["--pdeathsig", "KILL", "--", "nbdfuse", options.filePath, "--unix", options.socketPath];
    const process = await spawnLongRunning("setpriv", command, {
      // A signal to our process group (Ctrl-C) must not take the device from under a file system.
      isDetached: true,
    });
    const fuse = new NbdFuse(options, process, dependencies.clock);
    try {
      await fuse.#whenMounted();
      return fuse;
    } catch (error) {
      await fuse.stop();
      throw error;
    }
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** Resolves when the program has ended, for whatever reason; never rejects. */
  get exited(): Promise<unknown> {
    return this.#process.exited;
  }

  async #whenMounted(): Promise<void> {
    const { filePath, sizeBytes } = this.#options;
    const deadlineMs = this.#clock.nowMs() + FUSE_START_TIMEOUT_MS;
    while ((await stat(filePath)).size !== sizeBytes) {
      if (this.#hasExited || this.#clock.nowMs() > deadlineMs) {
        const words = this.#process.stderrTail().trim();
        const what = this.#hasExited ? "ended" : "did not show the device in time";
        throw new HostError(
          "HOST_FUSE_FAILED",
          `nbdfuse ${what}${words === "" ? "" : `: ${words}`}; is /dev/fuse there?`,
        );
      }
      await sleep(this.#clock, POLL_MS);
    }
  }

  /** Takes the file away and ends the program. Nothing may use the file any more; what does gets errors. */
  async stop(): Promise<void> {
    await removeFuseFile(this.#options.filePath, this.#clock);
    // It ends by itself when its file system is gone.
    const deadlineMs = this.#clock.nowMs() + FUSE_STOP_TIMEOUT_MS;
    while (!this.#isGone() && this.#clock.nowMs() < deadlineMs) await sleep(this.#clock, POLL_MS);
    if (!this.#isGone()) this.#process.kill("SIGKILL");
    await this.#process.exited;
  }

  /** Ends the program and leaves the rest in place: its users cannot let go of the file, and get errors from now on. */
  async kill(): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.exited;
  }

  #isGone(): boolean {
    return this.#hasExited;
  }
}

/**
 * Unmounts and deletes a file that nbdfuse shows or showed; no error when it is not there. A user that lingers (a loop
 * device being taken away) is waited for; after that the mount is detached lazily rather than left behind.
 */
export async function removeFuseFile(filePath: string, clock: Clock): Promise<void> {
  const deadlineMs = clock.nowMs() + FUSE_STOP_TIMEOUT_MS;
  for (;;) {
    try {
      await unmountPath(filePath, { isLazy: clock.nowMs() > deadlineMs });
      break;
    } catch (error) {
      const code = errorCode(error);
      if (code === "HOST_EINVAL" || code === "HOST_ENOENT") break;
      if (code !== "HOST_EBUSY") throw error;
      await sleep(clock, POLL_MS);
    }
  }
  await rm(filePath, { force: true });
}
