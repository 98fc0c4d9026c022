import { existsSync } from "node:fs";
import { readFile, readdir, rmdir, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pause } from "./process.js";

/** The cgroup everything of the cluster is in, in every hierarchy; the kubelet's `cgroupRoot`. */
export const CGROUP = "hawser-e2e";
const MOUNT = "/sys/fs/cgroup";
/** Control groups version 2 allow processes only in leaves, so what is not a pod has a leaf of its own. */
const LEAF = "components";

/** Is this machine's hierarchy the unified one? */
function isUnified(): boolean {
  return existsSync(join(MOUNT, "cgroup.controllers"));
}

/** The folders of the hierarchies; beside those of version 1 there may be an empty one of version 2. */
async function hierarchies(): Promise<readonly string[]> {
  if (isUnified()) return [MOUNT];
  const mounts = (await readFile("/proc/self/mounts", "utf8")).split("\n").map((line) => line.split(" "));
  return mounts.filter(([, , type]) => type === "cgroup" || type === "cgroup2").map(([, folder = ""]) => folder);
}

/** Makes the cgroup and returns the `cgroup.procs` files a process of the cluster has to be written to. */
export async function makeCgroups(): Promise<readonly string[]> {
  const files: string[] = [];
  for (const folder of await hierarchies()) {
    const own = join(folder, CGROUP);
    await mkdir(join(own, LEAF), { recursive: true });
    if (isUnified()) await enableControllers(folder, own);
    else for (const path of [own, join(own, LEAF)]) await inheritCpuset(path);
    files.push(join(own, LEAF, "cgroup.procs"));
  }
  return files;
}

async function enableControllers(parent: string, own: string): Promise<void> {
  const wanted = (await readFile(join(own, "cgroup.controllers"), "utf8").catch(() => "")).trim().split(" ");
  const all = (await readFile(join(parent, "cgroup.controllers"), "utf8")).trim().split(" ");
  for (const controller of new Set([...wanted, ...all])) {
    for (const folder of [parent, own]) {
      await writeFile(join(folder, "cgroup.subtree_control"), `+${controller}`).catch(() => undefined);
    }
  }
}

/** A new cpuset of version 1 has no processor and no memory, and refuses processes until it has. */
async function inheritCpuset(path: string): Promise<void> {
  for (const name of ["cpuset.cpus", "cpuset.mems"]) {
    if (!existsSync(join(path, name))) return;
    await writeFile(join(path, name), await readFile(join(path, "..", name), "utf8"));
  }
}

async function removeTree(path: string): Promise<void> {
  const children = await readdir(path, { withFileTypes: true }).catch(() => []);
  for (const child of children) if (child.isDirectory()) await removeTree(join(path, child.name));
  await rmdir(path);
}

/** Removes the cgroup and all below it. Processes that were killed a moment ago get five seconds to be gone. */
export async function removeCgroups(): Promise<void> {
  for (let attempt = 0; attempt < 50; attempt += 1) {
    for (const path of await remainingCgroups()) await removeTree(path).catch(() => undefined);
    if ((await remainingCgroups()).length === 0) return;
    await pause(100);
  }
}

/** Folders of the cgroup that are still there. */
export async function remainingCgroups(): Promise<readonly string[]> {
  return (await hierarchies()).map((folder) => join(folder, CGROUP)).filter((path) => existsSync(path));
}

/** Process ids, as this machine counts them, of everything in the cgroup. */
export async function cgroupProcesses(): Promise<readonly number[]> {
  const found = new Set<number>();
  const visit = async (path: string): Promise<void> => {
    const text = await readFile(join(path, "cgroup.procs"), "utf8").catch(() => "");
    for (const line of text.split("\n")) if (line !== "") found.add(Number(line));
    const children = await readdir(path, { withFileTypes: true }).catch(() => []);
    for (const child of children) if (child.isDirectory()) await visit(join(path, child.name));
  };
  for (const path of await remainingCgroups()) await visit(path);
  return [...found];
}
