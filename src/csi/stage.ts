import { errorCode } from "../base/errors.js";
import type { AttachedVolume, AttachRequest } from "../dataplane/api.js";
import { decideFormat } from "../host/format-decision.js";
import { createMountPoint } from "../host/mount-point.js";
import { CsiError } from "./errors.js";
import { EVENT_REASON_DETAIL } from "./events-rules.js";
import type { NodeDependencies } from "./node-dependencies.js";
import { nodeStageRequest, nodeUnstageRequest, parseRequest } from "./requests.js";
import type { CallContext } from "./service.js";
import { attachRequestOf } from "./stage-access.js";
import type { StageRecord } from "./stage-record.js";
import { clearDeadMount, inspectStaging, ownerOf, releaseLostDevice } from "./staging-mount.js";
import { requirePath, requireText, requireUse, type FileSystemType, type VolumeUse } from "./validate.js";
import { deviceOf, mountsElsewhere, mountsOfVolume } from "./volume-mounts.js";

type MountUse = Extract<VolumeUse, { readonly kind: "mount" }>;

/**
 * NodeStageVolume and NodeUnstageVolume. Each step looks at what is there before it acts, so that a call that was cut
 * short anywhere is finished by the next.
 */
export class Staging {
  readonly #dependencies: NodeDependencies;

  constructor(dependencies: NodeDependencies) {
    this.#dependencies = dependencies;
  }

  /** Attaches the volume and, for a file system, makes it if it never had one, checks, mounts and grows it. */
  async stage(wire: unknown, { signal }: CallContext): Promise<object> {
    const request = parseRequest(nodeStageRequest, wire);
    const volumeId = requireText(request.volumeId, "volume_id");
    const stagingPath = requirePath(request.stagingTargetPath, "staging_target_path");
    const use = requireUse(request.volumeCapability);
    const attachRequest = attachRequestOf(request, use, this.#dependencies);
    return this.#dependencies.inFlight.run(`volume ${volumeId}`, "NodeStageVolume", async () => {
      if (use.kind === "mount") await clearDeadMount(volumeId, stagingPath, this.#dependencies);
      const volume = await this.#attach(attachRequest, stagingPath, signal);
      if (use.kind === "mount") await this.#mount(volume, stagingPath, use, signal);
      else await this.#dependencies.records.put(recordOf(volume, stagingPath, use));
      return {};
    });
  }

  /** Unmounts and detaches. Refused while the volume is published, before anything is taken away. */
  async unstage(wire: unknown, { signal }: CallContext): Promise<object> {
    const request = parseRequest(nodeUnstageRequest, wire);
    const volumeId = requireText(request.volumeId, "volume_id");
    const stagingPath = requirePath(request.stagingTargetPath, "staging_target_path");
    const { dataplane, inFlight, records } = this.#dependencies;
    return inFlight.run(`volume ${volumeId}`, "NodeUnstageVolume", async () => {
      const record = await records.get(volumeId);
      const volume = (await dataplane.get(volumeId))?.volume;
      await this.#refusePublished(volumeId, stagingPath, volume, record);
      await this.#unmount(volumeId, stagingPath, signal);
      signal.throwIfAborted();
      await dataplane.detach(volumeId, signal);
      await records.remove(volumeId);
      return {};
    });
  }

  async #attach(request: AttachRequest, stagingPath: string, signal: AbortSignal): Promise<AttachedVolume> {
    const { dataplane } = this.#dependencies;
    try {
      return await dataplane.attach(request, signal);
    } catch (error) {
      const isHeld = ["DEVICE_BUSY", "VOLUME_DEVICE_LOST", "VOLUME_SUPERSEDED"].includes(errorCode(error) ?? "");
      if (!isHeld || !(await releaseLostDevice(request.volumeHandle, stagingPath, this.#dependencies))) throw error;
      return dataplane.attach(request, signal);
    }
  }

  async #mount(volume: AttachedVolume, stagingPath: string, use: MountUse, signal: AbortSignal): Promise<void> {
    const { mounter, filesystems, records } = this.#dependencies;
    if ((await inspectStaging(volume, stagingPath, this.#dependencies)) === "absent") {
      await createMountPoint(stagingPath, "directory");
      await this.#prepare(volume, stagingPath, use, signal);
      signal.throwIfAborted();
      await records.put(recordOf(volume, stagingPath, use));
      const options = [...use.mountFlags, ...(volume.isReadOnly && !use.mountFlags.includes("ro") ? ["ro"] : [])];
      await mounter.mount({ source: volume.devicePath, target: stagingPath, fsType: use.fsType, options }, signal);
    } else {
      await this.#checkSameFileSystem(stagingPath, use);
    }
    const isWritable = (await mounter.find(stagingPath))?.options.includes("rw") === true;
    if (volume.isReadOnly || !isWritable) return;
    const { devicePath } = volume;
    if (await filesystems.needsGrow(devicePath, use.fsType)) {
      await filesystems.growFilesystem({ devicePath, mountPoint: stagingPath, fsType: use.fsType, signal });
    }
  }

  /** Makes the file system, or checks the one that is there. */
  async #prepare(volume: AttachedVolume, stagingPath: string, use: MountUse, signal: AbortSignal): Promise<void> {
    const { dataplane, filesystems, records } = this.#dependencies;
    const { devicePath, isReadOnly, volumeHandle } = volume;
    const record = await records.get(volumeHandle);
    // Of the same attachment, a file system that was being made was never mounted: nothing can be lost with it. After
    // a detach the volume may have been anywhere, and the record says nothing any more.
    if (record?.isFormatting === true && record.generation === volume.generation) {
      await this.#format(volume, stagingPath, use, { isForced: true, signal });
      return;
    }
    const signature = await filesystems.probeSignature(devicePath, signal);
    const isZeroed = signature.kind === "empty" && (await filesystems.isZeroed(devicePath));
    const decision = decideFormat({
      signature,
      isZeroed,
      wasFormatted: volume.wasFormatted,
      requestedFsType: use.fsType,
      isReadOnly,
    });
    switch (decision.action) {
      case "refuse":
        throw new CsiError("CSI_FAILED_PRECONDITION", `volume ${volumeHandle} is not mounted: ${decision.reason}`, {
          details: { [EVENT_REASON_DETAIL]: "FileSystemRefused" },
        });
      case "format":
        await this.#format(volume, stagingPath, use, { isForced: false, signal });
        break;
      case "use":
        // Whoever made it: once mounted here, the volume is not formatted if it ever looks empty.
        if (!volume.wasFormatted) await dataplane.markFormatted(volumeHandle, use.fsType);
        if (!isReadOnly) await this.#checkAndGrow(volume, use.fsType, signal);
        break;
    }
  }

  /** ext4 grows before it is mounted, which takes no capability; the others can only grow when they are. */
  async #checkAndGrow(volume: AttachedVolume, fsType: FileSystemType, signal: AbortSignal): Promise<void> {
    const { filesystems, notice } = this.#dependencies;
    const { devicePath, volumeHandle } = volume;
    const result = await filesystems.checkFilesystem({ devicePath, fsType, mode: "repair", signal });
    if (result === "repaired") {
      const note = `the ${fsType} of volume ${volumeHandle} had errors, and the check before mounting repaired them`;
      notice?.(volumeHandle, { reason: "FileSystemRepaired", note });
    }
    if (await filesystems.needsGrow(devicePath, fsType)) {
      await filesystems.growUnmounted({ devicePath, fsType, signal });
    }
  }

  /**
   * First our own note that a file system is being made, then mkfs, then the dataplane's note that there is one, all
   * before it is mounted: killed at any point, the volume is finished by the next call, and what was ever mounted is
   * never formatted again. Noted before mkfs, a volume whose device died meanwhile would stay empty and refused.
   */
  async #format(
    volume: AttachedVolume,
    stagingPath: string,
    use: MountUse,
    { isForced, signal }: { readonly isForced: boolean; readonly signal: AbortSignal },
  ): Promise<void> {
    const { dataplane, filesystems, records, logger, notice } = this.#dependencies;
    const { fsType } = use;
    await records.put({ ...recordOf(volume, stagingPath, use), isFormatting: true });
    signal.throwIfAborted();
    logger.info("making a file system", { volumeId: volume.volumeHandle, devicePath: volume.devicePath, fsType });
    const options = isForced ? [forceOption[fsType]] : [];
    await filesystems.makeFilesystem({ devicePath: volume.devicePath, fsType, options, signal });
    await dataplane.markFormatted(volume.volumeHandle, fsType);
    const note = `volume ${volume.volumeHandle} was empty, and a new ${fsType} was made on it`;
    notice?.(volume.volumeHandle, { reason: "FileSystemCreated", note });
  }

  async #checkSameFileSystem(stagingPath: string, use: MountUse): Promise<void> {
    const entry = await this.#dependencies.mounter.find(stagingPath);
    if (entry === undefined || entry.fsType === use.fsType) return;
    throw new CsiError("CSI_ALREADY_EXISTS", `${stagingPath} carries ${entry.fsType}, not ${use.fsType}`);
  }

  async #refusePublished(
    volumeId: string,
    stagingPath: string,
    volume: AttachedVolume | undefined,
    record: StageRecord | undefined,
  ): Promise<void> {
    const device =
      volume === undefined
        ? record === undefined
          ? undefined
          : { major: record.deviceMajor, minor: record.deviceMinor }
        : deviceOf(volume);
    if (device === undefined) return;
    // A record without an attached volume may name a device that is another volume's by now.
    if (volume === undefined && (await this.#dependencies.mounter.find(stagingPath)) === undefined) return;
    const { mounter } = this.#dependencies;
    const users = await mountsElsewhere(mounter, await mountsOfVolume(mounter, device), [stagingPath]);
    if (users.length === 0) return;
    throw new CsiError(
      "CSI_FAILED_PRECONDITION",
      `volume ${volumeId} is still published at ${users.join(", ")}; unpublish it first`,
    );
  }

  async #unmount(volumeId: string, stagingPath: string, signal: AbortSignal): Promise<void> {
    const { mounter, records } = this.#dependencies;
    const health = await mounter.health(stagingPath);
    if (health.kind === "absent") return;
    const owner = await ownerOf(stagingPath, records);
    // One path may be named for several volumes, one after the other: the mount of another is not ours to take away.
    if (owner !== undefined && owner !== volumeId) return;
    await mounter.unmount(stagingPath, { isLazy: health.kind === "stale", signal });
  }
}

const forceOption: Readonly<Record<FileSystemType, string>> = { ext4: "-F", xfs: "-f", btrfs: "-f" };

function recordOf(volume: AttachedVolume, stagingPath: string, use: VolumeUse): StageRecord {
  return {
    version: 1,
    volumeHandle: volume.volumeHandle,
    stagingPath,
    kind: use.kind,
    fsType: use.kind === "mount" ? use.fsType : "",
    deviceMajor: volume.deviceMajor,
    deviceMinor: volume.deviceMinor,
    generation: volume.generation,
    isFormatting: false,
  };
}
