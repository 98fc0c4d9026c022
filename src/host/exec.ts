import { spawn, type ChildProcess, type StdioOptions } from "node:child_process";
import { CancelledError, errorCode, errorMessage, TimeoutError } from "../base/errors.js";
import {
  COMMAND_KILL_GRACE_MS,
  COMMAND_TIMEOUT_MS,
  MAX_COMMAND_OUTPUT_BYTES,
  MAX_COMMAND_STDERR_BYTES,
} from "../base/limits.js";
import { HostError } from "./errors.js";

/**
 * Programs of the host. Nothing else starts processes. No shell is involved, arguments are never parsed again, and the
 * environment is a fixed small one, so that neither a caller's variables nor its locale reach the program.
 */

export interface CommandOptions {
  /** Killed when it takes longer; default COMMAND_TIMEOUT_MS. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** What the program reads from standard input; default: nothing. */
  readonly input?: string | Buffer;
  /** Added to the fixed environment. Never a secret: the environment of a process can be read. */
  readonly env?: Readonly<Record<string, string>>;
  /** Exit codes that are no error; default only 0. */
  readonly expectedExitCodes?: readonly number[];
}

export interface CommandResult {
  readonly stdout: string;
  /** The same, as bytes. */
  readonly stdoutBytes: Buffer;
  readonly stderr: string;
  readonly exitCode: number;
}

/** How programs are run; a dependency of what needs them, so that tests can give their own. */
export type RunCommand = (file: string, args: readonly string[], options?: CommandOptions) => Promise<CommandResult>;

/** Where programs are looked for, in this order, whatever the caller's PATH. */
export const PROGRAM_FOLDERS: readonly string[] = [
  ...["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"],
];

const environment = { PATH: PROGRAM_FOLDERS.join(":"), LC_ALL: "C" };

/** Debian packages of the programs we start, for the message when one is missing. */
const packages: Readonly<Record<string, string>> = {
  blkid: "util-linux",
  blockdev: "util-linux",
  btrfs: "btrfs-progs",
  dd: "coreutils",
  e2fsck: "e2fsprogs",
  fusermount3: "fuse3",
  losetup: "mount",
  "mkfs.btrfs": "btrfs-progs",
  "mkfs.ext4": "e2fsprogs",
  "mkfs.xfs": "xfsprogs",
  modprobe: "kmod",
  mount: "mount",
  nbdfuse: "libnbd-bin",
  resize2fs: "e2fsprogs",
  setpriv: "util-linux",
  umount: "mount",
  xfs_growfs: "xfsprogs",
  xfs_repair: "xfsprogs",
};

/**
 * Runs a program to its end. Fails with HostError HOST_PROGRAM_MISSING (naming the Debian package),
 * HOST_COMMAND_FAILED (`details`: program, exitCode, stderr), HOST_COMMAND_OUTPUT (more output than allowed), with
 * TimeoutError HOST_COMMAND_TIMEOUT or CancelledError HOST_COMMAND_CANCELLED. Arguments appear in no error.
 */
export const runCommand: RunCommand = async (file, args, options = {}) => {
  options.signal?.throwIfAborted();
  const child = start(file, args, ["pipe", "pipe", "pipe"], options.env);
  const result = await collect(file, child, options);
  const expected = options.expectedExitCodes ?? [0];
  if (expected.includes(result.exitCode)) return result;
  throw commandFailed(file, `ended with exit code ${result.exitCode}`, result.stderr, { exitCode: result.exitCode });
};

export interface ExitStatus {
  /** Null when a signal ended it. */
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface LongRunningProcess {
  readonly pid: number;
  /** Resolves when the process has ended; never rejects. */
  readonly exited: Promise<ExitStatus>;
  /** The end of what it wrote to standard error, bounded. */
  stderrTail(): string;
  /** Sends a signal; false when it has ended already. */
  kill(signal: NodeJS.Signals): boolean;
}

export interface LongRunningOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** File descriptors the child gets as 3, 4, …; the caller still owns its copies. */
  readonly passFds?: readonly number[];
  /** Own process group, and does not keep this process alive. */
  readonly isDetached?: boolean;
}

/**
 * Starts a program that serves until it is told to end; the caller owns it and must await `exited`. Resolves once the
 * process exists; fails as runCommand does when it cannot be started.
 */
export async function spawnLongRunning(
  file: string,
  args: readonly string[],
  options: LongRunningOptions = {},
): Promise<LongRunningProcess> {
  const stdio: StdioOptions = ["ignore", "ignore", "pipe", ...(options.passFds ?? [])];
  const child = start(file, args, stdio, options.env, options.isDetached);
  const stderr = new TailBuffer(MAX_COMMAND_STDERR_BYTES);
  child.stderr?.on("data", (chunk: Buffer) => stderr.append(chunk));
  const exited = new Promise<ExitStatus>((resolve) => {
    child.once("exit", (exitCode, signal) => resolve({ exitCode, signal }));
  });
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (error) => reject(startError(file, error)));
  });
  // A later "error" only says that a signal could not be sent; kill() reports that itself.
  child.on("error", () => undefined);
  if (options.isDetached === true) {
    child.unref();
    // A pipe of a child is a socket, whose type only the transport may name.
    if (child.stderr !== null && "unref" in child.stderr) (child.stderr as { unref(): void }).unref();
  }
  return {
    pid: child.pid ?? 0,
    exited,
    stderrTail: () => stderr.text(),
    kill: (signal) => child.kill(signal),
  };
}

function start(
  file: string,
  args: readonly string[],
  stdio: StdioOptions,
  env: Readonly<Record<string, string>> = {},
  isDetached = false,
): ChildProcess {
  return spawn(file, args, { stdio, env: { ...environment, ...env }, shell: false, detached: isDetached });
}

function collect(file: string, child: ChildProcess, options: CommandOptions): Promise<CommandResult> {
  const timeoutMs = options.timeoutMs ?? COMMAND_TIMEOUT_MS;
  const timeout = AbortSignal.timeout(timeoutMs);
  const stop = options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal]);
  const stderr = new TailBuffer(MAX_COMMAND_STDERR_BYTES);
  const stdout: Buffer[] = [];
  let stdoutLength = 0;

  return new Promise((resolve, reject) => {
    let failure: Error | undefined;
    const fail = (error: Error): void => {
      if (failure !== undefined) return;
      failure = error;
      child.kill("SIGKILL");
      // A process that waits for a dead disk cannot be killed; after a moment we no longer wait for it.
      AbortSignal.timeout(COMMAND_KILL_GRACE_MS).addEventListener("abort", () => finish(() => reject(error)));
    };
    const onStop = (): void =>
      fail(
        timeout.aborted
          ? new TimeoutError(
              "host",
              "HOST_COMMAND_TIMEOUT",
              `${file} did not end within ${timeoutMs} ms and was killed`,
              {
                details: { program: file, timeoutMs },
              },
            )
          : new CancelledError("host", "HOST_COMMAND_CANCELLED", `${file} was cancelled and killed`, {
              details: { program: file },
              cause: options.signal?.reason,
            }),
      );
    const finish = (settle: () => void): void => {
      stop.removeEventListener("abort", onStop);
      settle();
    };
    stop.addEventListener("abort", onStop, { once: true });
    child.once("error", (error) => finish(() => reject(startError(file, error))));
    child.stderr?.on("data", (chunk: Buffer) => stderr.append(chunk));
    child.stdout?.on("data", (chunk: Buffer) => {
      stdoutLength += chunk.length;
      if (stdoutLength <= MAX_COMMAND_OUTPUT_BYTES) stdout.push(chunk);
      else
        fail(commandFailed(file, `wrote more than ${MAX_COMMAND_OUTPUT_BYTES} bytes`, "", {}, "HOST_COMMAND_OUTPUT"));
    });
    child.once("close", (exitCode, signal) =>
      finish(() => {
        if (failure !== undefined) reject(failure);
        else if (exitCode === null)
          reject(commandFailed(file, `was ended by ${signal ?? "a signal"}`, stderr.text(), { signal }));
        else {
          const stdoutBytes = Buffer.concat(stdout);
          resolve({ stdoutBytes, stdout: stdoutBytes.toString("utf8"), stderr: stderr.text(), exitCode });
        }
      }),
    );
    // A program that does not read its input closes the pipe; its exit code says whether that mattered.
    child.stdin?.on("error", () => undefined);
    child.stdin?.end(options.input);
  });
}

function commandFailed(
  file: string,
  what: string,
  stderr: string,
  details: Readonly<Record<string, unknown>>,
  code = "HOST_COMMAND_FAILED",
): HostError {
  const lastLines = stderr.trim().split("\n").slice(-3).join(" / ");
  return new HostError(code, `${file} ${what}${lastLines === "" ? "" : `: ${lastLines}`}`, {
    details: { program: file, stderr, ...details },
  });
}

function startError(file: string, error: Error): HostError {
  if (errorCode(error) !== "ENOENT") {
    return new HostError("HOST_COMMAND_FAILED", `${file} could not be started: ${errorMessage(error)}`, {
      details: { program: file },
      cause: error,
    });
  }
  const name = file.slice(file.lastIndexOf("/") + 1);
  const remedy = packages[name] === undefined ? "" : `; install the Debian package ${packages[name]}`;
  return new HostError("HOST_PROGRAM_MISSING", `this host has no program ${file}${remedy}`, {
    details: { program: file, package: packages[name] },
  });
}

/** The last bytes of a stream. */
class TailBuffer {
  readonly #limitBytes: number;
  #bytes: Buffer = Buffer.alloc(0);

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  append(chunk: Buffer): void {
    const all = Buffer.concat([this.#bytes, chunk]);
    this.#bytes = all.length <= this.#limitBytes ? all : Buffer.from(all.subarray(all.length - this.#limitBytes));
  }

  text(): string {
    return this.#bytes.toString("utf8");
  }
}
