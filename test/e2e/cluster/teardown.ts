import { existsSync } from "node:fs";
import { cp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { cgroupProcesses, removeCgroups, remainingCgroups } from "./cgroups.js";
import { CACHE, PATHS, STATE } from "./layout.js";
import { detachLoopDevices, sandboxLoopDevices, stillAttached, type LoopDevice } from "./loop-devices.js";
import { pause, progress } from "./process.js";
import { namespaceProcesses, readRecord, restoreSysctls, type ClusterRecord } from "./sandbox.js";

const END_LIMIT_MS = 30_000;
const STEP_MS = 200;

/** Logs of the cluster that ended last. */
export const KEPT_LOGS = join(CACHE, "logs");

/** Mounts of this machine's own namespace below the state folder. */
async function strayMounts(): Promise<readonly string[]> {
  const mounts = (await readFile("/proc/self/mounts", "utf8")).split("\n").map((line) => line.split(" ")[1] ?? "");
  return mounts.filter((path) => path === STATE || path.startsWith(`${STATE}/`));
}

async function processesOf(record: ClusterRecord | undefined): Promise<readonly number[]> {
  const inside = record === undefined ? [] : await namespaceProcesses(record);
  return [...new Set([...inside, ...(await cgroupProcesses())])];
}

async function leftovers(
  record: ClusterRecord | undefined,
  devices: readonly LoopDevice[],
): Promise<readonly string[]> {
  return [
    ...(await processesOf(record)).map((pid) => `process ${pid}`),
    ...(await strayMounts()).map((path) => `mount ${path}`),
    ...(await stillAttached(devices)).map((name) => `loop device ${name}`),
    ...(await remainingCgroups()).map((path) => `cgroup ${path}`),
    ...(existsSync(STATE) ? [`folder ${STATE}`] : []),
  ];
}

/**
 * Process 1 of the sandbox takes everything of its process namespace with it. Clients in its network, and what waits
 * outside for a command inside, are ended one by one.
 */
async function endProcesses(record: ClusterRecord | undefined): Promise<void> {
  for (let waitedMs = 0; waitedMs < END_LIMIT_MS; waitedMs += STEP_MS) {
    const pids = await processesOf(record);
    if (pids.length === 0) return;
    for (const pid of pids) tryKill(pid);
    await pause(STEP_MS);
  }
}

/** Ends one process; that it ended meanwhile is as good. */
function tryKill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

async function keepLogs(): Promise<void> {
  await rm(KEPT_LOGS, { recursive: true, force: true });
  await cp(PATHS.logs, KEPT_LOGS, { recursive: true });
  const pods = join(PATHS.varLog, "pods");
  if (existsSync(pods)) await cp(pods, join(KEPT_LOGS, "pods"), { recursive: true });
}

/**
 * Ends the cluster: its processes, loop devices, cgroups and state folder; puts the machine's settings back and keeps
 * the logs in the cache. Safe to call when there is none. Throws, naming it, when anything is left.
 */
export async function endCluster(): Promise<void> {
  const isThere = existsSync(STATE) || (await remainingCgroups()).length > 0;
  if (!isThere) return;
  const record = await readRecord();
  const devices = await sandboxLoopDevices(await processesOf(record));
  await endProcesses(record);
  await detachLoopDevices(devices);
  if (record !== undefined) await restoreSysctls(record);
  await removeCgroups();
  if (existsSync(PATHS.logs)) await keepLogs();
  // A mount that is left must not have its files deleted.
  if ((await strayMounts()).length === 0) await rm(STATE, { recursive: true, force: true });
  const left = await leftovers(record, devices);
  if (left.length > 0) throw new Error(`the cluster ended but left behind: ${left.join(", ")}`);
  progress(`cluster ended, nothing left behind; its logs are in ${KEPT_LOGS}`);
}
