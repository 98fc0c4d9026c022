import { isSameCluster } from "../base/reservation-key.js";
import type { UnitReservations } from "../block/lun-reservation.js";
import { ReservationType } from "../scsi/opcodes.js";
import { NO_RESERVATION_KEY, type ReservationKey } from "../scsi/persistent-reserve.js";
import { heldByStranger, heldByType } from "./reservation-errors.js";

/** Whose reservations are looked at. */
export interface ReservationOwner {
  readonly key: ReservationKey;
  /** Several nodes may write: nobody is preempted. */
  readonly isShared: boolean;
}

export type ReservationHolder = NonNullable<UnitReservations["holder"]>;

/** All registrants may write under "registrants only" and "all registrants" (SPC-5 §5.13.1). */
export function requireRegistrantsWrite(holder: ReservationHolder): void {
  const { writeExclusive, exclusiveAccess } = ReservationType;
  if (holder.type === writeExclusive || holder.type === exclusiveAccess) throw heldByType(holder);
}

/** Does our key hold the unit? So does every registrant's under an all-registrants type, which shows key zero. */
export function isHeldBy({ key }: ReservationOwner, holder: ReservationHolder): boolean {
  return holder.key === key || holder.key === NO_RESERVATION_KEY;
}

/** Throws RESERVATION_HELD unless the unit is free, or those who have it are nodes of our cluster and give way to us. */
export function requireClaimable({ key, isShared }: ReservationOwner, state: UnitReservations): void {
  const { holder } = state;
  const holderKeys = holder === undefined || holder.key === NO_RESERVATION_KEY ? [] : [holder.key];
  const stranger = [...holderKeys, ...state.keys].find((other) => !isSameCluster(other, key));
  if (stranger !== undefined) throw heldByStranger(stranger, state);
  if (holder !== undefined && (isShared || holder.key === key)) requireRegistrantsWrite(holder);
}

/** The keys to preempt, so that the volume is ours alone; none where it is shared. */
export function victimsOf({ key, isShared }: ReservationOwner, state: UnitReservations): readonly ReservationKey[] {
  const { keys, holder } = state;
  const others = [...new Set([...(holder === undefined ? [] : [holder.key]), ...keys])].filter(
    (other) => other !== key && other !== NO_RESERVATION_KEY,
  );
  if (isShared || others.length === 0) return [];
  // Key zero names all holders of an all-registrants reservation (SPC-5 §5.13.11.4).
  return holder?.key === NO_RESERVATION_KEY ? [NO_RESERVATION_KEY] : others;
}

/**
 * Is our key gone although nobody has taken it away? PRGENERATION counts what initiators do to registrations (SPC-5
 * §6.16.2). It begins at zero when a target has lost its memory; it stays as it was when a target has dropped our
 * registration with our session, as LIO does without an ACL of ours; a node that preempted us has made it grow, even if it
 * has left since. `lastGeneration` is undefined where it is not known: the process before ours cannot be asked.
 */
export function hasTargetForgotten(
  { key, isShared }: ReservationOwner,
  found: UnitReservations,
  lastGeneration: number | undefined,
): boolean {
  const isEmpty = found.keys.length === 0 && found.holder === undefined;
  if (lastGeneration === undefined) return isEmpty;
  if (isEmpty) return found.generation <= lastGeneration;
  // The others of a shared volume come back as we do.
  const haveOthersReturned = isShared && found.keys.every((other) => isSameCluster(other, key));
  return found.generation < lastGeneration && haveOthersReturned;
}

/** Was our key registered all the time between two looks, the second of which sees one nexus more of ours? */
export function isUndisturbed({ key }: ReservationOwner, before: UnitReservations, after: UnitReservations): boolean {
  const ours = after.keys.filter((other) => other === key).length;
  if (ours === 0) return false;
  // Preemption takes the key from all of our nexuses at once, and the reservation with it.
  if (before.holder?.key === key && after.holder?.key === key) return true;
  return ours > 1 || after.generation === (before.generation + 1) >>> 0;
}

/** Is an initiator port (`iqn…,i,0x<ISID>`, or the name alone) one of this initiator? Names have no case (RFC 7143 §4.2.7.1). */
export function isOfInitiator(initiatorPort: string, initiatorName: string): boolean {
  const [name = ""] = initiatorPort.split(",i,0x", 1);
  return name.toLowerCase() === initiatorName.toLowerCase();
}
