import type { AttachedVolume } from "../dataplane/api.js";
import { blockDeviceNumbers, isDeviceAlive } from "../host/device-probe.js";
import { createMountPoint, removeMountPoint } from "../host/mount-point.js";
import { isSameDevice, type MountEntry } from "../host/mountinfo.js";
import { CsiError } from "./errors.js";
import type { NodeDependencies } from "./node-dependencies.js";
import { nodePublishRequest, nodeUnpublishRequest, parseRequest } from "./requests.js";
import type { CallContext } from "./service.js";
import { inspectStaging } from "./staging-mount.js";
import { isReaderMode, requirePath, requireText, requireUse, type VolumeUse } from "./validate.js";
import { deviceOf, mountsElsewhere, mountsOfVolume } from "./volume-mounts.js";

/** Flags that belong to a mount, not to its file system: a bind mount has its own. */
const MOUNT_FLAGS = new Set(["nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "strictatime"]);

interface Publication {
  readonly volume: AttachedVolume;
  readonly stagingPath: string;
  readonly targetPath: string;
  readonly use: VolumeUse;
  readonly isReadOnly: boolean;
}

/** NodePublishVolume and NodeUnpublishVolume: bind mounts of a staged volume. */
export class Publishing {
  readonly #dependencies: NodeDependencies;

  constructor(dependencies: NodeDependencies) {
    this.#dependencies = dependencies;
  }

  /** Binds the staged file system, or the device node of a block volume, to the target path. */
  async publish(wire: unknown, { signal }: CallContext): Promise<object> {
    const request = parseRequest(nodePublishRequest, wire);
    const volumeId = requireText(request.volumeId, "volume_id");
    const targetPath = requirePath(request.targetPath, "target_path");
    const use = requireUse(request.volumeCapability);
    if (request.stagingTargetPath === "") {
      throw new CsiError("CSI_FAILED_PRECONDITION", "staging_target_path is missing: stage the volume first");
    }
    const stagingPath = requirePath(request.stagingTargetPath, "staging_target_path");
    const { dataplane, inFlight } = this.#dependencies;
    return inFlight.run(`volume ${volumeId}`, "NodePublishVolume", async () => {
      const volume = (await dataplane.get(volumeId))?.volume;
      if (volume === undefined) {
        throw new CsiError("CSI_FAILED_PRECONDITION", `volume ${volumeId} is not attached here; stage it first`);
      }
      const isReadOnly = request.readonly || isReaderMode(use.mode) || volume.isReadOnly;
      const publication = { volume, stagingPath, targetPath, use, isReadOnly };
      await this.#checkSingleWriter(publication);
      if (use.kind === "mount") await this.#publishFileSystem(publication, signal);
      else await this.#publishDevice(publication, signal);
      return {};
    });
  }

  /** Takes the bind mount away and removes its mount point. */
  async unpublish(wire: unknown, { signal }: CallContext): Promise<object> {
    const request = parseRequest(nodeUnpublishRequest, wire);
    const volumeId = requireText(request.volumeId, "volume_id");
    const targetPath = requirePath(request.targetPath, "target_path");
    const { inFlight, mounter } = this.#dependencies;
    return inFlight.run(`volume ${volumeId}`, "NodeUnpublishVolume", async () => {
      const health = await mounter.health(targetPath);
      await mounter.unmount(targetPath, { isLazy: health.kind === "stale", signal });
      await removeMountPoint(targetPath, mounter);
      return {};
    });
  }

  async #publishFileSystem(publication: Publication, signal: AbortSignal): Promise<void> {
    const { mounter } = this.#dependencies;
    const { volume, stagingPath, targetPath, use, isReadOnly } = publication;
    await this.#requireStaged(volume, stagingPath);
    await createMountPoint(targetPath, "directory");
    const health = await mounter.health(targetPath);
    if (health.kind === "stale") await mounter.unmount(targetPath, { isLazy: true, signal });
    if (health.kind === "healthy") requireSameAccess(health.entry, publication);
    const staged = await mounter.find(stagingPath);
    const flags = [...(staged?.options ?? []), ...(use.kind === "mount" ? use.mountFlags : [])];
    const options = [...new Set(flags.filter((flag) => MOUNT_FLAGS.has(flag)))];
    await mounter.bindMount({ source: stagingPath, target: targetPath, isReadOnly, options }, signal);
  }

  async #publishDevice(publication: Publication, signal: AbortSignal): Promise<void> {
    const { mounter } = this.#dependencies;
    const { volume, targetPath, isReadOnly } = publication;
    await createMountPoint(targetPath, "file");
    const existing = await mounter.find(targetPath);
    if (existing !== undefined) {
      const bound = await blockDeviceNumbers(targetPath);
      const isOurs = bound !== undefined && isSameDevice(bound, deviceOf(volume));
      if (isOurs) requireSameAccess(existing, publication);
      // The node of a device that is gone: whoever had it open has nothing but errors.
      else if (bound !== undefined && !(await isDeviceAlive(bound))) await mounter.unmount(targetPath, { signal });
    }
    await mounter.bindMount({ source: volume.devicePath, target: targetPath, isReadOnly }, signal);
  }

  async #requireStaged(volume: AttachedVolume, stagingPath: string): Promise<void> {
    const { mounter } = this.#dependencies;
    const health = await mounter.health(stagingPath);
    const isUsable = health.kind === "healthy" || (health.kind === "read-only" && volume.isReadOnly);
    if (isUsable && (await inspectStaging(volume, stagingPath, this.#dependencies)) === "staged") return;
    const why = "reason" in health ? health.reason : "it is not mounted there";
    throw new CsiError(
      "CSI_FAILED_PRECONDITION",
      `volume ${volume.volumeHandle} is not staged at ${stagingPath}: ${why}; stage it first`,
    );
  }

  async #checkSingleWriter({ volume, stagingPath, targetPath, use }: Publication): Promise<void> {
    if (use.mode !== "SINGLE_NODE_SINGLE_WRITER") return;
    const mounts = await mountsOfVolume(this.#dependencies.mounter, deviceOf(volume));
    const others = await mountsElsewhere(this.#dependencies.mounter, mounts, [targetPath, stagingPath]);
    if (others.length === 0) return;
    throw new CsiError(
      "CSI_FAILED_PRECONDITION",
      `volume ${volume.volumeHandle} has a single writer and is published at ${others.join(", ")} already`,
    );
  }
}

function requireSameAccess(entry: MountEntry, { targetPath, isReadOnly }: Publication): void {
  if (entry.options.includes("ro") === isReadOnly) return;
  throw new CsiError(
    "CSI_ALREADY_EXISTS",
    `${targetPath} is published ${isReadOnly ? "read-write" : "read-only"}; unpublish it first`,
  );
}
