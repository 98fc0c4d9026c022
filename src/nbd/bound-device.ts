import type { Clock } from "../base/clock.js";
import type { Logger } from "../base/logger.js";
import { HostError } from "../host/errors.js";

export type BindBackend = "nbd" | "fuse";

/** A device the kernel has because of us, served from this process. */
export interface BoundDevice {
  readonly backend: BindBackend;
  /** `/dev/nbdN` or `/dev/loopN` now: use it at once, never store it. */
  readonly devicePath: string;
  readonly major: number;
  readonly minor: number;
  /**
   * Shows another size, which the BlockDevice has already. With fuse on kernels before 6.15 this fails with
   * HOST_RESIZE_BUSY while the device is mounted.
   */
  resize(sizeBytes: number): Promise<void>;
  /** Who uses it, in words: mounts, devices above it, processes that have it open. */
  holders(): Promise<string[]>;
  /** Takes the device away. HostError DEVICE_BUSY, naming the holders, when there are any. */
  release(): Promise<void>;
  /**
   * Answers what was asked, stops serving, and leaves the kernel's device for `recoverDevice`; its I/O waits until then.
   * A fuse device cannot wait: it is released if nobody uses it, else its I/O fails from now on, and `discardDevice`
   * takes away the remains when its users are gone.
   */
  park(): Promise<void>;
}

export interface BindOptions {
  /** `auto`: nbd if the kernel has it, else fuse. */
  readonly backend: "auto" | BindBackend;
  /** Cluster, volume and identity in one string: the only name by which the device is found again. */
  readonly backendId: string;
  /** Folder for sockets and mount points, ours alone; short, since a unix socket's path has at most 107 bytes. */
  readonly runtimeDirectory: string;
  /** How long the kernel keeps I/O waiting for a new process after this one died; default 24 h. */
  readonly deadConnectionTimeoutMs?: number;
  /** Delay after which requests lost with a dead process are sent again; default 2000 ms. */
  readonly ioTimeoutMs?: number;
}

export interface BindDependencies {
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Refuses, naming who holds the device. */
export function refuseHeld(devicePath: string, holders: readonly string[]): void {
  if (holders.length === 0) return;
  throw new HostError(
    "DEVICE_BUSY",
    `${devicePath} is in use: ${holders.join(", ")}; unmount it or end what has it open, then try again`,
    { details: { devicePath, holders } },
  );
}
