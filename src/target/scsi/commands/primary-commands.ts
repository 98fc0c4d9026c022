import { accessCondition } from "../access-check.js";
import { byteAt, readUint64, writeUint64 } from "../cdb-fields.js";
import { CheckCondition, Condition, encodeSense, invalidCdbField, progress } from "../check-condition.js";
import type { CommandSpec, ScsiCommand } from "../command.js";

function executeTestUnitReady(): undefined {
  return undefined;
}

/** REQUEST SENSE, SPC-5 §6.39: a pending unit attention, else what keeps the unit from being ready at this port. */
function executeRequestSense(command: ScsiCommand): Buffer {
  const { unit, nexus, cdb } = command;
  const isDescriptorFormat = (byteAt(cdb, 1) & 1) !== 0;
  const attention = unit.attentions.take(nexus.id);
  const told = attention ?? accessCondition(unit.accessStates.stateOf(nexus.relativePortId));
  const medium = unit.medium;
  if (told === undefined && medium.kind === "sanitizing") {
    const extras = { keySpecific: progress(medium.progress) };
    return command.cut(encodeSense(Condition.sanitizeInProgress, extras, isDescriptorFormat), byteAt(cdb, 4));
  }
  const stopped = medium.kind === "stopped" ? Condition.initializingCommandRequired : Condition.noSense;
  return command.cut(encodeSense(told ?? stopped, {}, isDescriptorFormat), byteAt(cdb, 4));
}

function executeReadCapacity10(command: ScsiCommand): Buffer {
  const { cdb, unit } = command;
  if ((byteAt(cdb, 8) & 1) === 0 && cdb.readUInt32BE(2) !== 0) throw invalidCdbField(2);
  const data = Buffer.alloc(8);
  data.writeUInt32BE(Math.min(0xffff_ffff, unit.blockCount - 1), 0);
  data.writeUInt32BE(unit.blockBytes, 4);
  return data;
}

function executeReadCapacity16(command: ScsiCommand): Buffer {
  const { cdb, unit } = command;
  if ((byteAt(cdb, 14) & 1) === 0 && readUint64(cdb, 2) !== 0) throw invalidCdbField(2);
  const data = Buffer.alloc(32);
  writeUint64(unit.blockCount - 1, data, 0);
  data.writeUInt32BE(unit.blockBytes, 8);
  data[13] = Math.max(0, Math.round(Math.log2(unit.info.physicalBlockBytes / unit.blockBytes)));
  if (unit.info.canUnmap) data[14] = 0x80 | (unit.info.unmapReadsZeroes ? 0x40 : 0); // LBPME, LBPRZ
  return command.cut(data, cdb.readUInt32BE(10));
}

/** START STOP UNIT, SBC-4 §5.24. The medium cannot be ejected, so LOEJ asks for what the unit cannot do. */
function executeStartStop(command: ScsiCommand): undefined {
  const { cdb, unit } = command;
  const flags = byteAt(cdb, 4);
  if (unit.medium.kind === "sanitizing") {
    throw new CheckCondition(Condition.sanitizeInProgress, { keySpecific: progress(unit.medium.progress) });
  }
  const powerCondition = flags >>> 4;
  if (powerCondition !== 0) {
    const isKnown = powerCondition <= 3 || powerCondition === 7 || powerCondition === 0xa || powerCondition === 0xb;
    if (!isKnown) throw invalidCdbField(4, 7);
    return undefined;
  }
  if ((flags & 0x02) !== 0) throw invalidCdbField(4, 1);
  unit.medium = (flags & 1) === 1 ? { kind: "ready" } : { kind: "stopped" };
  return undefined;
}

function executePreventAllow(command: ScsiCommand): undefined {
  const { unit, nexus, cdb } = command;
  if ((byteAt(cdb, 4) & 1) === 1) unit.removalPreventers.add(nexus.id);
  else unit.removalPreventers.delete(nexus.id);
  return undefined;
}

/** READ DEFECT DATA, SBC-4 §5.15: no defects, in the format asked for. */
function executeReadDefectData10(command: ScsiCommand): Buffer {
  const list = Buffer.from([0, byteAt(command.cdb, 2) & 0x1f, 0, 0]);
  return command.cut(list, command.cdb.readUInt16BE(7));
}

function executeReadDefectData12(command: ScsiCommand): Buffer {
  const list = Buffer.from([0, byteAt(command.cdb, 1) & 0x1f, 0, 0, 0, 0, 0, 0]);
  return command.cut(list, command.cdb.readUInt32BE(6));
}

/** REPORT IDENTIFYING INFORMATION, SPC-5 §6.32: none was ever set. */
function executeReportIdentifyingInformation(command: ScsiCommand): Buffer {
  const type = byteAt(command.cdb, 10) >>> 1;
  if (type !== 0 && type !== 2 && type !== 0x7f) throw invalidCdbField(10, 7);
  if (type === 0x7f) {
    return command.cut(Buffer.from([0, 0, 0, 8, 0, 0, 0, 0, 4, 0, 0, 0]), command.cdb.readUInt32BE(6));
  }
  return command.cut(Buffer.alloc(4), command.cdb.readUInt32BE(6));
}

/** SEND DIAGNOSTIC, SPC-5 §6.42: the default self-test only, which a unit that answers has passed. */
function executeSendDiagnostic(command: ScsiCommand): undefined {
  if (byteAt(command.cdb, 1) >>> 5 !== 0) throw invalidCdbField(1, 7);
  if (command.cdb.readUInt16BE(3) !== 0) throw invalidCdbField(3);
  if (command.unit.medium.kind === "sanitize-failed") throw new CheckCondition(Condition.sanitizeFailed);
  return undefined;
}

const status = { reservation: "status", changesMedium: false, needsMedium: false } as const;
const reading = { reservation: "read", changesMedium: false, needsMedium: false } as const;

/** SPC-5 and SBC-4: commands that report or control the unit as a whole. */
export const PRIMARY_COMMANDS: readonly CommandSpec[] = [
  {
    name: "TEST UNIT READY",
    opcode: 0x00,
    usage: "000000000000",
    ...status,
    needsMedium: true,
    execute: executeTestUnitReady,
  },
  {
    name: "REQUEST SENSE",
    opcode: 0x03,
    usage: "03010000ff00",
    ...status,
    reservation: "always",
    execute: executeRequestSense,
  },
  { name: "START STOP UNIT", opcode: 0x1b, usage: "1b010000f700", ...status, execute: executeStartStop },
  {
    name: "PREVENT ALLOW MEDIUM REMOVAL",
    opcode: 0x1e,
    usage: "1e0000000300",
    ...status,
    execute: executePreventAllow,
  },
  { name: "SEND DIAGNOSTIC", opcode: 0x1d, usage: "1df700ffff00", ...reading, execute: executeSendDiagnostic },
  {
    name: "READ CAPACITY(10)",
    opcode: 0x25,
    usage: "25000000000000000000",
    ...status,
    needsMedium: true,
    execute: executeReadCapacity10,
  },
  {
    name: "READ CAPACITY(16)",
    opcode: 0x9e,
    serviceAction: 0x10,
    usage: "9e1f0000000000000000ffffffff0000",
    ...status,
    needsMedium: true,
    execute: executeReadCapacity16,
  },
  {
    name: "REPORT IDENTIFYING INFORMATION",
    opcode: 0xa3,
    serviceAction: 0x05,
    usage: "a31f00000000fffffffffe00",
    ...status,
    execute: executeReportIdentifyingInformation,
  },
  {
    name: "READ DEFECT DATA(10)",
    opcode: 0x37,
    usage: "37001f00000000ffff00",
    ...reading,
    execute: executeReadDefectData10,
  },
  {
    name: "READ DEFECT DATA(12)",
    opcode: 0xb7,
    usage: "b71f00000000ffffffff0000",
    ...reading,
    execute: executeReadDefectData12,
  },
];
