import { isFilesystemType } from "../host/format-decision.js";
import { CsiError } from "./errors.js";
import { requireAttached, type NodeDependencies } from "./node-dependencies.js";
import { nodeExpandRequest, parseRequest } from "./requests.js";
import type { CallContext } from "./service.js";
import { readRange, requireText } from "./validate.js";
import { deviceOf, mountsOfVolume, requireMountedAt } from "./volume-mounts.js";

/** NodeExpandVolume: the device follows its LUN, the file system its device, while both are in use. */
export async function expandVolume(
  wire: unknown,
  { signal }: CallContext,
  dependencies: NodeDependencies,
): Promise<object> {
  const request = parseRequest(nodeExpandRequest, wire);
  const volumeId = requireText(request.volumeId, "volume_id");
  const volumePath = requireText(request.volumePath, "volume_path");
  const { requiredBytes } = readRange(request.capacityRange);
  const { dataplane, filesystems, inFlight, mounter } = dependencies;
  return inFlight.run(`volume ${volumeId}`, "NodeExpandVolume", async () => {
    const before = await requireAttached(dataplane, volumeId);
    const mounts = await mountsOfVolume(mounter, deviceOf(before));
    await requireMountedAt(mounter, mounts, { volumeId, path: volumePath });
    const volume = await dataplane.resize(volumeId, signal);
    if (volume.sizeBytes < requiredBytes) {
      throw new CsiError(
        "CSI_FAILED_PRECONDITION",
        `the LUN of volume ${volumeId} has ${volume.sizeBytes} bytes, not ${requiredBytes}: ` +
          "it must grow on the storage first",
      );
    }
    // A read-only bind mount cannot be grown through; another mount of the same file system can.
    const fileSystem = mounts.find((entry) => isFilesystemType(entry.fsType) && entry.options.includes("rw"));
    if (fileSystem !== undefined && isFilesystemType(fileSystem.fsType)) {
      const { fsType, mountPoint } = fileSystem;
      await filesystems.growFilesystem({ devicePath: volume.devicePath, mountPoint, fsType, signal });
    }
    return { capacityBytes: volume.sizeBytes };
  });
}
