import { describeSense, SenseKey, senseTriple, type Sense } from "./sense.js";
import { ScsiStatus, statusName } from "./status.js";

/** What changed behind a unit attention: what the initiator must look at again before it repeats the command. */
export type UnitAttentionKind =
  | "power-on-or-reset"
  | "nexus-loss"
  | "commands-cleared"
  | "capacity-changed"
  | "luns-changed"
  | "parameters-changed"
  | "mode-parameters-changed"
  | "alua-state-changed"
  | "reservations-preempted"
  | "reservations-released"
  | "registrations-preempted"
  | "thin-soft-threshold"
  | "inquiry-data-changed"
  | "identifier-changed"
  | "firmware-changed"
  | "medium-changed"
  | "other";

/** Why, in a word that code may compare. */
export type VerdictReason =
  | "success"
  | "recovered"
  | "deferred-error"
  | "unit-attention"
  | "busy"
  | "task-set-full"
  | "becoming-ready"
  | "alua-transitioning"
  | "alua-standby"
  | "alua-unavailable"
  | "alua-offline"
  | "not-ready"
  | "internal-failure"
  | "transport-failure"
  | "aborted"
  | "reservation-conflict"
  | "thin-full"
  | "write-protected"
  | "medium-error"
  | "miscompare"
  | "invalid-command"
  | "invalid-field"
  | "out-of-range"
  | "no-such-lun"
  | "overlapped-command"
  | "access-denied"
  | "protection-error"
  | "unknown";

/** Common to every verdict. */
interface VerdictFacts {
  readonly reason: VerdictReason;
  /** For people: `MEDIUM ERROR: unrecovered read error (3/11/00)`. */
  readonly name: string;
  /** Stable and machine-readable: `SCSI_3_11_00` for sense, `SCSI_STATUS_08` for a bare status. */
  readonly code: string;
}

/**
 * What to do with a command that ended.
 * - `success`: it did what was asked (also when the device had to try twice).
 * - `retry`: the same command on the same path, at once, a bounded number of times.
 * - `wait`: the same command on the same path after a pause; the condition ends by itself.
 * - `other-path`: this path cannot do it, another may; without another path: wait.
 * - `fail`: it will fail on every path, every time.
 * - `unit-attention`: look again at what `attention` names, then repeat the command.
 */
export type Verdict =
  | (VerdictFacts & { readonly action: "success" | "retry" | "wait" | "other-path" | "fail" })
  | (VerdictFacts & { readonly action: "unit-attention"; readonly attention: UnitAttentionKind });

type PlainAction = Exclude<Verdict["action"], "unit-attention">;
type Rule = readonly [PlainAction, VerdictReason];

/** The verdict on a SCSI status and the sense that came with it (undefined when none came or it was unreadable). */
export function classify(status: number, sense?: Sense): Verdict {
  switch (status) {
    case ScsiStatus.good:
    case ScsiStatus.conditionMet:
      return fromStatus(status, ["success", "success"]);
    case ScsiStatus.busy:
      return fromStatus(status, ["wait", "busy"]);
    case ScsiStatus.taskSetFull:
      return fromStatus(status, ["wait", "task-set-full"]);
    case ScsiStatus.acaActive:
      return fromStatus(status, ["wait", "busy"]);
    case ScsiStatus.taskAborted:
      return fromStatus(status, ["retry", "aborted"]);
    case ScsiStatus.reservationConflict:
      return fromStatus(status, ["fail", "reservation-conflict"]);
    case ScsiStatus.checkCondition:
      // CHECK CONDITION without sense says nothing: another path may get a better answer.
      return sense === undefined ? fromStatus(status, ["other-path", "unknown"]) : fromSense(sense);
    default:
      return fromStatus(status, ["fail", "unknown"]);
  }
}

/** Which unit attention is this? Undefined when the sense is none. */
export function unitAttentionKind(sense: Sense): UnitAttentionKind | undefined {
  if (sense.key !== SenseKey.unitAttention) return undefined;
  return attentions.get(sense.asc * 256 + sense.ascq) ?? attentionsByAsc.get(sense.asc) ?? "other";
}

const attentions: ReadonlyMap<number, UnitAttentionKind> = new Map<number, UnitAttentionKind>([
  [0x2907, "nexus-loss"],
  [0x2a00, "parameters-changed"],
  [0x2a01, "mode-parameters-changed"],
  [0x2a03, "reservations-preempted"],
  [0x2a04, "reservations-released"],
  [0x2a05, "registrations-preempted"],
  [0x2a06, "alua-state-changed"],
  [0x2a07, "alua-state-changed"],
  [0x2a09, "capacity-changed"],
  [0x3807, "thin-soft-threshold"],
  [0x3f01, "firmware-changed"],
  [0x3f03, "inquiry-data-changed"],
  [0x3f05, "identifier-changed"],
  [0x3f0e, "luns-changed"],
]);

const attentionsByAsc: ReadonlyMap<number, UnitAttentionKind> = new Map<number, UnitAttentionKind>([
  [0x28, "medium-changed"],
  [0x29, "power-on-or-reset"],
  [0x2a, "parameters-changed"],
  [0x2f, "commands-cleared"],
]);

/** Conditions judged by their exact code, whatever the sense key says beside it. */
const byCode: ReadonlyMap<number, Rule> = new Map<number, Rule>([
  [0x0401, ["wait", "becoming-ready"]],
  [0x0404, ["wait", "not-ready"]],
  [0x0405, ["wait", "not-ready"]],
  [0x0406, ["wait", "not-ready"]],
  [0x0407, ["wait", "not-ready"]],
  [0x0408, ["wait", "not-ready"]],
  [0x0409, ["wait", "not-ready"]],
  [0x0411, ["wait", "not-ready"]],
  // Sanitizing destroys the data: waiting for its end would hide that.
  [0x041b, ["fail", "not-ready"]],
  // The pool allocates at this moment and asks to be asked again (SBC-4 §4.7.3.6).
  [0x0414, ["wait", "not-ready"]],
  [0x040a, ["wait", "alua-transitioning"]],
  [0x040b, ["other-path", "alua-standby"]],
  [0x040c, ["other-path", "alua-unavailable"]],
  [0x0412, ["other-path", "alua-offline"]],
  [0x2707, ["fail", "thin-full"]],
]);

const illegalRequestByAsc: ReadonlyMap<number, Rule> = new Map<number, Rule>([
  [0x20, ["fail", "invalid-command"]],
  [0x21, ["fail", "out-of-range"]],
  [0x24, ["fail", "invalid-field"]],
  // The LUN may be masked on this path only.
  [0x25, ["other-path", "no-such-lun"]],
  [0x26, ["fail", "invalid-field"]],
  [0x1a, ["fail", "invalid-field"]],
]);

function fromSense(sense: Sense): Verdict {
  const attention = unitAttentionKind(sense);
  if (sense.isDeferred) {
    // The error belongs to an earlier write that was acknowledged: that data is gone, and this command was not done.
    return verdict(sense, ["fail", "deferred-error"]);
  }
  if (attention !== undefined) {
    return { ...verdict(sense, ["retry", "unit-attention"]), action: "unit-attention", attention };
  }
  return verdict(sense, byCode.get(sense.asc * 256 + sense.ascq) ?? byKey(sense));
}

function byKey(sense: Sense): Rule {
  switch (sense.key) {
    case SenseKey.noSense:
    case SenseKey.recoveredError:
    case SenseKey.completed:
      return ["success", "recovered"];
    case SenseKey.notReady:
      return ["other-path", "not-ready"];
    case SenseKey.mediumError:
      return ["fail", "medium-error"];
    case SenseKey.hardwareError:
      return ["other-path", "internal-failure"];
    case SenseKey.illegalRequest:
      if (sense.asc === 0x20 && sense.ascq === 0x02) return ["fail", "access-denied"];
      return illegalRequestByAsc.get(sense.asc) ?? ["fail", "invalid-command"];
    case SenseKey.dataProtect:
      return sense.asc === 0x20 ? ["fail", "access-denied"] : ["fail", "write-protected"];
    case SenseKey.abortedCommand:
      return abortedRule(sense.asc);
    case SenseKey.volumeOverflow:
      return ["fail", "out-of-range"];
    case SenseKey.miscompare:
      return ["fail", "miscompare"];
    default:
      return ["fail", "unknown"];
  }
}

/** ABORTED COMMAND asks to be sent again, except where the cause will not go away by itself. */
function abortedRule(asc: number): Rule {
  if (asc === 0x10) return ["fail", "protection-error"];
  if (asc === 0x4e || asc === 0x4d) return ["retry", "overlapped-command"];
  if (asc === 0x44) return ["other-path", "internal-failure"];
  if (asc === 0x08 || asc === 0x47 || asc === 0x4b) return ["retry", "transport-failure"];
  return ["retry", "aborted"];
}

function verdict(sense: Sense, [action, reason]: Rule): VerdictFacts & { readonly action: PlainAction } {
  const deferred = sense.isDeferred ? "deferred " : "";
  return {
    action,
    reason,
    name: `${deferred}${describeSense(sense)}`,
    code: `SCSI_${senseTriple(sense).replaceAll("/", "_")}`,
  };
}

function fromStatus(status: number, [action, reason]: Rule): Verdict {
  const code = `SCSI_STATUS_${status.toString(16).padStart(2, "0").toUpperCase()}`;
  return { action, reason, name: statusName(status), code };
}
