import { errorCode, errorMessage } from "../base/errors.js";
import type { AttachedVolume } from "./api.js";
import { DataplaneError } from "./errors.js";
import type { Volume } from "./volume.js";

/** What `volume` shows; only for one that was just brought up. */
export function attachedOf(volume: Volume): AttachedVolume {
  const attached = volume.attached();
  if (attached === undefined) throw notAttached(volume.handle);
  return attached;
}

/** A volume that has its device, but whose I/O is refused. */
export function failedVolume(volume: Volume): DataplaneError {
  return new DataplaneError("VOLUME_FAILED", `volume ${volume.handle} is attached, but ${volume.reason}`, {
    details: { volumeHandle: volume.handle },
  });
}

/** `holders` still use what an earlier publication of the volume gave them. */
export function superseded(volumeHandle: string, holders: readonly string[]): DataplaneError {
  return new DataplaneError(
    "VOLUME_SUPERSEDED",
    `volume ${volumeHandle} was unpublished from this node and published again, and others may have written to it in ` +
      `between; its earlier device is still held by ${holders.join(", ")} and gives errors now: delete the pods that ` +
      "use it, then it is attached anew",
    { details: { volumeHandle, holders } },
  );
}

export function notAttached(volumeHandle: string): DataplaneError {
  return new DataplaneError(
    "VOLUME_NOT_FOUND",
    `volume ${volumeHandle} is not attached to this node; attach it first`,
    {
      details: { volumeHandle },
    },
  );
}

/** DEVICE_BUSY of the layers below with the volume named; every other error as it is. */
export function busyIfHeld(error: unknown, volumeHandle: string, device: string): unknown {
  if (errorCode(error) !== "DEVICE_BUSY" || error instanceof DataplaneError) return error;
  return busy(volumeHandle, device, [errorMessage(error)], error);
}

/** `holders` in words: who has to let go first. */
export function busy(
  volumeHandle: string,
  device: string,
  holders: readonly string[],
  cause?: unknown,
): DataplaneError {
  return new DataplaneError(
    "DEVICE_BUSY",
    `volume ${volumeHandle} (${device}) is in use: ${holders.join(", ")}; unmount or close it first`,
    { cause, retry: "same-path", details: { volumeHandle, holders } },
  );
}
