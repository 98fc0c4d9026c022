import { AppError } from "../base/errors.js";
import type { UnitReservations } from "../block/lun-reservation.js";
import { ReservationType } from "../scsi/opcodes.js";
import type { ReservationKey } from "../scsi/persistent-reserve.js";

export type ReservationErrorCode =
  /** `fencing: required`, and the unit has no reservations of the type we take. */
  | "RESERVATION_UNSUPPORTED"
  /** Somebody has the unit whom we must not take it from. */
  | "RESERVATION_HELD"
  /** Another node registers with the key of this one. */
  | "RESERVATION_KEY_SHARED"
  /** The unit lets only one path of ours write. */
  | "RESERVATION_PATH_KEPT_OUT"
  /** Another node has taken the unit from this one: for good, as long as the volume is attached. */
  | "RESERVATION_LOST";

/** Why reservations keep a path from being used. What is so is the same over every path. */
export class ReservationError extends AppError {
  declare readonly code: ReservationErrorCode;

  constructor(code: ReservationErrorCode, message: string, details: Readonly<Record<string, unknown>> = {}) {
    super("initiator", code, message, { details });
  }
}

const typeNames: ReadonlyMap<number, string> = new Map([
  [ReservationType.writeExclusive, "write exclusive"],
  [ReservationType.exclusiveAccess, "exclusive access"],
  [ReservationType.writeExclusiveRegistrantsOnly, "write exclusive, registrants only"],
  [ReservationType.exclusiveAccessRegistrantsOnly, "exclusive access, registrants only"],
  [ReservationType.writeExclusiveAllRegistrants, "write exclusive, all registrants"],
  [ReservationType.exclusiveAccessAllRegistrants, "exclusive access, all registrants"],
]);

/** `reservation type 5 (write exclusive, registrants only)` */
function typeName(type: number): string {
  return `reservation type ${type} (${typeNames.get(type) ?? "unknown"})`;
}

export function unsupported(reason: string): ReservationError {
  return new ReservationError(
    "RESERVATION_UNSUPPORTED",
    `fencing is required, but the unit has no usable persistent reservations: ${reason}; set fencing to auto to use it ` +
      "without, or put the volume on a target that has them",
  );
}

/** A key that is not of our cluster, as holder or as registrant. */
export function heldByStranger(key: ReservationKey, { holder }: UnitReservations): ReservationError {
  const how =
    holder === undefined
      ? "is registered with the unit"
      : holder.key === key
        ? `holds the unit, ${typeName(holder.type)}`
        : `is registered with the unit, which is under ${typeName(holder.type)}`;
  return new ReservationError(
    "RESERVATION_HELD",
    `reservation key 0x${key}, which is not of this cluster, ${how}; it is not taken away: find out who uses the volume, ` +
      "give the clusters different ids if it is a node of this one under an older id, and have its owner release it (or " +
      "clear the reservations at the array)",
    { holderKey: key, ...(holder === undefined ? {} : { type: holder.type }) },
  );
}

/** A reservation that does not let every registrant write. */
export function heldByType({ key, type }: NonNullable<UnitReservations["holder"]>): ReservationError {
  return new ReservationError(
    "RESERVATION_HELD",
    `reservation key 0x${key} holds the unit with ${typeName(type)}, which keeps the nodes that share it from writing; ` +
      "release that reservation where it was made, or clear the reservations at the array",
    { holderKey: key, type },
  );
}

/** RESERVATION CONFLICT for the questions themselves, or for a registration: the way of SPC-2, which has no keys. */
export function heldByLegacy(): ReservationError {
  return new ReservationError(
    "RESERVATION_HELD",
    "another initiator holds the unit with RESERVE (SPC-2), which tells no key; find out at the array who it is and " +
      "have it release the unit, or reset the unit",
    { holderKey: "" },
  );
}

export function unsettled(): ReservationError {
  return new ReservationError(
    "RESERVATION_HELD",
    "the registrations of the unit change each time they are looked at; it is tried again, look for several initiators " +
      "that fight for it if that lasts",
    { holderKey: "" },
  );
}

export function keyShared(key: ReservationKey, initiator: string): ReservationError {
  return new ReservationError(
    "RESERVATION_KEY_SHARED",
    `initiator ${initiator} has registered the reservation key 0x${key}, which is that of this node: the unit could not ` +
      "tell their writes apart; give one of the two nodes another number with --reservation-node of its dataplane",
    { key, initiator },
  );
}

/** The path is registered with our key, which holds the unit, and is kept from writing all the same. */
export function pathKeptOut(key: ReservationKey): ReservationError {
  return new ReservationError(
    "RESERVATION_PATH_KEPT_OUT",
    `the unit lets only one path write under reservation key 0x${key}, though this one is registered with it too; it is ` +
      "used when no other path is up. Give each portal a portal group of its own (LIO needs that), or set fencing to " +
      "auto or off",
    { key },
  );
}

/** `state`: what was found instead of our registration. */
export function lost(key: ReservationKey, state: UnitReservations): ReservationError {
  const others = state.keys.filter((other) => other !== key);
  const holderKey = state.holder?.key ?? others[0] ?? "";
  const found =
    state.holder !== undefined
      ? `0x${state.holder.key} holds it, ${typeName(state.holder.type)}`
      : holderKey === ""
        ? "nobody holds it any more, but somebody has since"
        : `0x${holderKey} is registered`;
  return new ReservationError(
    "RESERVATION_LOST",
    `the reservation of this node (key 0x${key}) was taken away: ${found}; this node writes nothing more to the volume, ` +
      "detach it here and attach it again where it is needed",
    { key, holderKey },
  );
}
