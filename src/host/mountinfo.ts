import { HostError } from "./errors.js";

/** A block device by its numbers, the only name of it the kernel guarantees while it exists. */
export interface DeviceNumbers {
  readonly major: number;
  readonly minor: number;
}

/** One line of /proc/self/mountinfo. */
export interface MountEntry {
  readonly id: number;
  readonly parentId: number;
  /** Of the file system's device; anonymous (major 0) for btrfs and for file systems without a device. */
  readonly device: DeviceNumbers;
  /** The folder or file of the file system that is mounted; `/` unless it is a bind mount. */
  readonly root: string;
  readonly mountPoint: string;
  /** Of this mount: `rw`, `noexec`, … */
  readonly options: readonly string[];
  /** `shared:1`, `master:2`, … */
  readonly propagation: readonly string[];
  readonly fsType: string;
  readonly source: string;
  /** Of the file system itself, the same for all its mounts. */
  readonly superOptions: readonly string[];
}

/**
 * Reads the text of /proc/self/mountinfo (proc(5)). Order is kept. A line it does not understand fails with HostError
 * HOST_MOUNTINFO_INVALID: to miss a mount is worse than to stop.
 */
export function parseMountInfo(text: string): MountEntry[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map(parseLine);
}

function parseLine(line: string): MountEntry {
  const [head, tail] = splitOnce(line, " - ");
  const [id, parentId, numbers, root, mountPoint, options, ...propagation] = head.split(" ");
  const device = /^(\d+):(\d+)$/.exec(numbers ?? "");
  const [fsType, source, superOptions] = (tail ?? "").split(" ");
  const isComplete =
    device !== null && root !== undefined && mountPoint !== undefined && options !== undefined && source !== undefined;
  if (!isComplete || fsType === undefined || !/^\d+$/.test(id ?? "") || !/^\d+$/.test(parentId ?? "")) {
    throw new HostError("HOST_MOUNTINFO_INVALID", `a line of the mount table cannot be read: ${JSON.stringify(line)}`);
  }
  return {
    id: Number(id),
    parentId: Number(parentId),
    device: { major: Number(device[1]), minor: Number(device[2]) },
    root: unescape(root),
    mountPoint: unescape(mountPoint),
    options: options.split(","),
    propagation: propagation.filter((field) => field !== ""),
    fsType: unescape(fsType),
    source: unescape(source),
    superOptions: (superOptions ?? "").split(",").filter((option) => option !== ""),
  };
}

function splitOnce(text: string, separator: string): readonly [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + separator.length)];
}

/** The kernel writes blank, tab, newline, `#` and backslash as `\` and three octal digits, byte by byte. */
function unescape(field: string): string {
  return field.replace(/\\([0-3][0-7]{2})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** The mount one sees at `mountPoint`: the topmost when several are stacked. Undefined when nothing is mounted there. */
export function findMount(entries: readonly MountEntry[], mountPoint: string): MountEntry | undefined {
  const stacked = findMounts(entries, mountPoint);
  const covered = new Set(stacked.map(({ parentId }) => parentId));
  return stacked.findLast(({ id }) => !covered.has(id)) ?? stacked.at(-1);
}

/** All mounts at `mountPoint`, oldest first. */
export function findMounts(entries: readonly MountEntry[], mountPoint: string): MountEntry[] {
  return entries.filter((entry) => entry.mountPoint === mountPoint);
}

/** The mounts of the file system on this device. Not for btrfs, whose numbers are anonymous: see Mounter. */
export function findMountsOfDevice(entries: readonly MountEntry[], device: DeviceNumbers): MountEntry[] {
  return entries.filter((entry) => isSameDevice(entry.device, device));
}

/** The mounts below `folder` (not at it), deepest first: the order in which they can be unmounted. */
export function findMountsBelow(entries: readonly MountEntry[], folder: string): MountEntry[] {
  const prefix = folder.endsWith("/") ? folder : `${folder}/`;
  return entries.filter(({ mountPoint }) => mountPoint.startsWith(prefix)).reverse();
}

export function isSameDevice(a: DeviceNumbers, b: DeviceNumbers): boolean {
  return a.major === b.major && a.minor === b.minor;
}
