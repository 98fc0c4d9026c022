import type { BlockDevice } from "../block/device.js";
import type { ConnectedVolume, ConnectVolumeRequest } from "../initiator/connect-volume.js";
import type { BindOptions, BoundBackend, BoundDevice } from "../nbd/bind.js";

/** Reaches LUNs: initiator/connect-volume.ts with its dependencies. */
export interface VolumeConnector {
  connect(request: ConnectVolumeRequest, signal?: AbortSignal): Promise<ConnectedVolume>;
}

/** Which device is meant, and how the kernel is to get it. */
export type BinderOptions = Pick<BindOptions, "backend" | "backendId">;

/** Gives devices to the kernel: nbd/bind.ts with its dependencies and directories. */
export interface DeviceBinder {
  bind(device: BlockDevice, options: BinderOptions): Promise<BoundDevice>;
  /** The kernel's device with this id, served by `device` from now on; undefined when there is none. */
  recover(device: BlockDevice, options: BinderOptions): Promise<BoundDevice | undefined>;
  /** Every device of the kernel that carries an id, ours or not, and what is left of fuse devices. */
  list(): Promise<readonly BoundBackend[]>;
  /**
   * Takes away what an earlier process left under this id, whichever backend it was. False when there is nothing;
   * HostError DEVICE_BUSY, naming the holders, when it is mounted or open.
   */
  discard(options: Pick<BinderOptions, "backendId">): Promise<boolean>;
}
