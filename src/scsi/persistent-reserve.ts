import { byteAt, hasBit, requireBytes, u16At } from "./bytes.js";
import { ScsiError } from "./errors.js";

/** A reservation key: eight bytes as 16 lower-case hexadecimal digits, compared as text. */
export type ReservationKey = string;

/** No key: registers nothing, unregisters what is registered. */
export const NO_RESERVATION_KEY: ReservationKey = "0000000000000000";

/** Eight bytes for `key`; fails unless it is 16 hexadecimal digits. */
export function reservationKeyBytes(key: ReservationKey): Buffer {
  if (!/^[0-9a-f]{16}$/.test(key)) {
    throw new ScsiError(
      "SCSI_ARGUMENT_INVALID",
      `"${key}" is not a reservation key of 16 lower-case hexadecimal digits`,
    );
  }
  return Buffer.from(key, "hex");
}

function readKey(bytes: Buffer, offset: number): ReservationKey {
  return bytes.toString("hex", offset, offset + 8);
}

/** READ KEYS data, SPC-5 §6.16.2. */
export interface ReservationKeys {
  /** PRGENERATION: grows with every change of registrations. */
  readonly generation: number;
  readonly keys: readonly ReservationKey[];
}

/** READ KEYS data; SCSI_DATA_TRUNCATED carries the allocation length to ask with. */
export function decodeReservationKeys(bytes: Buffer): ReservationKeys {
  const end = listEnd(bytes, "READ KEYS data");
  const keys: ReservationKey[] = [];
  for (let at = 8; at + 8 <= end; at += 8) keys.push(readKey(bytes, at));
  return { generation: bytes.readUInt32BE(0), keys };
}

export function encodeReservationKeys(data: ReservationKeys): Buffer {
  return withListHeader(data.generation, data.keys.map(reservationKeyBytes));
}

/** READ RESERVATION data, SPC-5 §6.16.3. */
export interface ReservationState {
  readonly generation: number;
  /** Absent when nobody holds a reservation. */
  readonly holder?: { readonly key: ReservationKey; readonly scope: number; readonly type: number };
}

export function decodeReservation(bytes: Buffer): ReservationState {
  const end = listEnd(bytes, "READ RESERVATION data");
  const generation = bytes.readUInt32BE(0);
  if (end < 24) return { generation };
  const scopeAndType = byteAt(bytes, 21);
  return { generation, holder: { key: readKey(bytes, 8), scope: scopeAndType >>> 4, type: scopeAndType & 0x0f } };
}

export function encodeReservation(data: ReservationState): Buffer {
  if (data.holder === undefined) return withListHeader(data.generation, []);
  const descriptor = Buffer.alloc(16);
  reservationKeyBytes(data.holder.key).copy(descriptor, 0);
  descriptor[13] = (data.holder.scope << 4) | (data.holder.type & 0x0f);
  return withListHeader(data.generation, [descriptor]);
}

/** REPORT CAPABILITIES data, SPC-5 §6.16.4. */
export interface ReservationCapabilities {
  /** PTPL_C and PTPL_A: reservations can and do survive a power loss. */
  readonly canPersistThroughPowerLoss: boolean;
  readonly isPersistingThroughPowerLoss: boolean;
  /** ATP_C: registration on all target ports. */
  readonly canRegisterAllTargetPorts: boolean;
  /** SIP_C: SPEC_I_PT is supported. */
  readonly canSpecifyInitiatorPorts: boolean;
  /** CRH: RESERVE and RELEASE are compatible with registered initiators. */
  readonly isCompatibleReservationHandling: boolean;
  /** Reservation types the device has; empty when it does not tell. */
  readonly types: readonly number[];
}

/** PERSISTENT RESERVATION TYPE MASK, two bytes read big-endian. */
const typeMask: readonly (readonly [number, number])[] = [
  [0x8000, 7],
  [0x4000, 6],
  [0x2000, 5],
  [0x0800, 3],
  [0x0200, 1],
  [0x0001, 8],
];

export function decodeReservationCapabilities(bytes: Buffer): ReservationCapabilities {
  requireBytes(bytes, 8, "REPORT CAPABILITIES data");
  const isMaskValid = hasBit(bytes, 3, 0x80);
  const mask = u16At(bytes, 4);
  return {
    canPersistThroughPowerLoss: hasBit(bytes, 2, 0x01),
    canRegisterAllTargetPorts: hasBit(bytes, 2, 0x04),
    canSpecifyInitiatorPorts: hasBit(bytes, 2, 0x08),
    isCompatibleReservationHandling: hasBit(bytes, 2, 0x10),
    isPersistingThroughPowerLoss: hasBit(bytes, 3, 0x01),
    types: isMaskValid ? typeMask.filter(([bit]) => (mask & bit) !== 0).map(([, type]) => type) : [],
  };
}

export function encodeReservationCapabilities(data: ReservationCapabilities): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt16BE(8, 0);
  bytes[2] =
    (data.canPersistThroughPowerLoss ? 0x01 : 0) |
    (data.canRegisterAllTargetPorts ? 0x04 : 0) |
    (data.canSpecifyInitiatorPorts ? 0x08 : 0) |
    (data.isCompatibleReservationHandling ? 0x10 : 0);
  bytes[3] = 0x80 | (data.isPersistingThroughPowerLoss ? 0x01 : 0);
  bytes.writeUInt16BE(
    typeMask.filter(([, type]) => data.types.includes(type)).reduce((mask, [bit]) => mask | bit, 0),
    4,
  );
  return bytes;
}

/** One registration in READ FULL STATUS data, SPC-5 §6.16.5. */
export interface RegistrationStatus {
  readonly key: ReservationKey;
  readonly isHolder: boolean;
  readonly isAllTargetPorts: boolean;
  /** Meaningful only for a holder. */
  readonly scope: number;
  readonly type: number;
  readonly relativeTargetPort: number;
  /** The initiator port: `iqn…,i,0x<ISID>` or `iqn…` for iSCSI, else hexadecimal digits. */
  readonly initiatorPort: string;
}

export interface ReservationFullStatus {
  readonly generation: number;
  readonly registrations: readonly RegistrationStatus[];
}

const FULL_STATUS_HEADER_BYTES = 24;

export function decodeReservationFullStatus(bytes: Buffer): ReservationFullStatus {
  const end = listEnd(bytes, "READ FULL STATUS data");
  const registrations: RegistrationStatus[] = [];
  let at = 8;
  while (at < end) {
    requireBytes(bytes.subarray(0, end), at + FULL_STATUS_HEADER_BYTES, "full status descriptor");
    const next = at + FULL_STATUS_HEADER_BYTES + bytes.readUInt32BE(at + 20);
    requireBytes(bytes.subarray(0, end), next, "full status descriptor");
    registrations.push({
      key: readKey(bytes, at),
      isHolder: hasBit(bytes, at + 12, 0x01),
      isAllTargetPorts: hasBit(bytes, at + 12, 0x02),
      scope: byteAt(bytes, at + 13) >>> 4,
      type: byteAt(bytes, at + 13) & 0x0f,
      relativeTargetPort: bytes.readUInt16BE(at + 18),
      initiatorPort: decodeTransportId(bytes.subarray(at + FULL_STATUS_HEADER_BYTES, next)),
    });
    at = next;
  }
  return { generation: bytes.readUInt32BE(0), registrations };
}

export function encodeReservationFullStatus(data: ReservationFullStatus): Buffer {
  const descriptors = data.registrations.map((registration) => {
    const transportId = encodeTransportId(registration.initiatorPort);
    const bytes = Buffer.alloc(FULL_STATUS_HEADER_BYTES);
    reservationKeyBytes(registration.key).copy(bytes, 0);
    bytes[12] = (registration.isHolder ? 0x01 : 0) | (registration.isAllTargetPorts ? 0x02 : 0);
    bytes[13] = (registration.scope << 4) | (registration.type & 0x0f);
    bytes.writeUInt16BE(registration.relativeTargetPort, 18);
    bytes.writeUInt32BE(transportId.length, 20);
    return Buffer.concat([bytes, transportId]);
  });
  return withListHeader(data.generation, descriptors);
}

const ISCSI_PROTOCOL = 0x05;

/**
 * The iSCSI initiator port in a TransportID (SPC-5 §7.6.4.6), or the hexadecimal digits of another protocol's. A bare
 * name without the header is taken too: istgt 0.4 answers so.
 */
export function decodeTransportId(bytes: Buffer): string {
  requireBytes(bytes, 4, "TransportID");
  if (/^(?:iqn|eui|naa)\.$/.test(bytes.toString("latin1", 0, 4))) return textOf(bytes);
  if ((byteAt(bytes, 0) & 0x0f) !== ISCSI_PROTOCOL) return bytes.toString("hex");
  const end = 4 + bytes.readUInt16BE(2);
  requireBytes(bytes, end, "TransportID");
  return textOf(bytes.subarray(4, end));
}

/** The text up to the first NUL. */
function textOf(bytes: Buffer): string {
  return bytes.toString("utf8").split("\0", 1)[0] ?? "";
}

/** A TransportID for `iqn…` (the initiator device) or `iqn…,i,0x<ISID>` (one port), padded to a multiple of four. */
export function encodeTransportId(initiatorPort: string): Buffer {
  const name = Buffer.from(`${initiatorPort}\0`, "utf8");
  // SPC-5 asks for at least 20 bytes after the header.
  const paddedBytes = Math.max(20, Math.ceil(name.length / 4) * 4);
  const bytes = Buffer.alloc(4 + paddedBytes);
  bytes[0] = (initiatorPort.includes(",i,0x") ? 0x40 : 0) | ISCSI_PROTOCOL;
  bytes.writeUInt16BE(paddedBytes, 2);
  name.copy(bytes, 4);
  return bytes;
}

/** Parameter list of PERSISTENT RESERVE OUT for every action but REGISTER AND MOVE, SPC-5 §6.17.3. */
export interface PersistentReserveOutList {
  /** RESERVATION KEY: the one registered by this initiator now. */
  readonly key: ReservationKey;
  /** SERVICE ACTION RESERVATION KEY: the new one, or the one to preempt. */
  readonly serviceActionKey: ReservationKey;
  readonly isPersistentThroughPowerLoss: boolean;
  readonly isAllTargetPorts: boolean;
  /** SPEC_I_PT is set: TransportIDs follow, here as initiator ports. */
  readonly initiatorPorts?: readonly string[];
}

export const PERSISTENT_RESERVE_OUT_LIST_BYTES = 24;

export function encodePersistentReserveOutList(list: PersistentReserveOutList): Buffer {
  const bytes = Buffer.alloc(PERSISTENT_RESERVE_OUT_LIST_BYTES);
  reservationKeyBytes(list.key).copy(bytes, 0);
  reservationKeyBytes(list.serviceActionKey).copy(bytes, 8);
  bytes[20] =
    (list.initiatorPorts === undefined ? 0 : 0x08) |
    (list.isAllTargetPorts ? 0x04 : 0) |
    (list.isPersistentThroughPowerLoss ? 0x01 : 0);
  if (list.initiatorPorts === undefined) return bytes;
  const transportIds = Buffer.concat(list.initiatorPorts.map(encodeTransportId));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(transportIds.length, 0);
  return Buffer.concat([bytes, length, transportIds]);
}

export function decodePersistentReserveOutList(bytes: Buffer): PersistentReserveOutList {
  requireBytes(bytes, PERSISTENT_RESERVE_OUT_LIST_BYTES, "PERSISTENT RESERVE OUT parameter list");
  return {
    key: readKey(bytes, 0),
    serviceActionKey: readKey(bytes, 8),
    isPersistentThroughPowerLoss: hasBit(bytes, 20, 0x01),
    isAllTargetPorts: hasBit(bytes, 20, 0x04),
    ...(hasBit(bytes, 20, 0x08) ? { initiatorPorts: decodeTransportIds(bytes) } : {}),
  };
}

/** Parameter list of REGISTER AND MOVE, SPC-5 §6.17.4. */
export interface RegisterAndMoveList {
  readonly key: ReservationKey;
  readonly serviceActionKey: ReservationKey;
  readonly isPersistentThroughPowerLoss: boolean;
  /** UNREG: the mover's own registration ends. */
  readonly unregisters: boolean;
  readonly relativeTargetPort: number;
  readonly initiatorPort: string;
}

export function encodeRegisterAndMoveList(list: RegisterAndMoveList): Buffer {
  const transportId = encodeTransportId(list.initiatorPort);
  const bytes = Buffer.alloc(24);
  reservationKeyBytes(list.key).copy(bytes, 0);
  reservationKeyBytes(list.serviceActionKey).copy(bytes, 8);
  bytes[17] = (list.unregisters ? 0x02 : 0) | (list.isPersistentThroughPowerLoss ? 0x01 : 0);
  bytes.writeUInt16BE(list.relativeTargetPort, 18);
  bytes.writeUInt32BE(transportId.length, 20);
  return Buffer.concat([bytes, transportId]);
}

export function decodeRegisterAndMoveList(bytes: Buffer): RegisterAndMoveList {
  requireBytes(bytes, 24, "REGISTER AND MOVE parameter list");
  const end = 24 + bytes.readUInt32BE(20);
  requireBytes(bytes, end, "REGISTER AND MOVE parameter list");
  return {
    key: readKey(bytes, 0),
    serviceActionKey: readKey(bytes, 8),
    unregisters: hasBit(bytes, 17, 0x02),
    isPersistentThroughPowerLoss: hasBit(bytes, 17, 0x01),
    relativeTargetPort: bytes.readUInt16BE(18),
    initiatorPort: decodeTransportId(bytes.subarray(24, end)),
  };
}

function decodeTransportIds(bytes: Buffer): string[] {
  requireBytes(bytes, 28, "TransportID list");
  const end = 28 + bytes.readUInt32BE(24);
  requireBytes(bytes, end, "TransportID list");
  const ports: string[] = [];
  let at = 28;
  while (at < end) {
    requireBytes(bytes.subarray(0, end), at + 4, "TransportID");
    // Other protocols' TransportIDs have a fixed 24 bytes.
    const isIscsi = (byteAt(bytes, at) & 0x0f) === ISCSI_PROTOCOL;
    const next = at + (isIscsi ? 4 + bytes.readUInt16BE(at + 2) : 24);
    requireBytes(bytes.subarray(0, end), next, "TransportID");
    ports.push(decodeTransportId(bytes.subarray(at, next)));
    at = next;
  }
  return ports;
}

/** The end of a PERSISTENT RESERVE IN list: header of eight bytes plus ADDITIONAL LENGTH. */
function listEnd(bytes: Buffer, what: string): number {
  requireBytes(bytes, 8, what);
  const end = 8 + bytes.readUInt32BE(4);
  requireBytes(bytes, end, what);
  return end;
}

function withListHeader(generation: number, parts: readonly Buffer[]): Buffer {
  const bytes = Buffer.concat([Buffer.alloc(8), ...parts]);
  bytes.writeUInt32BE(generation >>> 0, 0);
  bytes.writeUInt32BE(bytes.length - 8, 4);
  return bytes;
}
