import type { AttachedVolume } from "../dataplane/api.js";
import type { DeviceNumbers } from "../host/mountinfo.js";
import { CsiError } from "./errors.js";
import type { NodeDependencies } from "./node-dependencies.js";
import type { StageRecord } from "./stage-record.js";
import { deviceOf, mountsElsewhere, mountsOfVolume } from "./volume-mounts.js";

/** What is at a staging path. */
export type StagingState = "absent" | "staged";

type Dependencies = Pick<NodeDependencies, "mounter" | "records" | "logger">;

/**
 * Takes a mount off the staging path whose device or file system is dead, before the volume is attached: the dead
 * mount holds its device, and nothing may be mounted on top of it. Refused while pods still use it.
 */
export async function clearDeadMount(volumeId: string, stagingPath: string, dependencies: Dependencies): Promise<void> {
  const { mounter, records } = dependencies;
  const health = await mounter.health(stagingPath);
  if (health.kind === "absent" || health.kind === "healthy") return;
  const owner = await ownerOf(stagingPath, records);
  if (owner !== undefined && owner !== volumeId) throw occupied(stagingPath, `volume ${owner} is staged there`);
  await clear(stagingPath, health.entry.device, health.reason, dependencies);
}

/**
 * Looks at the staging path of an attached volume. `staged`: this volume's file system is mounted there, of this very
 * attachment. A mount of an earlier attachment (the numbers may be the same, the device is not) is taken away when
 * nobody uses it, else refused; so is anything foreign.
 */
export async function inspectStaging(
  volume: AttachedVolume,
  stagingPath: string,
  dependencies: Dependencies,
): Promise<StagingState> {
  const { mounter, records } = dependencies;
  const entry = await mounter.find(stagingPath);
  if (entry === undefined) return "absent";
  const record = await records.get(volume.volumeHandle);
  const isOnDevice = (await mounter.mountsOfDevice(deviceOf(volume))).some(({ id }) => id === entry.id);
  const isRecorded = record?.stagingPath === stagingPath;
  if (isOnDevice && isRecorded && record.generation === volume.generation) return "staged";
  if (!isOnDevice && !isRecorded) throw occupied(stagingPath, `${entry.source} (${entry.fsType}) is mounted there`);
  const device = isOnDevice ? deviceOf(volume) : recordedDevice(record, entry.device);
  await clear(stagingPath, device, "it is of an earlier attachment of the volume", dependencies);
  return "absent";
}

/**
 * The dataplane cannot attach the volume because its last device is dead and still mounted (a FUSE device whose server
 * was killed looks alive from above until the next write). True when the mount was ours and is gone now; false when
 * there is nothing of ours to take away. Refused while pods use it.
 */
export async function releaseLostDevice(
  volumeId: string,
  stagingPath: string,
  dependencies: Dependencies,
): Promise<boolean> {
  const { mounter, records } = dependencies;
  const entry = await mounter.find(stagingPath);
  const record = await records.get(volumeId);
  if (entry === undefined || record?.stagingPath !== stagingPath) return false;
  await clear(stagingPath, recordedDevice(record, entry.device), "the device below it is gone", dependencies);
  return true;
}

/** The volume whose record has this staging path. */
export async function ownerOf(stagingPath: string, records: NodeDependencies["records"]): Promise<string | undefined> {
  const owner = (await records.list()).find((record) => record.stagingPath === stagingPath && record.kind === "mount");
  return owner?.volumeHandle;
}

function recordedDevice(record: StageRecord | undefined, fallback: DeviceNumbers): DeviceNumbers {
  return record === undefined ? fallback : { major: record.deviceMajor, minor: record.deviceMinor };
}

async function clear(
  stagingPath: string,
  device: DeviceNumbers,
  reason: string,
  { mounter, logger }: Dependencies,
): Promise<void> {
  const users = await mountsElsewhere(mounter, await mountsOfVolume(mounter, device), [stagingPath]);
  if (users.length > 0) {
    throw new CsiError(
      "CSI_FAILED_PRECONDITION",
      `the mount at ${stagingPath} cannot be used (${reason}) and is still published at ${users.join(", ")}; ` +
        "delete the pods that use it, then it is repaired",
    );
  }
  logger.warn("taking away a stale mount", { stagingPath, reason });
  try {
    await mounter.unmount(stagingPath);
  } catch {
    await mounter.unmount(stagingPath, { isLazy: true });
  }
}

function occupied(stagingPath: string, why: string): CsiError {
  return new CsiError("CSI_FAILED_PRECONDITION", `nothing is mounted on top of ${stagingPath}: ${why}`);
}
