import { decodeSetTargetPortGroups, encodeTargetPortGroups } from "../../../scsi/alua.js";
import type { AccessChange, SettableState } from "../access-states.js";
import { byteAt } from "../cdb-fields.js";
import { CheckCondition, Condition, invalidCdbField, invalidParameterField } from "../check-condition.js";
import type { CommandSpec, ScsiCommand } from "../command.js";

const LIST_HEADER_BYTES = 4;
const DESCRIPTOR_BYTES = 4;

/** The states of SPC-5 §6.45 that can be asked for: not offline, not transitioning, not LBA-dependent. */
const REQUESTABLE: ReadonlySet<string> = new Set<SettableState>([
  "active-optimized",
  "active-non-optimized",
  "standby",
  "unavailable",
]);

function isRequestable(state: string): state is SettableState {
  return REQUESTABLE.has(state);
}

/** REPORT TARGET PORT GROUPS, SPC-5 §6.37; the states change in no time, so that no transition time is told. */
function executeReport(command: ScsiCommand): Buffer {
  const { cdb, unit } = command;
  const isExtended = byteAt(cdb, 1) >>> 5 === 1;
  const data = { groups: unit.accessStates.report(), implicitTransitionSeconds: 0 };
  return command.cut(encodeTargetPortGroups(data, isExtended), cdb.readUInt32BE(6));
}

/** SPC-5 §6.45: no list changes nothing, and a list that cannot be one is a mistake in the CDB. */
function setListBytes(command: ScsiCommand): number {
  const lengthBytes = command.cdb.readUInt32BE(6);
  const maxBytes = LIST_HEADER_BYTES + command.unit.accessStates.portCount * DESCRIPTOR_BYTES;
  const isWhole = lengthBytes === 0 || (lengthBytes >= LIST_HEADER_BYTES && lengthBytes % DESCRIPTOR_BYTES === 0);
  if (!isWhole || lengthBytes > maxBytes) throw invalidCdbField(6);
  return lengthBytes;
}

/** SET TARGET PORT GROUPS, SPC-5 §6.45: all of the list or nothing of it. */
function executeSet(command: ScsiCommand): undefined {
  const { cdb, dataOut, unit, nexus } = command;
  const lengthBytes = cdb.readUInt32BE(6);
  if (lengthBytes === 0) return undefined;
  if (dataOut.length < lengthBytes) throw new CheckCondition(Condition.parameterListLengthError);
  const changes = new Map<number, AccessChange>();
  decodeSetTargetPortGroups(dataOut.subarray(0, lengthBytes)).forEach(({ group, state }, index) => {
    const at = LIST_HEADER_BYTES + index * DESCRIPTOR_BYTES;
    if (!isRequestable(state)) throw invalidParameterField(at, 3);
    if (!unit.accessStates.hasPort(group) || changes.has(group)) throw invalidParameterField(at + 2);
    changes.set(group, { group, state });
  });
  if (unit.accessStates.apply([...changes.values()], "initiator")) unit.announceAccessChange(nexus.id);
  return undefined;
}

/** SPC-5 §6.37 and §6.45: asymmetric logical unit access. */
export const ACCESS_COMMANDS: readonly CommandSpec[] = [
  {
    name: "REPORT TARGET PORT GROUPS",
    opcode: 0xa3,
    serviceAction: 0x0a,
    usage: "a3ff00000000ffffffff0000",
    reservation: "always",
    changesMedium: false,
    needsMedium: false,
    execute: executeReport,
  },
  {
    name: "SET TARGET PORT GROUPS",
    opcode: 0xa4,
    serviceAction: 0x0a,
    usage: "a41f00000000ffffffff0000",
    reservation: "write",
    changesMedium: false,
    needsMedium: false,
    isAvailable: (unit) => unit.accessStates.isExplicit,
    dataOutBytes: setListBytes,
    execute: executeSet,
  },
];
