import { readFile, writeFile } from "node:fs/promises";
import { errorMessage } from "../base/errors.js";
import { execve, isIoFlusher, lockRange, prctlIoFlusher } from "./ffi.js";

/**
 * A process that serves the block device under a file system must never wait for that file system: if the kernel, short
 * of memory, makes it write dirty pages back, it would wait for itself. Three measures against that, each of which may
 * be refused (an unprivileged container) without ending the process.
 */

/** Set in the environment of the program started anew, so that it happens once. */
const MARKER = "HAWSER_IO_FLUSHER";

/** Ours goes last when the kernel must kill: whoever reads the device would hang. */
const OOM_SCORE_ADJ = -900;

export interface RelaunchOptions {
  /** The program to run again: `process.execPath`. */
  readonly program: string;
  /** Its arguments without its name: of the runtime, then the script and the script's. */
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** `reason` says why a measure was not taken; empty when it was. */
export interface ProtectionResult {
  readonly isProtected: boolean;
  readonly reason: string;
}

/**
 * Marks the process as an I/O flusher (PR_SET_IO_FLUSHER). The mark is a thread's and only inherited, and the runtime
 * has started threads before any of our code ran; so the program is replaced by itself, in the same process, with the
 * mark set. Call it first of all: it returns only if there is nothing left to do or the mark was refused.
 */
export async function becomeIoFlusher(options: RelaunchOptions): Promise<ProtectionResult> {
  try {
    if (await isIoFlusher()) return { isProtected: true, reason: "" };
    if (options.env[MARKER] !== undefined) {
      return { isProtected: false, reason: "the mark of an I/O flusher was set and did not last" };
    }
    await prctlIoFlusher();
    const env = Object.fromEntries(
      Object.entries(options.env).filter((entry): entry is [string, string] => entry[1] !== undefined),
    );
    return await execve(options.program, {
      args: [options.program, ...options.args],
      env: { ...env, [MARKER]: "1" },
    });
  } catch (error) {
    return { isProtected: false, reason: `${errorMessage(error)} (it needs CAP_SYS_RESOURCE and Linux 5.6)` };
  }
}

export interface AddressRange {
  readonly address: number;
  readonly lengthBytes: number;
}

/**
 * The mappings of files with code or constants, from the text of /proc/self/maps:
 * `start-end permissions offset device inode path`. Writable ones are left out: they are memory like the heap.
 */
export function programMappings(maps: string): readonly AddressRange[] {
  return maps.split("\n").flatMap((line) => {
    const match = /^([0-9a-f]+)-([0-9a-f]+) r-[x-]p \S+ \S+ [1-9]\d* +\//.exec(line);
    if (match?.[1] === undefined || match[2] === undefined) return [];
    const address = Number.parseInt(match[1], 16);
    return [{ address, lengthBytes: Number.parseInt(match[2], 16) - address }];
  });
}

/**
 * Keeps the program's own code in memory: the kernel would otherwise drop it when memory is short and read it again from
 * a disk that may depend on us. The heap cannot be locked under V8; it stays in memory as long as the node has no swap.
 */
export async function lockProgram(): Promise<ProtectionResult> {
  try {
    for (const { address, lengthBytes } of programMappings(await readFile("/proc/self/maps", "utf8"))) {
      await lockRange(address, lengthBytes);
    }
    return { isProtected: true, reason: "" };
  } catch (error) {
    return { isProtected: false, reason: `${errorMessage(error)} (it needs CAP_IPC_LOCK)` };
  }
}

/** Makes the process one of the last that the kernel kills for memory. */
export async function lowerOomScore(): Promise<ProtectionResult> {
  try {
    await writeFile("/proc/self/oom_score_adj", String(OOM_SCORE_ADJ));
    return { isProtected: true, reason: "" };
  } catch (error) {
    return { isProtected: false, reason: `${errorMessage(error)} (it needs CAP_SYS_RESOURCE)` };
  }
}
