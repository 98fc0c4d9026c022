import { MaintenanceIn, MaintenanceOut, ScsiOpcode } from "../../scsi/opcodes.js";
import type { SettableState } from "./access-states.js";
import { CheckCondition, Condition, type SenseCode } from "./check-condition.js";
import type { CommandSpec } from "./command.js";

/** No command of the initiator's table of opcodes. */
const SEND_DIAGNOSTIC = 0x1d;

/** Commands told apart by opcode, those of MAINTENANCE IN and OUT by service action too. */
function keyOf(opcode: number, serviceAction = 0): number {
  const hasActions = opcode === ScsiOpcode.maintenanceIn || opcode === ScsiOpcode.maintenanceOut;
  return (opcode << 8) | (hasActions ? serviceAction : 0);
}

const REPORT_GROUPS = keyOf(ScsiOpcode.maintenanceIn, MaintenanceIn.reportTargetPortGroups);
const SET_GROUPS = keyOf(ScsiOpcode.maintenanceOut, MaintenanceOut.setTargetPortGroups);

/** SPC-5 §5.18.2.5, while a transition goes on: what tells an initiator who and where we are, and no second change. */
const IN_TRANSITION: readonly number[] = [
  keyOf(ScsiOpcode.inquiry),
  keyOf(ScsiOpcode.reportLuns),
  keyOf(ScsiOpcode.requestSense),
  REPORT_GROUPS,
];

/** SPC-5 §5.18.2.4.5: the same, and the way out. We have no buffers to read or write. */
const IN_UNAVAILABLE: readonly number[] = [...IN_TRANSITION, SET_GROUPS];

/** SPC-5 §5.18.2.4.4: all that does not touch the medium. TEST UNIT READY is not among it: the unit is not ready. */
const IN_STANDBY: readonly number[] = [
  ...IN_UNAVAILABLE,
  keyOf(ScsiOpcode.modeSelect6),
  keyOf(ScsiOpcode.modeSelect10),
  keyOf(ScsiOpcode.modeSense6),
  keyOf(ScsiOpcode.modeSense10),
  keyOf(SEND_DIAGNOSTIC),
  keyOf(ScsiOpcode.persistentReserveIn),
  keyOf(ScsiOpcode.persistentReserveOut),
];

interface Restriction {
  readonly allowed: ReadonlySet<number>;
  readonly condition: SenseCode;
}

const RESTRICTIONS: Readonly<Partial<Record<SettableState, Restriction>>> = {
  standby: { allowed: new Set(IN_STANDBY), condition: Condition.targetPortInStandby },
  unavailable: { allowed: new Set(IN_UNAVAILABLE), condition: Condition.targetPortUnavailable },
  offline: { allowed: new Set(IN_UNAVAILABLE), condition: Condition.offline },
  transitioning: { allowed: new Set(IN_TRANSITION), condition: Condition.accessStateTransition },
};

/** Why the unit is not ready at a port in this state; undefined in the active ones. */
export function accessCondition(state: SettableState): SenseCode | undefined {
  return RESTRICTIONS[state]?.condition;
}

/** Refuses what the state of the port met does not allow. Throws CheckCondition. */
export function checkAccess(state: SettableState, spec: CommandSpec): void {
  const restriction = RESTRICTIONS[state];
  if (restriction === undefined || restriction.allowed.has(keyOf(spec.opcode, spec.serviceAction))) return;
  throw new CheckCondition(restriction.condition);
}
