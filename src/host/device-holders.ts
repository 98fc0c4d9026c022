import { constants } from "node:fs";
import { open, readdir, readFile, readlink } from "node:fs/promises";
import { basename, join } from "node:path";
import { errorCode, errorMessage } from "../base/errors.js";
import { MAX_SCANNED_PROCESSES } from "../base/limits.js";
import { isSameDevice, parseMountInfo, type MountEntry } from "./mountinfo.js";

/** What to look for: the device as the kernel numbers it, and its node. */
export interface HeldDevice {
  readonly devicePath: string;
  readonly major: number;
  readonly minor: number;
}

/**
 * Mount points at which the device's file system is mounted (by number, or by name where the numbers are anonymous, as
 * with btrfs), or at which its node itself is bound, as raw block volumes are.
 */
export function mountsOfDevice(entries: readonly MountEntry[], device: HeldDevice): readonly string[] {
  const nodeRoot = `/${basename(device.devicePath)}`;
  return entries
    .filter((entry) => {
      const isNode = entry.fsType === "devtmpfs" && entry.root === nodeRoot;
      return isNode || isSameDevice(entry.device, device) || entry.source === device.devicePath;
    })
    .map((entry) => entry.mountPoint);
}

async function processIds(procRoot: string): Promise<readonly string[]> {
  const names = await readdir(procRoot).catch(() => []);
  return names.filter((name) => /^\d+$/.test(name)).slice(0, MAX_SCANNED_PROCESSES);
}

/** Mounts in every mount namespace that can be seen, each namespace once. */
async function findMounts(device: HeldDevice, procRoot: string, pids: readonly string[]): Promise<readonly string[]> {
  const seen = new Set<string>();
  const found = new Set<string>();
  for (const pid of ["self", ...pids]) {
    const namespace = await readlink(join(procRoot, pid, "ns/mnt")).catch(() => undefined);
    if (namespace === undefined || seen.has(namespace)) continue;
    seen.add(namespace);
    const mountinfo = await readFile(join(procRoot, pid, "mountinfo"), "utf8").catch(() => "");
    for (const mount of mountsOfDevice(parseMountInfo(mountinfo), device)) found.add(`mounted at ${mount}`);
  }
  return [...found];
}

async function findOpeners(device: HeldDevice, procRoot: string, pids: readonly string[]): Promise<readonly string[]> {
  const openers: string[] = [];
  for (const pid of pids) {
    const folder = join(procRoot, pid, "fd");
    const fds = await readdir(folder).catch(() => []);
    const targets = await Promise.all(fds.map((fd) => readlink(join(folder, fd)).catch(() => "")));
    if (!targets.includes(device.devicePath)) continue;
    const name = (await readFile(join(procRoot, pid, "comm"), "utf8").catch(() => "")).trim();
    openers.push(`open in process ${pid} (${name})`);
  }
  return openers;
}

/** What open(2) says of a device that is there but disconnected: nothing can be mounted from it. */
const DISCONNECTED = ["ENXIO", "ENODEV"];

/**
 * The kernel's own answer, when somebody, in whatever namespace, has claimed the device (a mount, swap, device-mapper).
 * Undefined: free. A question that cannot be asked, such as in a container that may not open devices, counts as a claim.
 */
async function whyClaimed(device: HeldDevice): Promise<string | undefined> {
  try {
    const file = await open(device.devicePath, constants.O_RDONLY | constants.O_EXCL);
    await file.close();
    return undefined;
  } catch (error) {
    const code = errorCode(error) ?? "";
    if (DISCONNECTED.includes(code)) return undefined;
    if (code === "EBUSY") return "claimed by a mount or device out of sight";
    return `perhaps in use: whether somebody has claimed it cannot be told (${code}: ${errorMessage(error)})`;
  }
}

/**
 * Who uses a block device, in words: mounts, device-mapper and the like above it, processes that have it open. Empty
 * when nobody does. Processes outside this pid namespace are seen only through what they claim.
 */
export async function deviceHolders(device: HeldDevice, procRoot = "/proc"): Promise<string[]> {
  const pids = await processIds(procRoot);
  const above = await readdir(`/sys/block/${basename(device.devicePath)}/holders`).catch(() => []);
  const holders = [
    ...(await findMounts(device, procRoot, pids)),
    ...above.map((name) => `used by /dev/${name}`),
    ...(await findOpeners(device, procRoot, pids)),
  ];
  if (holders.length > 0) return holders;
  const claim = await whyClaimed(device);
  return claim === undefined ? [] : [claim];
}
