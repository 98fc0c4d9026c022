import type { VolumeStatus } from "../dataplane/api.js";
import { isFilesystemType } from "../host/format-decision.js";
import { CsiError } from "./errors.js";
import { requireAttached, type NodeDependencies } from "./node-dependencies.js";
import { nodeHealthRequest, nodeStatsRequest, parseRequest } from "./requests.js";
import { requireText } from "./validate.js";
import { deviceOf, mountsOfVolume, requireMountedAt } from "./volume-mounts.js";

/** NodeGetVolumeStats: bytes and inodes of a file system, the size of a block volume. */
export async function volumeStats(wire: unknown, dependencies: NodeDependencies): Promise<object> {
  const request = parseRequest(nodeStatsRequest, wire);
  const volumeId = requireText(request.volumeId, "volume_id");
  const volumePath = requireText(request.volumePath, "volume_path");
  const { dataplane, filesystems, mounter } = dependencies;
  const volume = await requireAttached(dataplane, volumeId);
  const entry = await requireMountedAt(mounter, await mountsOfVolume(mounter, deviceOf(volume)), {
    volumeId,
    path: volumePath,
  });
  if (!isFilesystemType(entry.fsType)) return { usage: [{ unit: "BYTES", total: volume.sizeBytes }] };
  const health = await mounter.health(entry.mountPoint);
  if (health.kind === "stale") {
    throw new CsiError("CSI_UNAVAILABLE", `the file system at ${volumePath} cannot be asked: ${health.reason}`);
  }
  const stats = await filesystems.filesystemStats(entry.mountPoint);
  const bytes = {
    unit: "BYTES",
    total: stats.totalBytes,
    used: stats.usedBytes,
    available: stats.availableBytes,
  };
  // btrfs has no fixed number of inodes.
  if (stats.totalInodes === 0) return { usage: [bytes] };
  const inodes = { unit: "INODES", total: stats.totalInodes, used: stats.usedInodes, available: stats.freeInodes };
  return { usage: [bytes, inodes] };
}

/** NodeGetVolumeHealth: what the dataplane knows of the volume's way to its target, at this moment. */
export async function volumeHealth(wire: unknown, dependencies: NodeDependencies): Promise<object> {
  const request = parseRequest(nodeHealthRequest, wire);
  const volumeId = requireText(request.volumeId, "volume_id");
  const status = await dependencies.dataplane.get(volumeId);
  if (status === undefined) throw new CsiError("CSI_NOT_FOUND", `volume ${volumeId} is not attached to this node`);
  return { volumeHealth: { volumeId, healthStatuses: healthOf(status) } };
}

function healthOf(status: VolumeStatus): readonly object[] {
  switch (status.state) {
    case "attached":
    // Coming and going by request is no illness.
    case "attaching":
    case "detaching":
      return [];
    case "reconnecting":
      return [{ status: "INACCESSIBLE", reason: "NoPath", message: `I/O waits: ${status.reason}` }];
    case "failed":
      return [{ status: "INACCESSIBLE", reason: "Failed", message: status.reason }];
  }
}
