import type { ChapCredentials, DigestChoice, PortalAddress } from "../base/access.js";
import type { BlockDevice, BlockDeviceInfo } from "../block/device.js";
import type { BindOptions, BoundBackend, BoundDevice } from "../nbd/bind.js";
import type { SessionStatus } from "./api.js";

/** What it takes to reach a LUN. */
export interface ConnectRequest {
  readonly portals: readonly PortalAddress[];
  readonly targetName: string;
  readonly lun: number;
  /** Empty: any device. */
  readonly expectedId: string;
  readonly initiatorName: string;
  /** The same for the life of the volume's record: the next login takes the place of the last. */
  readonly isid: Buffer;
  readonly chap?: ChapCredentials;
  readonly headerDigest: DigestChoice;
  readonly dataDigest: DigestChoice;
}

/** A LUN that is reached, with its sessions. */
export interface ConnectedVolume {
  readonly device: BlockDevice;
  sessions(): readonly SessionStatus[];
  /** Reads the capacity again; resolves with what the device says now. */
  refresh(): Promise<BlockDeviceInfo>;
  /** Logs out. Operations outstanding settle first. */
  close(): Promise<void>;
}

/** Reaches LUNs: initiator/connect-volume.ts with its dependencies. */
export interface VolumeConnector {
  connect(request: ConnectRequest, signal?: AbortSignal): Promise<ConnectedVolume>;
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
