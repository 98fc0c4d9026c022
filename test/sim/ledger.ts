import { NONE, Op, type PduView } from "./pdu-view.js";
import type { Edge, Wire } from "./wire.js";

/**
 * What an observer at the initiator's end knows: sessions, connections, tasks and their numbers, by arithmetic of its
 * own. Rules look things up here; nothing here complains.
 */

/** Is `a` at or before `b`, in serial numbers of 32 bits? */
export function isAtOrBefore(a: number, b: number): boolean {
  return ((b - a) | 0) >= 0;
}

export function next(serial: number): number {
  return (serial + 1) >>> 0;
}

export interface Burst {
  readonly offset: number;
  readonly length: number;
  sent: number;
  dataSn: number;
}

export class TaskEntry {
  readonly tag: number;
  readonly opcode: number;
  readonly cmdSn: number;
  readonly isImmediate: boolean;
  /** The header as first sent: a retry must say the same. */
  readonly header: Buffer;
  /** The connection it is allegiant to. */
  wire: Wire;
  isRejected = false;
  isUnsolicitedOpen = false;
  unsolicitedBytes = 0;
  unsolicitedSn = 0;
  readonly bursts = new Map<number, Burst>();
  /** Data of a read up to this DataSN was acknowledged. */
  ackedDataSn = 0;

  constructor(pdu: PduView, wire: Wire) {
    this.tag = pdu.tag;
    this.opcode = pdu.opcode;
    this.cmdSn = pdu.word24;
    this.isImmediate = pdu.isImmediate;
    this.header = Buffer.from(pdu.bytes.subarray(0, 48));
    this.wire = wire;
  }

  get isWrite(): boolean {
    return this.opcode === Op.command && (this.header.readUInt8(1) & 0x20) !== 0;
  }
  get isRead(): boolean {
    return this.opcode === Op.command && (this.header.readUInt8(1) & 0x40) !== 0;
  }
  get expectedLength(): number {
    return this.header.readUInt32BE(20);
  }

  /** The command and its data start again: by a retry, or on another connection. */
  restart(wire: Wire): void {
    this.wire = wire;
    this.bursts.clear();
    this.unsolicitedBytes = 0;
    this.unsolicitedSn = 0;
  }
}

export class WireEntry {
  readonly wire: Wire;
  readonly isid: string;
  readonly cid: number;
  readonly loginTsih: number;
  readonly loginTag: number;
  session: SessionEntry | undefined;
  /** All StatSNs before this one have come. */
  nextStatSn: number | undefined;
  readonly earlyStatSns = new Set<number>();
  lastExpStatSn: number | undefined;
  lastCmdSn: number | undefined;
  logout: { readonly reason: number; readonly cid: number; readonly tag: number } | undefined;
  hasLoggedOut = false;
  closedAtMs: number | undefined;
  /** The target has announced that it drops the connection, and how long we are to wait then (§11.9.1). */
  announcedWaitMs: number | undefined;

  constructor(wire: Wire, login: PduView) {
    this.wire = wire;
    this.isid = login.bytes.toString("hex", 8, 14);
    this.loginTsih = login.bytes.readUInt16BE(14);
    this.loginTag = login.tag;
    this.cid = login.bytes.readUInt16BE(20);
  }

  /** A StatSN has come: duplicates and old ones count once. */
  receiveStatSn(statSn: number): void {
    if (this.nextStatSn === undefined) this.nextStatSn = statSn;
    if (!isAtOrBefore(this.nextStatSn, statSn)) return;
    this.earlyStatSns.add(statSn);
    while (this.earlyStatSns.delete(this.nextStatSn)) this.nextStatSn = next(this.nextStatSn);
  }
}

export class SessionEntry {
  readonly tsih: number;
  readonly errorRecoveryLevel: number;
  readonly time2WaitMs: number;
  readonly tasks = new Map<number, TaskEntry>();
  /** Who has used a CmdSN. */
  readonly used = new Map<number, number>();
  readonly firstCmdSn: number;
  highestCmdSn: number;
  maxCmdSn: number;
  /** All CmdSNs before this one have come, says the target. */
  expCmdSn: number;
  readonly wires: WireEntry[] = [];
  /** Tasks that have had their status, with its StatSN, while that is not acknowledged: their data may be asked for. */
  readonly answered = new Map<number, { readonly task: TaskEntry; readonly statSn: number }>();
  /** Tags of Data-In that asked for an acknowledgement, by target transfer tag. */
  readonly ackTags = new Map<number, TaskEntry>();
  /** Of the leading connection: what was agreed on there holds for all. */
  readonly leading: Edge;
  /** Its first connection that was lost and not logged out. */
  firstLost: WireEntry | undefined;
  /** Connections after a recovery logout or a reinstatement: their tasks may be reassigned. */
  readonly releasedWires = new Set<Wire>();

  constructor(options: {
    readonly tsih: number;
    readonly edge: Edge;
    readonly cmdSn: number;
    readonly maxCmdSn: number;
  }) {
    const { edge } = options;
    this.leading = edge;
    this.tsih = options.tsih;
    this.firstCmdSn = options.cmdSn;
    this.highestCmdSn = (options.cmdSn - 1) >>> 0;
    this.maxCmdSn = options.maxCmdSn;
    this.expCmdSn = options.cmdSn;
    this.errorRecoveryLevel = Number(edge.declared("target", "ErrorRecoveryLevel") ?? 0);
    // RFC 7143 §13.15: the larger one; either side's default is 2.
    const wait = (by: "initiator" | "target"): number => Number(edge.declared(by, "DefaultTime2Wait") ?? 2);
    this.time2WaitMs = 1000 * Math.max(wait("initiator"), wait("target"));
  }

  /** When a connection may come back that was lost. */
  backAtMs(entry: WireEntry): number {
    if (entry.closedAtMs === undefined) return Number.NEGATIVE_INFINITY;
    return entry.closedAtMs + (entry.announcedWaitMs ?? this.time2WaitMs);
  }

  get isMultiConnection(): boolean {
    return this.wires.length > 1;
  }
}

/** Keeps the entries as PDUs pass the initiator's end. */
export class Ledger {
  readonly #wires = new Map<Wire, WireEntry>();
  session: SessionEntry | undefined;

  wire(wire: Wire): WireEntry | undefined {
    return this.#wires.get(wire);
  }

  /** The first login request of a connection opens its entry. */
  open(edge: Edge, login: PduView): WireEntry {
    const entry = new WireEntry(edge.wire, login);
    this.#wires.set(edge.wire, entry);
    return entry;
  }

  /** A login has ended well. Returns the session that began before it, if another one begins. */
  loggedIn(edge: Edge, entry: WireEntry, response: PduView, cmdSn: number): void {
    const tsih = response.bytes.readUInt16BE(14);
    if (entry.loginTsih === 0) {
      this.session = new SessionEntry({ tsih, edge, cmdSn, maxCmdSn: response.maxCmdSn });
    }
    entry.session = this.session;
    if (this.session === undefined) return;
    // The same CID again: reinstatement, and so the implicit logout of the old connection (§6.3.4).
    for (const old of this.session.wires) if (old.cid === entry.cid) this.session.releasedWires.add(old.wire);
    this.session.wires.push(entry);
  }

  closed(edge: Edge, nowMs: number): WireEntry | undefined {
    const entry = this.#wires.get(edge.wire);
    if (entry === undefined || entry.closedAtMs !== undefined) return undefined;
    entry.closedAtMs = nowMs;
    if (entry.session !== undefined && !entry.hasLoggedOut) entry.session.firstLost ??= entry;
    return entry;
  }

  /** Which task a status of the target ends; Data-In ends one only with S. */
  endedBy(pdu: PduView): TaskEntry | undefined {
    const task = this.session?.tasks.get(pdu.tag);
    if (task === undefined || pdu.tag === NONE) return undefined;
    switch (pdu.opcode) {
      case Op.dataIn:
        return (pdu.u8(1) & 1) === 1 ? task : undefined;
      case Op.textResponse:
        return pdu.isFinal ? task : undefined;
      case Op.response:
      case Op.taskManagementResponse:
      case Op.logoutResponse:
      case Op.nopIn:
        return task;
      default:
        return undefined;
    }
  }
}

/** Does this PDU of a target use up a StatSN? (RFC 7143 §11.7.3, §11.8.3, §11.19.2) */
export function countsStatSn(pdu: PduView): boolean {
  if (pdu.opcode === Op.r2t) return false;
  if (pdu.opcode === Op.dataIn) return (pdu.u8(1) & 1) === 1;
  if (pdu.opcode === Op.nopIn) return pdu.tag !== NONE;
  return true;
}
