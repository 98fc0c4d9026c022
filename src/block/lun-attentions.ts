import type { UnitAttentionKind } from "../scsi/verdict.js";

/** After these the unit may be another one: who it is must be asked before anything is repeated. */
const identityAttentions: ReadonlySet<UnitAttentionKind> = new Set<UnitAttentionKind>([
  "power-on-or-reset",
  "luns-changed",
  "inquiry-data-changed",
  "identifier-changed",
  "firmware-changed",
  "medium-changed",
]);

/** After these somebody else may have the unit. */
const reservationAttentions: ReadonlySet<UnitAttentionKind> = new Set<UnitAttentionKind>([
  "reservations-preempted",
  "reservations-released",
  "registrations-preempted",
]);

/** After these its size or its cache may be another. */
const parameterAttentions: ReadonlySet<UnitAttentionKind> = new Set<UnitAttentionKind>([
  "capacity-changed",
  "parameters-changed",
  "mode-parameters-changed",
]);

/** Must the unit be looked at anew before the command that met this attention is repeated? */
export function asksForLook(kind: UnitAttentionKind, hasAdmission: boolean): boolean {
  if (identityAttentions.has(kind) || parameterAttentions.has(kind)) return true;
  return hasAdmission && reservationAttentions.has(kind);
}
