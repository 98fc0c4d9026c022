import type { Draw } from "./plan.js";

/** What goes wrong, and when. */
export const FAULT_KINDS = [
  "cut-one",
  "cut-all",
  "stall-to-target",
  "stall-to-initiator",
  "stall-both",
  "portal-down",
  "portal-silent",
  "target-crash",
  "target-restart",
  "target-freeze",
  "disk-hang",
  "drop-status",
  "drop-data-in",
  "drop-r2t",
  "drop-data-out",
  "drop-command",
  "drop-answer",
  "flip-header-to-target",
  "flip-header-to-initiator",
  "flip-data-to-target",
  "flip-data-to-initiator",
  "flip-digest-to-target",
  "flip-digest-to-initiator",
  "withhold-r2t",
  "close-window",
  "window-lie",
  "ping",
  "reject-command",
  "async-logout",
  "async-drop-one",
  "async-drop-all",
  "async-renegotiate",
  "async-vendor",
  "target-asks-for-logout",
  "target-drops-one",
  "target-drops-all",
  "target-negotiates",
  "target-reports-scsi-event",
  "target-sends-vendor-event",
  "target-redirects",
  "redirect-temporary",
  "redirect-permanent",
  "redirect-loop",
  "login-refused",
  "wall-clock-jump",
  "process-pause",
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

export interface Fault {
  readonly kind: FaultKind;
  readonly atMs: number;
  /** How long it lasts, where it lasts. */
  readonly durationMs: number;
  /** PDUs it takes, where it takes PDUs. */
  readonly count: number;
  /** Decides what the kind leaves open. */
  readonly salt: number;
}

/** Kinds by how often a world has them: those that only recovery levels 1 and 2 survive quietly are for those. */
const always: readonly FaultKind[] = FAULT_KINDS.filter((kind) => !kind.startsWith("flip-"));
const onPdus = FAULT_KINDS.filter((kind) => /^(drop|flip|withhold)-/.test(kind));

export function drawFaults(
  draw: Draw,
  options: {
    readonly spanMs: number;
    readonly isStorm: boolean;
    readonly hasHeaderDigest: boolean;
    readonly hasDataDigest: boolean;
    readonly errorRecoveryLevel: number;
  },
): Fault[] {
  const isPossible = (kind: FaultKind): boolean => {
    if (kind.startsWith("flip-header")) return options.hasHeaderDigest;
    return kind.startsWith("flip-") ? options.hasDataDigest : true;
  };
  const pdus = onPdus.filter(isPossible);
  const faults: Fault[] = [];
  // One world in ten has none: there nothing may go wrong at all.
  const count = draw.chance(0.1) ? 0 : draw.between(1, options.isStorm ? 12 : 4);
  let atMs = 0;
  for (let index = 0; index < count; index += 1) {
    // Two at once, now and then.
    if (index === 0 || !draw.chance(0.25)) atMs = draw.between(0, Math.floor(options.spanMs * 0.9));
    const isOnPdu = draw.chance(options.errorRecoveryLevel === 0 ? 0.25 : 0.6);
    const kind = draw.pick(isOnPdu ? pdus : [...always, ...pdus]);
    faults.push({
      kind,
      atMs,
      durationMs: draw.pick([50, 500, 3_000, 12_000]),
      count: draw.pick([1, 1, 1, 2, 5]),
      salt: draw.random.uint32(),
    });
  }
  return faults.sort((a, b) => a.atMs - b.atMs);
}
