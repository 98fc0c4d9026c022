import { randomBytes } from "node:crypto";
import { link, mkdir, open, rename, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { errorCode } from "../base/errors.js";

/** Names of files that are being written begin so; after a crash they may be removed. */
export const TEMPORARY_PREFIX = ".writing-";

/** Makes what happened in a directory (a rename, a removal) survive a crash of the machine. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A directory only its owner may enter, made with its parents where they are missing. */
export async function makePrivateDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
}

/**
 * Replaces a file so that a crash leaves the old content or the new, never a part: written beside it, synced,
 * renamed, and the directory synced. Two writers of one file must take turns.
 */
export async function writeFileDurably(path: string, content: string | Buffer, mode = 0o600): Promise<void> {
  const temporary = await writeTemporary(path, content, mode);
  await rename(temporary, path);
  await syncDirectory(dirname(path));
}

/**
 * Creates a file with all its content, or does nothing: false when it exists already, whoever was first. The file
 * never exists without its content.
 */
export async function createFileDurably(path: string, content: string | Buffer, mode = 0o600): Promise<boolean> {
  const temporary = await writeTemporary(path, content, mode);
  try {
    await link(temporary, path);
  } catch (error) {
    if (errorCode(error) === "EEXIST") return false;
    throw error;
  } finally {
    await unlink(temporary);
  }
  await syncDirectory(dirname(path));
  return true;
}

/** Removes a file for good; no error when it is not there. */
export async function removeFileDurably(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return;
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** The name is random, not the process's id: processes in several containers may all have the same. */
async function writeTemporary(path: string, content: string | Buffer, mode: number): Promise<string> {
  const temporary = join(
    dirname(path),
    `${TEMPORARY_PREFIX}${randomBytes(6).toString("hex")}-${basename(path)}`.slice(0, 255),
  );
  const handle = await open(temporary, "wx", mode);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
  return temporary;
}
