/** What the kernel keeps beside a device, so that the next process knows whose it is. */
export interface BackendId {
  readonly clusterId: string;
  readonly volumeHandle: string;
  readonly deviceId: string;
}

/** `CLUSTER/HANDLE/IDENTITY`, each part percent-encoded: any handle fits, and it reads well in /sys. */
export function formatBackendId(id: BackendId): string {
  return [id.clusterId, id.volumeHandle, id.deviceId].map(encodeURIComponent).join("/");
}

/** The parts, or undefined when it is not an id of ours. */
export function parseBackendId(text: string): BackendId | undefined {
  const parts = text.split("/");
  if (parts.length !== 3) return undefined;
  try {
    const [clusterId = "", volumeHandle = "", deviceId = ""] = parts.map(decodeURIComponent);
    return clusterId === "" || volumeHandle === "" ? undefined : { clusterId, volumeHandle, deviceId };
  } catch {
    // Somebody else's id with a stray percent sign.
    return undefined;
  }
}
