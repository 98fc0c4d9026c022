import { lstat, mkdir, open, rmdir, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { errorCode, errorMessage } from "../base/errors.js";
import { HostError } from "./errors.js";
import type { Mounter } from "./mounter.js";

/** What something is mounted on: a folder for a file system, a file for a device node. */
export type MountPointKind = "directory" | "file";

/**
 * Makes the place to mount on, with its parents. What is there already is kept when it is of this kind, else
 * HostError HOST_MOUNT_POINT_INVALID.
 */
export async function createMountPoint(path: string, kind: MountPointKind): Promise<void> {
  try {
    if (kind === "directory") await mkdir(path, { recursive: true, mode: 0o750 });
    else await createFile(path);
  } catch (error) {
    // A dead FUSE mount answers ENOTCONN even here; it is for the mounter to judge.
    if (errorCode(error) === "ENOTCONN") return;
    throw mountPointError(path, `cannot make the ${kind}`, error);
  }
  const info = await lstat(path);
  if (kind === "directory" ? info.isDirectory() : info.isFile() || info.isBlockDevice()) return;
  throw new HostError("HOST_MOUNT_POINT_INVALID", `${path} exists and is not a ${kind}`);
}

/**
 * Removes a mount point that is not needed any more. Never removes content: refuses what is mounted
 * (HOST_MOUNT_BUSY) and folders that are not empty (HOST_MOUNT_POINT_INVALID). No error when it does not exist.
 */
export async function removeMountPoint(path: string, mounter: Pick<Mounter, "isMountPoint">): Promise<void> {
  if (await mounter.isMountPoint(path)) {
    throw new HostError("HOST_MOUNT_BUSY", `${path} is still a mount point; unmount it first`);
  }
  try {
    const info = await lstat(path);
    await (info.isDirectory() ? rmdir(path) : unlink(path));
  } catch (error) {
    if (errorCode(error) === "ENOENT") return;
    throw mountPointError(path, "cannot remove the mount point", error);
  }
}

async function createFile(path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o750 });
  try {
    const handle = await open(path, "wx", 0o640);
    await handle.close();
  } catch (error) {
    if (errorCode(error) !== "EEXIST") throw error;
  }
}

function mountPointError(path: string, what: string, error: unknown): HostError {
  return new HostError("HOST_MOUNT_POINT_INVALID", `${what} ${path}: ${errorMessage(error)}`, { cause: error });
}
