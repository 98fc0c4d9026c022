import { byteAt, hasBit, requireBytes } from "./bytes.js";

/** Asymmetric access states of a target port group, SPC-5 §5.18.2. */
export type AluaState =
  | "active-optimized"
  | "active-non-optimized"
  | "standby"
  | "unavailable"
  | "lba-dependent"
  | "offline"
  | "transitioning"
  | "unknown";

const stateNumbers: readonly (readonly [AluaState, number])[] = [
  ["active-optimized", 0x0],
  ["active-non-optimized", 0x1],
  ["standby", 0x2],
  ["unavailable", 0x3],
  ["lba-dependent", 0x4],
  ["offline", 0xe],
  ["transitioning", 0xf],
];
const states: ReadonlyMap<number, AluaState> = new Map(stateNumbers.map(([state, number]) => [number, state]));
const numbers: ReadonlyMap<AluaState, number> = new Map(stateNumbers);

/** Can I/O be sent to a group in this state? */
export function isAluaUsable(state: AluaState): boolean {
  return state === "active-optimized" || state === "active-non-optimized" || state === "lba-dependent";
}

export interface TargetPortGroup {
  readonly group: number;
  readonly state: AluaState;
  /** PREF: the array would like I/O here. */
  readonly isPreferred: boolean;
  /** Which states this group can take. */
  readonly supportedStates: readonly AluaState[];
  /** 0 none, 1 changed by SET TARGET PORT GROUPS, 2 changed by the array itself. */
  readonly statusCode: number;
  /** Relative target port identifiers of the ports in the group. */
  readonly ports: readonly number[];
}

export interface TargetPortGroups {
  readonly groups: readonly TargetPortGroup[];
  /** Longest time an implicit transition takes, in seconds; 0 when not told. */
  readonly implicitTransitionSeconds: number;
}

/** Bits of byte 1 of a descriptor, SPC-5 §6.36. */
const supportBits: readonly (readonly [number, AluaState])[] = [
  [0x01, "active-optimized"],
  [0x02, "active-non-optimized"],
  [0x04, "standby"],
  [0x08, "unavailable"],
  [0x10, "lba-dependent"],
  [0x40, "offline"],
  [0x80, "transitioning"],
];

const PORT_BYTES = 4;
const GROUP_HEADER_BYTES = 8;

/**
 * REPORT TARGET PORT GROUPS data with the short or the extended header: the format bits of byte 4 tell which.
 * SCSI_DATA_TRUNCATED carries in `details.requiredBytes` the allocation length to ask with.
 */
export function decodeTargetPortGroups(bytes: Buffer): TargetPortGroups {
  requireBytes(bytes, 4, "REPORT TARGET PORT GROUPS data");
  const end = 4 + bytes.readUInt32BE(0);
  requireBytes(bytes, end, "REPORT TARGET PORT GROUPS data");
  const isExtended = end >= 8 && (byteAt(bytes, 4) & 0x70) === 0x10;
  const groups: TargetPortGroup[] = [];
  let at = isExtended ? 8 : 4;
  while (at < end) {
    requireBytes(bytes.subarray(0, end), at + GROUP_HEADER_BYTES, "target port group descriptor");
    const portCount = byteAt(bytes, at + 7);
    const next = at + GROUP_HEADER_BYTES + portCount * PORT_BYTES;
    requireBytes(bytes.subarray(0, end), next, "target port group descriptor");
    groups.push(decodeGroup(bytes.subarray(at, next), portCount));
    at = next;
  }
  return { groups, implicitTransitionSeconds: isExtended ? byteAt(bytes, 5) : 0 };
}

function decodeGroup(bytes: Buffer, portCount: number): TargetPortGroup {
  return {
    state: states.get(byteAt(bytes, 0) & 0x0f) ?? "unknown",
    isPreferred: hasBit(bytes, 0, 0x80),
    supportedStates: supportBits.filter(([bit]) => hasBit(bytes, 1, bit)).map(([, state]) => state),
    group: bytes.readUInt16BE(2),
    statusCode: byteAt(bytes, 5),
    ports: Array.from({ length: portCount }, (_, index) =>
      bytes.readUInt16BE(GROUP_HEADER_BYTES + index * PORT_BYTES + 2),
    ),
  };
}

/** REPORT TARGET PORT GROUPS data; the caller cuts it to the allocation length. */
export function encodeTargetPortGroups(data: TargetPortGroups, useExtendedHeader = false): Buffer {
  const header = Buffer.alloc(useExtendedHeader ? 8 : 4);
  if (useExtendedHeader) {
    header[4] = 0x10;
    header[5] = data.implicitTransitionSeconds & 0xff;
  }
  const bytes = Buffer.concat([header, ...data.groups.map(encodeGroup)]);
  bytes.writeUInt32BE(bytes.length - 4, 0);
  return bytes;
}

function encodeGroup(group: TargetPortGroup): Buffer {
  const bytes = Buffer.alloc(GROUP_HEADER_BYTES + group.ports.length * PORT_BYTES);
  bytes[0] = (group.isPreferred ? 0x80 : 0) | (numbers.get(group.state) ?? 0x3);
  bytes[1] = supportBits
    .filter(([, state]) => group.supportedStates.includes(state))
    .reduce((bits, [bit]) => bits | bit, 0);
  bytes.writeUInt16BE(group.group, 2);
  bytes[5] = group.statusCode;
  bytes[7] = group.ports.length;
  group.ports.forEach((port, index) => bytes.writeUInt16BE(port, GROUP_HEADER_BYTES + index * PORT_BYTES + 2));
  return bytes;
}

/** One change asked with SET TARGET PORT GROUPS. */
export interface TargetPortGroupChange {
  readonly group: number;
  readonly state: AluaState;
}

/** Parameter list of SET TARGET PORT GROUPS, SPC-5 §6.45. */
export function encodeSetTargetPortGroups(changes: readonly TargetPortGroupChange[]): Buffer {
  const bytes = Buffer.alloc(4 + changes.length * 4);
  changes.forEach(({ group, state }, index) => {
    bytes[4 + index * 4] = numbers.get(state) ?? 0x3;
    bytes.writeUInt16BE(group, 4 + index * 4 + 2);
  });
  return bytes;
}

/** The changes in a SET TARGET PORT GROUPS parameter list; a list that ends inside a descriptor fails. */
export function decodeSetTargetPortGroups(bytes: Buffer): TargetPortGroupChange[] {
  const changes: TargetPortGroupChange[] = [];
  for (let at = 4; at < bytes.length; at += 4) {
    requireBytes(bytes, at + 4, "set target port group descriptor");
    changes.push({ state: states.get(byteAt(bytes, at) & 0x0f) ?? "unknown", group: bytes.readUInt16BE(at + 2) });
  }
  return changes;
}
