import { statfs } from "node:fs/promises";
import { errorMessage } from "../base/errors.js";
import { FILESYSTEM_GROW_SLACK_BYTES, FILESYSTEM_TOOL_TIMEOUT_MS } from "../base/limits.js";
import { isZeroed, probeBlockDevice, readDirect } from "./device-probe.js";
import { HostError } from "./errors.js";
import { runCommand, type CommandOptions, type RunCommand } from "./exec.js";
import type { DeviceSignature, FilesystemType } from "./format-decision.js";
import { filesystemSizeFromSuperblock, SUPERBLOCK_RANGES } from "./superblock.js";

/** Bytes and inodes of a mounted file system. Inode counts are 0 where there is no fixed number (btrfs). */
export interface FilesystemStats {
  readonly totalBytes: number;
  /** What an ordinary user may still write. */
  readonly availableBytes: number;
  readonly usedBytes: number;
  readonly totalInodes: number;
  readonly freeInodes: number;
  readonly usedInodes: number;
}

export interface CheckRequest {
  readonly devicePath: string;
  readonly fsType: FilesystemType;
  /**
   * `repair`: what is safe to repair without asking, fast when the file system is clean; XFS and btrfs replay their log
   * at mount, so nothing is run for them. `inspect`: reads everything, changes nothing.
   */
  readonly mode: "repair" | "inspect";
  readonly signal?: AbortSignal;
}

export type CheckResult = "clean" | "repaired" | "left-to-mount";

/**
 * File systems on block devices of this host. Errors are HostErrors: HOST_DEVICE_MISSING, HOST_DEVICE_UNREADABLE,
 * HOST_MKFS_FAILED, HOST_FILESYSTEM_DAMAGED, HOST_FILESYSTEM_GROW_FAILED, HOST_PROGRAM_MISSING.
 */
export interface Filesystems {
  /** What is on the device; a device that cannot be read is an error, never "empty". */
  probeSignature(devicePath: string, signal?: AbortSignal): Promise<DeviceSignature>;
  /** Are the first and the last MiB zero, read from the device itself? */
  isZeroed(devicePath: string): Promise<boolean>;
  /** Makes a file system. No force option is used: XFS and btrfs refuse a device that carries anything. */
  makeFilesystem(request: {
    readonly devicePath: string;
    readonly fsType: FilesystemType;
    /** Further arguments of mkfs. */
    readonly options?: readonly string[];
    readonly signal?: AbortSignal;
  }): Promise<void>;
  /** Checks a file system that is not mounted; HOST_FILESYSTEM_DAMAGED when it needs a person. */
  checkFilesystem(request: CheckRequest): Promise<CheckResult>;
  /** Makes the mounted file system as large as its device; nothing happens when it is. ext4 needs CAP_SYS_RESOURCE. */
  growFilesystem(request: {
    readonly devicePath: string;
    readonly mountPoint: string;
    readonly fsType: FilesystemType;
    readonly signal?: AbortSignal;
  }): Promise<void>;
  /**
   * Makes a file system that is not mounted as large as its device, after a full check. Only ext4 can be grown so:
   * false for the others, which grow when they are mounted.
   */
  growUnmounted(request: {
    readonly devicePath: string;
    readonly fsType: FilesystemType;
    readonly signal?: AbortSignal;
  }): Promise<boolean>;
  /** Is the device larger than its file system by more than the file system's own rounding? */
  needsGrow(devicePath: string, fsType: FilesystemType): Promise<boolean>;
  filesystemStats(mountPoint: string): Promise<FilesystemStats>;
}

/** Exit codes of blkid(8) in low-level probing mode: 0 found, 2 nothing found, 8 ambivalent. */
const BLKID_NOTHING = 2;
const BLKID_AMBIVALENT = 8;

/** The Filesystems over the usual programs (util-linux, e2fsprogs, xfsprogs, btrfs-progs). */
export class LinuxFilesystems implements Filesystems {
  readonly #run: RunCommand;

  constructor(dependencies: { readonly run?: RunCommand } = {}) {
    this.#run = dependencies.run ?? runCommand;
  }

  async probeSignature(devicePath: string, signal?: AbortSignal): Promise<DeviceSignature> {
    // blkid ends with "nothing found" for a device it cannot read too, so reading is tried first.
    await readDirect({ devicePath, offsetBytes: 0, lengthBytes: 4096 }, this.#run);
    const result = await this.#run("blkid", ["-p", "-o", "export", "--", devicePath], {
      expectedExitCodes: [0, BLKID_NOTHING, BLKID_AMBIVALENT],
      ...(signal === undefined ? {} : { signal }),
    });
    if (result.exitCode === BLKID_AMBIVALENT) return { kind: "ambivalent" };
    return parseBlkid(result.exitCode === BLKID_NOTHING ? "" : result.stdout);
  }

  async isZeroed(devicePath: string): Promise<boolean> {
    const { sizeBytes } = await probeBlockDevice(devicePath);
    return isZeroed(devicePath, sizeBytes, this.#run);
  }

  async makeFilesystem(request: Parameters<Filesystems["makeFilesystem"]>[0]): Promise<void> {
    const { devicePath, fsType, options = [], signal } = request;
    const args = [...quietArguments[fsType], ...options, "--", devicePath];
    await this.#tool(`mkfs.${fsType}`, args, "HOST_MKFS_FAILED", `cannot make ${fsType} on ${devicePath}`, { signal });
  }

  async checkFilesystem({ devicePath, fsType, mode, signal }: CheckRequest): Promise<CheckResult> {
    if (mode === "repair" && fsType !== "ext4") return "left-to-mount";
    const [program, args] = checkCommand(devicePath, fsType, mode);
    // e2fsck: 1 means that errors were found and corrected.
    const expectedExitCodes = fsType === "ext4" && mode === "repair" ? [0, 1] : [0];
    const result = await this.#tool(
      program,
      args,
      "HOST_FILESYSTEM_DAMAGED",
      `the ${fsType} on ${devicePath} is damaged; check it by hand before it is used`,
      { signal, expectedExitCodes },
    );
    return result.exitCode === 0 ? "clean" : "repaired";
  }

  async growFilesystem(request: Parameters<Filesystems["growFilesystem"]>[0]): Promise<void> {
    const { devicePath, mountPoint, fsType, signal } = request;
    const commands: Record<FilesystemType, readonly [string, readonly string[]]> = {
      ext4: ["resize2fs", ["--", devicePath]],
      xfs: ["xfs_growfs", ["-d", "--", mountPoint]],
      btrfs: ["btrfs", ["filesystem", "resize", "max", mountPoint]],
    };
    const [program, args] = commands[fsType];
    // The kernel lets only CAP_SYS_RESOURCE grow a mounted ext4; resize2fs says no more than "Permission denied".
    const needs = fsType === "ext4" ? " (growing a mounted ext4 needs the capability SYS_RESOURCE)" : "";
    const failure = `cannot grow the ${fsType} on ${mountPoint}${needs}`;
    await this.#tool(program, args, "HOST_FILESYSTEM_GROW_FAILED", failure, { signal });
  }

  async growUnmounted(request: Parameters<Filesystems["growUnmounted"]>[0]): Promise<boolean> {
    const { devicePath, fsType, signal } = request;
    if (fsType !== "ext4") return false;
    const damaged = `the ext4 on ${devicePath} is damaged; check it by hand before it is grown`;
    // resize2fs refuses a file system that was not checked in full since it was last mounted.
    const check = ["-f", "-p", "--", devicePath];
    await this.#tool("e2fsck", check, "HOST_FILESYSTEM_DAMAGED", damaged, { signal, expectedExitCodes: [0, 1] });
    const failure = `cannot grow the ext4 on ${devicePath}`;
    await this.#tool("resize2fs", ["--", devicePath], "HOST_FILESYSTEM_GROW_FAILED", failure, { signal });
    return true;
  }

  async needsGrow(devicePath: string, fsType: FilesystemType): Promise<boolean> {
    const { sizeBytes } = await probeBlockDevice(devicePath);
    const superblock = await readDirect({ devicePath, ...SUPERBLOCK_RANGES[fsType] }, this.#run);
    const usedBytes = filesystemSizeFromSuperblock(fsType, superblock);
    if (usedBytes === undefined) {
      throw new HostError("HOST_FILESYSTEM_DAMAGED", `${devicePath} has no ${fsType} superblock`);
    }
    return sizeBytes - usedBytes > FILESYSTEM_GROW_SLACK_BYTES;
  }

  async filesystemStats(mountPoint: string): Promise<FilesystemStats> {
    const stats = await statfs(mountPoint);
    return {
      totalBytes: stats.blocks * stats.bsize,
      availableBytes: stats.bavail * stats.bsize,
      usedBytes: (stats.blocks - stats.bfree) * stats.bsize,
      totalInodes: stats.files,
      freeInodes: stats.ffree,
      usedInodes: stats.files - stats.ffree,
    };
  }

  async #tool(
    program: string,
    args: readonly string[],
    code: string,
    what: string,
    { signal, ...options }: Omit<CommandOptions, "signal"> & { readonly signal?: AbortSignal | undefined },
  ): ReturnType<RunCommand> {
    try {
      const withSignal = signal === undefined ? options : { ...options, signal };
      return await this.#run(program, args, { timeoutMs: FILESYSTEM_TOOL_TIMEOUT_MS, ...withSignal });
    } catch (error) {
      if (!(error instanceof HostError) || error.code === "HOST_PROGRAM_MISSING") throw error;
      throw new HostError(code, `${what}: ${errorMessage(error)}`, { cause: error, details: error.details });
    }
  }
}

/** `-m 0`: a volume of one application needs no blocks kept back for root. */
const quietArguments: Readonly<Record<FilesystemType, readonly string[]>> = {
  ext4: ["-q", "-m", "0"],
  xfs: ["-q"],
  btrfs: ["-q"],
};

function checkCommand(
  devicePath: string,
  fsType: FilesystemType,
  mode: CheckRequest["mode"],
): readonly [program: string, args: readonly string[]] {
  switch (fsType) {
    case "ext4":
      return ["e2fsck", [...(mode === "repair" ? ["-p"] : ["-f", "-n"]), "--", devicePath]];
    case "xfs":
      return ["xfs_repair", ["-n", "--", devicePath]];
    case "btrfs":
      return ["btrfs", ["check", "--readonly", "--", devicePath]];
  }
}

/** The `KEY=value` lines of `blkid -p -o export`; no lines mean that nothing was found. */
export function parseBlkid(output: string): DeviceSignature {
  const values = new Map<string, string>();
  for (const line of output.split("\n")) {
    const at = line.indexOf("=");
    if (at > 0) values.set(line.slice(0, at), line.slice(at + 1));
  }
  const type = values.get("TYPE");
  const tableType = values.get("PTTYPE");
  if (type !== undefined && tableType !== undefined) return { kind: "ambivalent" };
  if (tableType !== undefined) return { kind: "partition-table", tableType };
  if (type === undefined) {
    // Something was recognised, though not what: anything but a device name speaks against "empty".
    const isEmpty = [...values.keys()].every((key) => key === "DEVNAME");
    return isEmpty ? { kind: "empty" } : { kind: "other", type: "unrecognised" };
  }
  return values.get("USAGE") === "filesystem" ? { kind: "filesystem", fsType: type } : { kind: "other", type };
}
