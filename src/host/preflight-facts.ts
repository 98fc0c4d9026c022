import { access, constants, open, readFile, realpath } from "node:fs/promises";
import { join } from "node:path";
import { errorCode, errorMessage } from "../base/errors.js";
import { parseCapabilities } from "./capabilities.js";
import { HostError } from "./errors.js";
import { PROGRAM_FOLDERS } from "./exec.js";
import { parseMountInfo, type MountEntry } from "./mountinfo.js";
import { PREFLIGHT_PROGRAMS, type DeviceAccess, type HostFacts, type NodeFacts } from "./preflight.js";

/** What every process looks at: its capabilities, and the programs it may start. */
export async function gatherHostFacts(): Promise<HostFacts> {
  const [status, found] = await Promise.all([
    readFile("/proc/self/status", "utf8"),
    Promise.all(PREFLIGHT_PROGRAMS.map(hasProgram)),
  ]);
  return {
    capabilities: parseCapabilities(status),
    missingPrograms: new Set(PREFLIGHT_PROGRAMS.filter((_, index) => found[index] !== true)),
  };
}

/** How the kubelet's folder is mounted here. HostError HOST_PATH_INVALID when it is not there. */
export async function gatherKubeletFolder(path: string): Promise<Required<NodeFacts>["kubeletFolder"]> {
  const resolved = await realpath(path).catch((error: unknown) => {
    throw new HostError(
      "HOST_PATH_INVALID",
      `the kubelet's folder ${path} cannot be used: ${errorMessage(error)}; mount it at the same path, or correct --kubelet-dir`,
      { cause: error },
    );
  });
  const entry = mountOf(parseMountInfo(await readFile("/proc/self/mountinfo", "utf8")), resolved);
  if (entry === undefined) throw new HostError("HOST_PATH_INVALID", `${path} is on no mount of this process`);
  return {
    path,
    mountPoint: entry.mountPoint,
    isShared: entry.propagation.some((field) => field.startsWith("shared:")),
  };
}

/** The mount that `path`, which has no symbolic link in it, lies on: the deepest, and of those the topmost. */
export function mountOf(entries: readonly MountEntry[], path: string): MountEntry | undefined {
  let best: MountEntry | undefined;
  for (const entry of entries) {
    const { mountPoint } = entry;
    const isAbove = mountPoint === "/" || path === mountPoint || path.startsWith(`${mountPoint}/`);
    if (isAbove && mountPoint.length >= (best?.mountPoint.length ?? 0)) best = entry;
  }
  return best;
}

/** Opens a device node for reading and writing: the device list of a container speaks up only then. */
export async function deviceAccess(path: string): Promise<DeviceAccess> {
  try {
    await (await open(path, constants.O_RDWR)).close();
    return "ok";
  } catch (error) {
    const code = errorCode(error);
    return code === "ENOENT" || code === "ENXIO" || code === "ENODEV" ? "missing" : "refused";
  }
}

/** Is this folder writable? A read-only mount answers no, whoever asks. */
export async function isWritable(path: string): Promise<boolean> {
  return access(path, constants.W_OK).then(
    () => true,
    () => false,
  );
}

async function hasProgram(program: string): Promise<boolean> {
  for (const folder of PROGRAM_FOLDERS) {
    const isThere = await access(join(folder, program), constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return true;
  }
  return false;
}
