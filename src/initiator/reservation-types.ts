import type { Clock } from "../base/clock.js";
import type { Logger } from "../base/logger.js";
import type { ReservationKey } from "../scsi/persistent-reserve.js";
import type { ReservationOwner } from "./reservation-rules.js";
import type { ReservationStatus } from "./reservation-status.js";

/** `off`: reservations are left alone. `auto`: taken where the unit has them. `required`: a unit without is refused. */
export type FencingMode = "off" | "auto" | "required";

export interface ReservationOptions extends ReservationOwner {
  readonly mode: FencingMode;
  /** Of this node: not zero, and no other node's. */
  readonly key: ReservationKey;
  /** The name this node logs in with: tells its registrations from those of another node with the same key. */
  readonly initiatorName: string;
  /** This node had the volume before its process ended: what it has lost since is not taken back. */
  readonly isTakeOver: boolean;
}

export interface ReservationDependencies {
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * `none`: no path was admitted yet, or all was given back. `held`: by this node (over any of its paths). `registered`: a
 * node that shares the volume holds it. `lost`: another node took it.
 */
export type ReservationStanding = "off" | "none" | "unsupported" | "held" | "registered" | "lost";

export interface VolumeReservationStatus extends ReservationStatus {
  readonly mode: FencingMode;
  readonly state: ReservationStanding;
}
