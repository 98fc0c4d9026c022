import { readFile } from "node:fs/promises";
import { STATE } from "./layout.js";
import { pause, run } from "./process.js";

const END_LIMIT_MS = 30_000;
const STEP_MS = 200;
const CLEANUP = { isCleanup: true } as const;

/** A loop device and what it stands on, as losetup names them. */
export interface LoopDevice {
  readonly name: string;
  readonly "back-file": string | null;
  readonly "back-maj:min": string | null;
}

/** The devices, `major:minor`, of the file systems a process sees. */
async function fileSystems(pid: number | "self"): Promise<readonly string[]> {
  const lines = (await readFile(`/proc/${pid}/mountinfo`, "utf8").catch(() => "")).split("\n");
  return lines.map((line) => line.split(" ")[2] ?? "").filter((device) => device !== "");
}

async function attached(): Promise<readonly LoopDevice[]> {
  const text = await run("losetup", ["--list", "--json", "--output", "NAME,BACK-FILE,BACK-MAJ:MIN"], CLEANUP);
  return text.trim() === "" ? [] : (JSON.parse(text) as { loopdevices: readonly LoopDevice[] }).loopdevices;
}

/**
 * Loop devices that stand on a file of the sandbox, on a file system that only its processes see, or on another such
 * loop device. Those of the machine's own, a real kubelet's among them, are none of these. Ask while the processes
 * live: afterwards nothing tells whose file systems they were.
 */
export async function sandboxLoopDevices(pids: readonly number[]): Promise<readonly LoopDevice[]> {
  const own = new Set(await fileSystems("self"));
  const seen = (await Promise.all(pids.map(fileSystems))).flat().filter((device) => !own.has(device));
  const inside = new Set(seen);
  const devices = await attached();
  const found = new Set<LoopDevice>();
  for (let before = -1; before !== found.size;) {
    before = found.size;
    const names = [...found].map(({ name }) => name);
    for (const device of devices) {
      const file = device["back-file"] ?? "";
      const isInside = inside.has((device["back-maj:min"] ?? "").trim()) || file.startsWith(`${STATE}/`);
      if (isInside || names.includes(file)) found.add(device);
    }
  }
  return [...found];
}

/** Those of `devices` that are still attached to the same file. */
export async function stillAttached(devices: readonly LoopDevice[]): Promise<readonly string[]> {
  const now = await attached();
  const isSame = (one: LoopDevice, other: LoopDevice): boolean =>
    one.name === other.name && one["back-maj:min"] === other["back-maj:min"];
  return devices.filter((device) => now.some((other) => isSame(device, other))).map(({ name }) => name);
}

/** Detaches them. A device is in use for a moment longer than the mounts of a namespace that ended. */
export async function detachLoopDevices(devices: readonly LoopDevice[]): Promise<void> {
  for (let waitedMs = 0; waitedMs < END_LIMIT_MS; waitedMs += STEP_MS) {
    const names = await stillAttached(devices);
    if (names.length === 0) return;
    for (const name of names) await run("losetup", ["-d", name], CLEANUP).catch(() => undefined);
    await pause(STEP_MS);
  }
}
