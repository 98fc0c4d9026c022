import { readFile, realpath, stat, statfs } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, normalize } from "node:path";
import { errorCode, errorMessage } from "../base/errors.js";
import { MAX_STACKED_MOUNTS, MOUNT_PROBE_TIMEOUT_MS } from "../base/limits.js";
import { blockDeviceNumbers, isDeviceAlive } from "./device-probe.js";
import { HostError } from "./errors.js";
import { runCommand, type RunCommand } from "./exec.js";
import {
  findMount,
  findMounts,
  isSameDevice,
  parseMountInfo,
  type DeviceNumbers,
  type MountEntry,
} from "./mountinfo.js";

export interface MountRequest {
  /** The block device. */
  readonly source: string;
  /** An existing folder; absolute. */
  readonly target: string;
  readonly fsType: string;
  /** Mount options, one each. `ro` for read-only. */
  readonly options?: readonly string[];
}

export interface BindMountRequest {
  /** A folder, or a device node or file. */
  readonly source: string;
  /** An existing folder, or an existing file when the source is none; absolute. */
  readonly target: string;
  readonly isReadOnly?: boolean;
  /** Per-mount options such as `noexec`. */
  readonly options?: readonly string[];
}

/** Is a mount fit for use? `entry` is the topmost one. */
export type MountHealth =
  | { readonly kind: "absent" }
  | { readonly kind: "healthy"; readonly entry: MountEntry }
  /** The file system made itself read-only after an error, though it was mounted for writing. */
  | { readonly kind: "read-only"; readonly entry: MountEntry; readonly reason: string }
  /** What is mounted answers no more: its device or server is gone. */
  | { readonly kind: "stale"; readonly entry: MountEntry; readonly reason: string };

/**
 * Mounts of this process's mount namespace. Every call looks at the mount table before and after it acts, can be
 * repeated, and never puts a mount on top of another. Errors are HostErrors: HOST_MOUNT_OCCUPIED, HOST_MOUNT_FAILED,
 * HOST_MOUNT_BUSY, HOST_UNMOUNT_FAILED.
 */
export interface Mounter {
  list(): Promise<readonly MountEntry[]>;
  /** The topmost mount at `target`. */
  find(target: string): Promise<MountEntry | undefined>;
  isMountPoint(target: string): Promise<boolean>;
  /** Mounts of a file system on this device, btrfs included; bind mounts of it too. */
  mountsOfDevice(device: DeviceNumbers): Promise<readonly MountEntry[]>;
  health(target: string): Promise<MountHealth>;
  /** Returns what is there when the same device is mounted there already; refuses anything else that is. */
  mount(request: MountRequest, signal?: AbortSignal): Promise<MountEntry>;
  bindMount(request: BindMountRequest, signal?: AbortSignal): Promise<MountEntry>;
  remountReadOnly(target: string, signal?: AbortSignal): Promise<void>;
  /** Removes every mount at `target`, stacked ones too. No error when there is none. */
  unmount(target: string, options?: UnmountOptions): Promise<void>;
}

export interface UnmountOptions {
  /** Detach now, clean up when the last user is gone: only for mounts that are stale. */
  readonly isLazy?: boolean;
  readonly signal?: AbortSignal;
}

export interface MounterDependencies {
  readonly run?: RunCommand;
  /** The text of the mount table; default: /proc/self/mountinfo. */
  readonly readMountInfo?: () => Promise<string>;
}

/** The Mounter over mount(8) and umount(8). Needs CAP_SYS_ADMIN. */
export class LinuxMounter implements Mounter {
  readonly #run: RunCommand;
  readonly #readMountInfo: () => Promise<string>;

  constructor(dependencies: MounterDependencies = {}) {
    this.#run = dependencies.run ?? runCommand;
    this.#readMountInfo = dependencies.readMountInfo ?? (() => readFile("/proc/self/mountinfo", "utf8"));
  }

  async list(): Promise<readonly MountEntry[]> {
    return parseMountInfo(await this.#readMountInfo());
  }

  async find(target: string): Promise<MountEntry | undefined> {
    return findMount(await this.list(), await resolvePath(target));
  }

  async isMountPoint(target: string): Promise<boolean> {
    return (await this.find(target)) !== undefined;
  }

  async mountsOfDevice(device: DeviceNumbers): Promise<readonly MountEntry[]> {
    const entries = await this.list();
    const matches = await Promise.all(entries.map((entry) => isMountOf(entry, device)));
    return entries.filter((_, index) => matches[index] === true);
  }

  async health(target: string): Promise<MountHealth> {
    const entry = await this.find(target);
    if (entry === undefined) return { kind: "absent" };
    const reason = (await deviceTrouble(entry)) ?? (await accessTrouble(entry.mountPoint));
    if (reason !== undefined) return { kind: "stale", entry, reason };
    if (entry.options.includes("rw") && hasTurnedReadOnly(entry)) {
      return { kind: "read-only", entry, reason: `${entry.fsType} made itself read-only after an error` };
    }
    return { kind: "healthy", entry };
  }

  async mount(request: MountRequest, signal?: AbortSignal): Promise<MountEntry> {
    const target = await resolvePath(request.target);
    const device = await blockDeviceNumbers(request.source);
    if (device === undefined) throw new HostError("HOST_MOUNT_FAILED", `${request.source} is not a block device`);
    const existing = await this.find(target);
    if (existing !== undefined) return this.#acceptExisting(existing, request, device);
    const options = joinOptions(request.options ?? []);
    const args = ["-t", request.fsType, ...(options === "" ? [] : ["-o", options]), "--", request.source, target];
    await this.#mountProgram(args, `mount ${request.source} on ${target} as ${request.fsType}`, signal);
    return this.#verifyNew(target, (entry) => isMountOf(entry, device));
  }

  async bindMount(request: BindMountRequest, signal?: AbortSignal): Promise<MountEntry> {
    const target = await resolvePath(request.target);
    const existing = await this.find(target);
    if (existing !== undefined) return acceptExistingBind(existing, request);
    const source = checkPath(request.source);
    const options = request.options ?? [];
    checkOptions(options);
    // A context is the file system's, set when that was mounted; a bind mount has none of its own.
    const own = options.filter((option) => !CONTEXT_OPTION.test(option));
    const flags = [...own, ...(request.isReadOnly === true ? ["ro"] : [])];
    await this.#mountProgram(["--bind", "--", source, target], `bind ${source} to ${target}`, signal);
    try {
      // A bind mount takes over its source's flags; its own can only be given in a second step.
      if (flags.length > 0) await this.#remountBind(target, flags, signal);
    } catch (error) {
      await this.#unmountTop(target, ["--no-canonicalize"]);
      throw error;
    }
    return this.#verifyNew(target, () => isSameFile(source, target));
  }

  async remountReadOnly(target: string, signal?: AbortSignal): Promise<void> {
    await this.#remountBind(await resolvePath(target), ["ro"], signal);
    const entry = await this.find(target);
    if (entry?.options.includes("ro") === true) return;
    throw new HostError("HOST_MOUNT_FAILED", `${target} is still writable after it was remounted read-only`);
  }

  async unmount(target: string, options: UnmountOptions = {}): Promise<void> {
    const mountPoint = await resolvePath(target);
    const args = ["--no-canonicalize", ...(options.isLazy === true ? ["--lazy"] : [])];
    for (let count = 0; count <= MAX_STACKED_MOUNTS; count += 1) {
      const before = findMounts(await this.list(), mountPoint).length;
      if (before === 0) return;
      options.signal?.throwIfAborted();
      await this.#unmountTop(mountPoint, args, options.signal);
      const after = findMounts(await this.list(), mountPoint).length;
      if (after >= before) break;
    }
    throw new HostError("HOST_UNMOUNT_FAILED", `${mountPoint} is still mounted after umount reported success`);
  }

  async #acceptExisting(existing: MountEntry, request: MountRequest, device: DeviceNumbers): Promise<MountEntry> {
    const isSame = existing.root === "/" && existing.fsType === request.fsType && (await isMountOf(existing, device));
    const health = await this.health(request.target);
    if (isSame && request.options?.includes("ro") === true && !existing.options.includes("ro")) {
      throw occupied(request.target, "the same device is mounted there for writing, not read-only");
    }
    if (isSame && health.kind === "healthy") return existing;
    const why = "reason" in health ? health.reason : `${existing.source} (${existing.fsType}) is mounted there`;
    throw occupied(request.target, why);
  }

  async #verifyNew(target: string, isOurs: (entry: MountEntry) => boolean | Promise<boolean>): Promise<MountEntry> {
    const stacked = findMounts(await this.list(), target);
    const entry = stacked.at(-1);
    if (entry !== undefined && stacked.length === 1 && (await isOurs(entry))) return entry;
    if (stacked.length > 0) await this.#unmountTop(target, ["--no-canonicalize"]);
    throw stacked.length > 1
      ? occupied(target, "something else was mounted there at the same moment")
      : new HostError("HOST_MOUNT_FAILED", `what is mounted on ${target} is not what was asked for`);
  }

  #remountBind(target: string, flags: readonly string[], signal?: AbortSignal): Promise<void> {
    const options = joinOptions(["remount", "bind", ...flags]);
    return this.#mountProgram(["-o", options, "--", target], `remount ${target} with ${flags.join(",")}`, signal);
  }

  async #mountProgram(args: readonly string[], what: string, signal?: AbortSignal): Promise<void> {
    try {
      await this.#run("mount", args, signal === undefined ? {} : { signal });
    } catch (error) {
      throw isCommandFailure(error)
        ? new HostError("HOST_MOUNT_FAILED", `cannot ${what}: ${errorMessage(error)}`, { cause: error })
        : error;
    }
  }

  async #unmountTop(target: string, args: readonly string[], signal?: AbortSignal): Promise<void> {
    try {
      await this.#run("umount", [...args, "--", target], signal === undefined ? {} : { signal });
    } catch (error) {
      if (!isCommandFailure(error)) throw error;
      // umount(8) has one exit code for all failures; only its text tells a busy mount.
      const isBusy = /\bbusy\b/.test(String(error.details["stderr"]));
      const code = isBusy ? "HOST_MOUNT_BUSY" : "HOST_UNMOUNT_FAILED";
      const remedy = isBusy ? "; a process still uses it" : "";
      throw new HostError(code, `cannot unmount ${target}${remedy}: ${errorMessage(error)}`, { cause: error });
    }
  }
}

/** Is `entry` a mount of the file system on `device`? For btrfs, whose own numbers are anonymous, its source is asked. */
async function isMountOf(entry: MountEntry, device: DeviceNumbers): Promise<boolean> {
  if (entry.device.major !== 0) return isSameDevice(entry.device, device);
  if (!entry.source.startsWith("/dev/")) return false;
  const source = await blockDeviceNumbers(entry.source);
  return source !== undefined && isSameDevice(source, device);
}

async function acceptExistingBind(existing: MountEntry, request: BindMountRequest): Promise<MountEntry> {
  if (!(await isSameFile(request.source, request.target))) {
    throw occupied(request.target, `${existing.source} (${existing.fsType}) is mounted there`);
  }
  if (request.isReadOnly === true && !existing.options.includes("ro")) {
    throw occupied(request.target, "the same source is mounted there for writing, not read-only");
  }
  return existing;
}

async function isSameFile(a: string, b: string): Promise<boolean> {
  try {
    const [first, second] = await Promise.all([stat(a, { bigint: true }), stat(b, { bigint: true })]);
    return first.dev === second.dev && first.ino === second.ino;
  } catch {
    return false;
  }
}

/** Why the device under a mount is not usable any more, if so. */
async function deviceTrouble(entry: MountEntry): Promise<string | undefined> {
  if (!entry.source.startsWith("/dev/") || entry.fsType === "devtmpfs") return undefined;
  const isAnonymous = entry.device.major === 0;
  // FUSE names /dev/fuse as its source; of the file systems with anonymous numbers only btrfs has a block device.
  if (isAnonymous && entry.fsType !== "btrfs") return undefined;
  const device = isAnonymous ? await blockDeviceNumbers(entry.source) : entry.device;
  if (device !== undefined && (await isDeviceAlive(device))) return undefined;
  return `its device ${entry.source} is gone`;
}

/** Why the mounted folder or file cannot be reached, if so: ENOTCONN of a dead FUSE server, EIO of a dead disk. */
async function accessTrouble(mountPoint: string): Promise<string | undefined> {
  const timeout = AbortSignal.timeout(MOUNT_PROBE_TIMEOUT_MS);
  const tooLate = new Promise<string>((resolve) => {
    timeout.addEventListener("abort", () => resolve(`it did not answer within ${MOUNT_PROBE_TIMEOUT_MS} ms`));
  });
  const look = async (): Promise<string | undefined> => {
    try {
      await stat(mountPoint);
      await statfs(mountPoint);
      return undefined;
    } catch (error) {
      return `it answers ${errorCode(error) ?? errorMessage(error)}`;
    }
  };
  return Promise.race([look(), tooLate]);
}

/** ext4 and btrfs set the file system to `ro` on errors, newer kernels add a word of their own. */
function hasTurnedReadOnly({ superOptions }: MountEntry): boolean {
  return ["ro", "emergency_ro", "shutdown"].some((option) => superOptions.includes(option));
}

function isCommandFailure(error: unknown): error is HostError {
  return error instanceof HostError && error.code === "HOST_COMMAND_FAILED";
}

function occupied(target: string, why: string): HostError {
  return new HostError(
    "HOST_MOUNT_OCCUPIED",
    `nothing is mounted on top of ${target}: ${why}; unmount it first if it is not needed`,
    { details: { target } },
  );
}

/** Mount points are compared as text with the kernel's: absolute, without `..`, `//` or a slash at the end. */
function checkPath(path: string): string {
  const plain = path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path;
  if (isAbsolute(plain) && normalize(plain) === plain) return plain;
  throw new HostError("HOST_PATH_INVALID", `${JSON.stringify(path)} is not a plain absolute path`);
}

/**
 * The path as the kernel's mount table has it. Only the parent is resolved: kubelet's folder may be a symbolic link,
 * and the mount point itself may be a dead mount that must not be touched.
 */
async function resolvePath(path: string): Promise<string> {
  const plain = checkPath(path);
  try {
    return join(await realpath(dirname(plain)), basename(plain));
  } catch (error) {
    if (errorCode(error) === "ENOENT") return plain;
    throw new HostError("HOST_PATH_INVALID", `cannot resolve ${plain}: ${errorMessage(error)}`, { cause: error });
  }
}

/** Options as mount(8) takes them after -o. HostError HOST_MOUNT_OPTION_INVALID for what would be read as another. */
export function joinOptions(options: readonly string[]): string {
  checkOptions(options);
  return options.join(",");
}

/** SELinux contexts, whose categories have commas; the kubelet puts them in quotes, and mount(8) takes them so. */
const CONTEXT_OPTION = /^(?:context|fscontext|defcontext|rootcontext)=/;
const QUOTED_OPTION = /^(?:context|fscontext|defcontext|rootcontext)="[^"\s\\]+"$/;

function checkOptions(options: readonly string[]): void {
  const bad = options.find((option) => option === "" || (/[,\s\\"]/.test(option) && !QUOTED_OPTION.test(option)));
  if (bad === undefined) return;
  const remedy = bad.includes('"')
    ? '; only context, fscontext, defcontext and rootcontext take a value in quotes, closed at its end: context="…"'
    : "";
  throw new HostError("HOST_MOUNT_OPTION_INVALID", `${JSON.stringify(bad)} is not a mount option${remedy}`);
}
