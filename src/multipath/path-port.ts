import type { AppError } from "../base/errors.js";
import type { BlockDevice, BlockDeviceInfo } from "../block/device.js";
import type { TargetPortGroupChange, TargetPortGroups } from "../scsi/alua.js";

/** What a path tells of its own accord. */
export type PathPortEvent =
  /** It can carry requests: connected, and what is behind it was verified; `device` and `portGroup` can be asked. */
  | { readonly kind: "up" }
  /** It cannot: the connection is gone, or could not be made. Requests under way end by themselves. */
  | { readonly kind: "down"; readonly reason: AppError }
  /** What is behind it is not the volume, or must not be used: nothing is sent over it until "up". */
  | { readonly kind: "refused"; readonly reason: AppError }
  /** It was heard that access states changed, and they were read again. */
  | { readonly kind: "port-groups"; readonly groups: TargetPortGroups }
  /** What the unit says of itself has changed. */
  | { readonly kind: "info-changed"; readonly info: BlockDeviceInfo };

/**
 * One way to a unit, as the multipath device sees it: initiator/iscsi-path.ts, or a scripted one in tests.
 *
 * Requests given to `device` end in one of three ways: done; with an AppError whose `retry` is `never`, which every path
 * would answer alike; or with one whose `retry` is `other-path`, after which the request is certain not to be carried out
 * over this path any more, so that it may be given to another. What is worth a try over the same path was tried already.
 */
export interface PathPort {
  /** Stays the same as long as source and portal do: `SOURCE->PORTAL`, or the portal alone. */
  readonly id: string;
  /** The unit over this path alone. Not to be used before the first "up". */
  readonly device: BlockDevice;
  /** Target port group that the path leads to (SPC-5 §5.18); undefined where the unit has no such states. */
  readonly portGroup: number | undefined;
  /** May states be set (explicit ALUA)? */
  readonly canSetPortGroups: boolean;
  /** REPORT TARGET PORT GROUPS over this path; undefined where the unit has no such states. Rejects with AppError. */
  readPortGroups(): Promise<TargetPortGroups | undefined>;
  /** SET TARGET PORT GROUPS over this path. Rejects with AppError. */
  setPortGroups(changes: readonly TargetPortGroupChange[]): Promise<void>;
  /** TEST UNIT READY over this path: does it carry requests? Rejects with AppError. */
  probe(): Promise<void>;
  /** Asks who the unit is; another one is refused, which is told by an event too. Rejects with AppError. */
  recognise(): Promise<void>;
  /** Reads the unit's description again over this path. Rejects with AppError. */
  refresh(): Promise<BlockDeviceInfo>;
  /** Another path has come up: what waits for this one may go over that one, if it is made certain first. */
  handOver(): void;
  onEvent(listener: (event: PathPortEvent) => void): () => void;
  /** Lets requests under way settle while the path is up, then lets go of it. Does not fail. */
  close(): Promise<void>;
}
