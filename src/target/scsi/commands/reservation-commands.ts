import { byteAt } from "../cdb-fields.js";
import {
  CheckCondition,
  CommandStatus,
  Condition,
  invalidCdbField,
  invalidParameterField,
  Status,
} from "../check-condition.js";
import type { CommandSpec, ScsiCommand } from "../command.js";
import { initiatorPortName, nexusIdOf, type Nexus } from "../nexus.js";
import { type Registration, type ReservationEffect, type ReservationRequest } from "../persistent-reservations.js";

const PersistentReserveIn = { readKeys: 0, readReservation: 1, reportCapabilities: 2, readFullStatus: 3 } as const;
const PersistentReserveOut = {
  register: 0,
  reserve: 1,
  release: 2,
  clear: 3,
  preempt: 4,
  preemptAndAbort: 5,
  registerAndIgnore: 6,
  registerAndMove: 7,
} as const;

/** Parameter data of all but REGISTER AND MOVE, SPC-5 §6.17.3. */
const BASIC_LIST_BYTES = 24;

/** REGISTER AND MOVE carries one TransportID: an iSCSI name of 223 bytes with its ISID fits. */
const MAX_MOVE_LIST_BYTES = 24 + 4 + 264;

/** All six types, SPC-5 §6.16.4: WE_AR, EA_RO, WE_RO, EA, WE in the first byte, EA_AR in the second. */
const TYPE_MASK = [0xea, 0x01];

function readKeys(command: ScsiCommand): Buffer {
  const { reservations } = command.unit;
  const keys = reservations.registrations.map(({ key }) => Buffer.from(key, "hex"));
  return withHeader(reservations.generation, Buffer.concat(keys));
}

function readReservation(command: ScsiCommand): Buffer {
  const { reservations } = command.unit;
  const held = reservations.reservation;
  if (held === undefined) return withHeader(reservations.generation, Buffer.alloc(0));
  const body = Buffer.alloc(16);
  body.write(held.key, 0, "hex");
  body[13] = held.type;
  return withHeader(reservations.generation, body);
}

function reportCapabilities(command: ScsiCommand): Buffer {
  const { reservations } = command.unit;
  const data = Buffer.alloc(8);
  data.writeUInt16BE(8, 0);
  data[2] = reservations.canSurvivePowerLoss ? 0x01 : 0; // PTPL_C
  data[3] = 0x80 | (reservations.survivesPowerLoss ? 0x01 : 0); // TMV; PTPL_A
  data[4] = TYPE_MASK[0] ?? 0;
  data[5] = TYPE_MASK[1] ?? 0;
  return data;
}

/** An iSCSI initiator port's TransportID, SPC-5 §7.6.4.6, format 01b: name, ",i,0x", ISID, padded with NULs. */
function transportId(nexus: Nexus): Buffer {
  const name = Buffer.from(`${nexus.portName}\0`, "utf8");
  const padded = Buffer.alloc(Math.ceil(Math.max(20, name.length) / 4) * 4);
  name.copy(padded);
  return Buffer.concat([Buffer.from([0x45, 0, padded.length >>> 8, padded.length & 0xff]), padded]);
}

function fullStatusDescriptor(command: ScsiCommand, registration: Registration): Buffer {
  const { reservations } = command.unit;
  const held = reservations.reservation;
  const isHolder = reservations.isHolder(registration.nexus.id);
  const id = transportId(registration.nexus);
  const descriptor = Buffer.alloc(24);
  descriptor.write(registration.key, 0, "hex");
  descriptor[12] = isHolder ? 1 : 0;
  descriptor[13] = isHolder ? (held?.type ?? 0) : 0;
  descriptor.writeUInt16BE(registration.nexus.relativePortId, 18);
  descriptor.writeUInt32BE(id.length, 20);
  return Buffer.concat([descriptor, id]);
}

function readFullStatus(command: ScsiCommand): Buffer {
  const { reservations } = command.unit;
  const descriptors = reservations.registrations.map((registration) => fullStatusDescriptor(command, registration));
  return withHeader(reservations.generation, Buffer.concat(descriptors));
}

function withHeader(generation: number, body: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt32BE(generation, 0);
  header.writeUInt32BE(body.length, 4);
  return Buffer.concat([header, body]);
}

const readers: Readonly<Record<number, (command: ScsiCommand) => Buffer>> = {
  [PersistentReserveIn.readKeys]: readKeys,
  [PersistentReserveIn.readReservation]: readReservation,
  [PersistentReserveIn.reportCapabilities]: reportCapabilities,
  [PersistentReserveIn.readFullStatus]: readFullStatus,
};

function executeReserveIn(command: ScsiCommand): Buffer {
  requireNoLegacyReservation(command);
  const read = readers[byteAt(command.cdb, 1) & 0x1f];
  if (read === undefined) throw invalidCdbField(1, 4);
  return command.cut(read(command), command.cdb.readUInt16BE(7));
}

/** RESERVE(6) of another port excludes every reservation command, and our own excludes persistent ones too. */
function requireNoLegacyReservation(command: ScsiCommand): void {
  if (command.unit.legacyHolder !== undefined) throw new CommandStatus(Status.reservationConflict);
}

function reserveOutBytes(command: ScsiCommand): number {
  const { cdb } = command;
  const action = byteAt(cdb, 1) & 0x1f;
  if (action > PersistentReserveOut.registerAndMove) throw invalidCdbField(1, 4);
  const usesScope = action !== PersistentReserveOut.register && action !== PersistentReserveOut.registerAndIgnore;
  if (usesScope && action !== PersistentReserveOut.clear && byteAt(cdb, 2) >>> 4 !== 0) throw invalidCdbField(2, 7);
  const length = cdb.readUInt32BE(5);
  const isMove = action === PersistentReserveOut.registerAndMove;
  if (isMove ? length < BASIC_LIST_BYTES || length > MAX_MOVE_LIST_BYTES : length !== BASIC_LIST_BYTES) {
    throw new CheckCondition(Condition.parameterListLengthError);
  }
  return length;
}

async function executeReserveOut(command: ScsiCommand): Promise<undefined> {
  requireNoLegacyReservation(command);
  const { cdb, dataOut, unit, nexus } = command;
  const action = byteAt(cdb, 1) & 0x1f;
  if (dataOut.length < cdb.readUInt32BE(5)) throw new CheckCondition(Condition.parameterListLengthError);
  const request: ReservationRequest = {
    nexus,
    key: dataOut.toString("hex", 0, 8),
    serviceActionKey: dataOut.toString("hex", 8, 16),
    type: byteAt(cdb, 2) & 0x0f,
  };
  if (action === PersistentReserveOut.registerAndMove) {
    move(command, request);
    await unit.reservations.persist((byteAt(dataOut, 17) & 0x01) !== 0);
    return;
  }
  const flags = byteAt(dataOut, 20);
  const isRegister = action === PersistentReserveOut.register || action === PersistentReserveOut.registerAndIgnore;
  // SPEC_I_PT and ALL_TG_PT name nexuses that have not met us, which REPORT CAPABILITIES says we do not register.
  if (isRegister && (flags & 0x08) !== 0) throw invalidParameterField(20, 3);
  if (isRegister && (flags & 0x04) !== 0 && unit.accessStates.portCount > 1) throw invalidParameterField(20, 2);
  if (isRegister && (flags & 0x01) !== 0 && !unit.reservations.canSurvivePowerLoss) throw invalidParameterField(20, 0);
  const survives = isRegister ? (flags & 0x01) !== 0 : unit.reservations.survivesPowerLoss;
  await announce(command, perform(command, action, request), action);
  await unit.reservations.persist(survives);
}

function perform(command: ScsiCommand, action: number, request: ReservationRequest): ReservationEffect | undefined {
  const { reservations } = command.unit;
  switch (action) {
    case PersistentReserveOut.register:
      return reservations.register(request, { mustMatch: true });
    case PersistentReserveOut.registerAndIgnore:
      return reservations.register(request, { mustMatch: false });
    case PersistentReserveOut.reserve:
      reservations.reserve(request);
      return undefined;
    case PersistentReserveOut.release:
      return reservations.release(request);
    case PersistentReserveOut.clear:
      return reservations.clear(request);
    default:
      return reservations.preempt(request);
  }
}

/**
 * Unit attentions of SPC-5 §5.13.11, and the end of the preempted nexuses' tasks: the status of PREEMPT AND ABORT says
 * that none of them changes the medium any more.
 */
async function announce(command: ScsiCommand, effect: ReservationEffect | undefined, action: number): Promise<void> {
  if (effect === undefined) return;
  const { attentions } = command.unit;
  for (const id of effect.released) attentions.add(id, Condition.reservationsReleased);
  for (const id of effect.reservationsPreempted) attentions.add(id, Condition.reservationsPreempted);
  for (const id of effect.registrationsPreempted) attentions.add(id, Condition.registrationsPreempted);
  if (action === PersistentReserveOut.preemptAndAbort) await command.unit.abortTasksOf(effect.registrationsPreempted);
}

function move(command: ScsiCommand, request: ReservationRequest): void {
  const { dataOut, unit } = command;
  const relativePort = dataOut.readUInt16BE(18);
  const idBytes = dataOut.readUInt32BE(20);
  if (24 + idBytes > dataOut.length || idBytes < 24) throw invalidParameterField(20);
  if (!unit.accessStates.hasPort(relativePort)) throw invalidParameterField(18);
  const target = readTransportId(dataOut.subarray(24, 24 + idBytes), relativePort);
  unit.reservations.move(request, target, { unregister: (byteAt(dataOut, 17) & 0x02) !== 0 });
}

function readTransportId(id: Buffer, relativePortId: number): Nexus {
  if (byteAt(id, 0) !== 0x45) throw invalidParameterField(24);
  const text = id.toString("utf8", 4).replace(/\0.*$/s, "");
  const match = /^(.{1,223}),i,0x([0-9a-fA-F]{12})$/.exec(text);
  if (match?.[1] === undefined || match[2] === undefined) throw invalidParameterField(28);
  const isid = Buffer.from(match[2], "hex");
  const initiatorName = match[1].toLowerCase();
  const portName = initiatorPortName(initiatorName, isid);
  return { id: nexusIdOf(portName, relativePortId), portName, initiatorName, isid, relativePortId };
}

/** RESERVE(6) and (10), SPC-2 §7.21: the whole unit, no third parties, no extents. */
function executeReserve(command: ScsiCommand): undefined {
  const { unit, nexus, cdb } = command;
  if ((byteAt(cdb, 1) & 0x11) !== 0) throw invalidCdbField(1);
  if (!unit.reservations.isEmpty) throw new CommandStatus(Status.reservationConflict);
  if (unit.legacyHolder !== undefined && unit.legacyHolder !== nexus.id) {
    throw new CommandStatus(Status.reservationConflict);
  }
  unit.legacyHolder = nexus.id;
  return undefined;
}

/** RELEASE(6) and (10), SPC-2 §7.17: without effect unless the port holds the unit. */
function executeRelease(command: ScsiCommand): undefined {
  const { unit, nexus } = command;
  if (!unit.reservations.isEmpty) throw new CommandStatus(Status.reservationConflict);
  if (unit.legacyHolder === nexus.id) unit.legacyHolder = undefined;
  return undefined;
}

const own = { reservation: "own", changesMedium: false, needsMedium: false } as const;

const reserveInNames: Readonly<Record<number, string>> = {
  [PersistentReserveIn.readKeys]: "READ KEYS",
  [PersistentReserveIn.readReservation]: "READ RESERVATION",
  [PersistentReserveIn.reportCapabilities]: "REPORT CAPABILITIES",
  [PersistentReserveIn.readFullStatus]: "READ FULL STATUS",
};

const reserveOutNames = [
  "REGISTER",
  "RESERVE",
  "RELEASE",
  "CLEAR",
  "PREEMPT",
  "PREEMPT AND ABORT",
  "REGISTER AND IGNORE EXISTING KEY",
  "REGISTER AND MOVE",
];

/** SPC-5 §6.16, §6.17 and SPC-2's RESERVE and RELEASE. */
export const RESERVATION_COMMANDS: readonly CommandSpec[] = [
  ...Object.entries(reserveInNames).map(([action, name]) => ({
    name: `PERSISTENT RESERVE IN, ${name}`,
    opcode: 0x5e,
    serviceAction: Number(action),
    usage: "5e1f0000000000ffff00",
    ...own,
    execute: executeReserveIn,
  })),
  ...reserveOutNames.map((name, action) => ({
    name: `PERSISTENT RESERVE OUT, ${name}`,
    opcode: 0x5f,
    serviceAction: action,
    usage: "5f1fff0000ffffffff00",
    ...own,
    dataOutBytes: reserveOutBytes,
    execute: executeReserveOut,
  })),
  { name: "RESERVE(6)", opcode: 0x16, usage: "161100000000", ...own, execute: executeReserve },
  { name: "RELEASE(6)", opcode: 0x17, usage: "171100000000", ...own, execute: executeRelease },
  { name: "RESERVE(10)", opcode: 0x56, usage: "56110000000000000000", ...own, execute: executeReserve },
  { name: "RELEASE(10)", opcode: 0x57, usage: "57110000000000000000", ...own, execute: executeRelease },
];
