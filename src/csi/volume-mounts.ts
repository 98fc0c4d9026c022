import { isAbsolute, normalize } from "node:path";
import type { AttachedVolume } from "../dataplane/api.js";
import { blockDeviceNumbers } from "../host/device-probe.js";
import { isSameDevice, type DeviceNumbers, type MountEntry } from "../host/mountinfo.js";
import type { Mounter } from "../host/mounter.js";
import { CsiError } from "./errors.js";

/** The numbers of an attached volume's device. */
export function deviceOf(volume: AttachedVolume): DeviceNumbers {
  return { major: volume.deviceMajor, minor: volume.deviceMinor };
}

/** Where a volume is mounted, as the kernel has it: its file system, and its device node bound onto files. */
export async function mountsOfVolume(mounter: Mounter, device: DeviceNumbers): Promise<readonly MountEntry[]> {
  const [fileSystems, entries] = await Promise.all([mounter.mountsOfDevice(device), mounter.list()]);
  const nodes: MountEntry[] = [];
  for (const entry of entries) if (await isNodeOf(entry, device)) nodes.push(entry);
  return [...fileSystems, ...nodes];
}

/**
 * The mount points among `entries` that are at none of `paths`. The kernel's table has resolved names and `paths` may
 * lead through symbolic links (kubelet's folder may be one), so mounts are looked up, not compared by name.
 */
export async function mountsElsewhere(
  mounter: Mounter,
  entries: readonly MountEntry[],
  paths: readonly string[],
): Promise<readonly string[]> {
  const excluded = await Promise.all(paths.map((path) => mounter.find(path)));
  const mountPoints = new Set(excluded.map((entry) => entry?.mountPoint));
  return [...new Set(entries.map((entry) => entry.mountPoint))].filter((mountPoint) => !mountPoints.has(mountPoint));
}

/** The mount of the volume at `path`; CSI_NOT_FOUND unless there is one. */
export async function requireMountedAt(
  mounter: Mounter,
  entries: readonly MountEntry[],
  { volumeId, path }: { readonly volumeId: string; readonly path: string },
): Promise<MountEntry> {
  const plain = path.length > 1 ? path.replace(/\/+$/, "") : path;
  const found = isAbsolute(plain) && normalize(plain) === plain ? await mounter.find(plain) : undefined;
  const entry = entries.find(({ id }) => id === found?.id);
  if (entry !== undefined) return entry;
  throw new CsiError("CSI_NOT_FOUND", `volume ${volumeId} is not mounted at ${path}`);
}

/** Is a device node of this device bound here? Only such mounts are looked at: a dead file system must not be touched. */
async function isNodeOf(entry: MountEntry, device: DeviceNumbers): Promise<boolean> {
  if (entry.root === "/" || !["devtmpfs", "tmpfs"].includes(entry.fsType)) return false;
  try {
    const numbers = await blockDeviceNumbers(entry.mountPoint);
    return numbers !== undefined && isSameDevice(numbers, device);
  } catch {
    return false;
  }
}
