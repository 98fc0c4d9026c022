import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errorMessage } from "../base/errors.js";
import { HostError } from "./errors.js";

/** A connected nbd device as sysfs shows it. */
export interface KernelNbdDevice {
  readonly index: number;
  readonly devicePath: string;
  /** What CONNECT was given; empty for a device made without (by nbd-client, say). */
  readonly backendId: string;
  /** Process that connected it, if it lives in this pid namespace. */
  readonly pid: number | undefined;
}

export interface BlockNumbers {
  readonly major: number;
  readonly minor: number;
}

async function readAttribute(path: string): Promise<string | undefined> {
  const text = await readFile(path, "utf8").catch(() => undefined);
  return text?.trimEnd();
}

/** Connected nbd devices. Names under /dev are made up from this at every call and never stored. */
export async function listKernelNbd(sysRoot = "/sys"): Promise<readonly KernelNbdDevice[]> {
  const folder = join(sysRoot, "block");
  const names = (await readdir(folder).catch(() => [])).filter((name) => /^nbd\d+$/.test(name));
  const devices: KernelNbdDevice[] = [];
  for (const name of names) {
    // Only a connected device has these two.
    const [pid, backendId] = await Promise.all([
      readAttribute(join(folder, name, "pid")),
      readAttribute(join(folder, name, "backend")),
    ]);
    if (pid === undefined && backendId === undefined) continue;
    devices.push({
      index: Number(name.slice("nbd".length)),
      devicePath: `/dev/${name}`,
      backendId: backendId ?? "",
      pid: pid === undefined ? undefined : Number(pid),
    });
  }
  return devices.sort((a, b) => a.index - b.index);
}

/** Connected devices with this backend id: one, none, or by mistake several. */
export async function findKernelNbd(backendId: string, sysRoot = "/sys"): Promise<readonly KernelNbdDevice[]> {
  return (await listKernelNbd(sysRoot)).filter((device) => device.backendId === backendId);
}

/** Major and minor number of a block device, from sysfs. `name` as in /sys/block. */
export async function blockNumbers(name: string, sysRoot = "/sys"): Promise<BlockNumbers> {
  const text = await readAttribute(join(sysRoot, "block", name, "dev"));
  const match = /^(\d+):(\d+)$/.exec(text ?? "");
  if (match === null) throw new HostError("HOST_NO_BLOCK_DEVICE", `the kernel has no block device ${name}`);
  return { major: Number(match[1]), minor: Number(match[2]) };
}

/** Size of a block device, from sysfs (which counts sectors of 512 bytes whatever the block size). */
export async function blockSizeBytes(name: string, sysRoot = "/sys"): Promise<number> {
  const text = await readAttribute(join(sysRoot, "block", name, "size"));
  if (text === undefined) throw new HostError("HOST_NO_BLOCK_DEVICE", `the kernel has no block device ${name}`);
  return Number(text) * 512;
}

/** Logical block size of a block device, from sysfs. */
export async function blockLogicalBytes(name: string, sysRoot = "/sys"): Promise<number> {
  return Number(await readAttribute(join(sysRoot, "block", name, "queue/logical_block_size")));
}

/**
 * How long the kernel lets a request be in flight before it looks whether its socket died: with TIMEOUT 0 that look is
 * all that happens, and a request lost with a dead socket is sent again only then.
 */
export async function setIoTimeout(name: string, timeoutMs: number, sysRoot = "/sys"): Promise<void> {
  try {
    await writeFile(join(sysRoot, "block", name, "queue/io_timeout"), String(Math.round(timeoutMs)));
  } catch (error) {
    throw new HostError(
      "HOST_IO_TIMEOUT_REFUSED",
      `queue/io_timeout of ${name} cannot be set: ${errorMessage(error)}`,
      {
        cause: error,
      },
    );
  }
}
