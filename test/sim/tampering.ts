import type { Clock } from "../../src/base/clock.js";
import type { Fault, FaultKind } from "./fault-plan.js";
import { countsStatSn, isAtOrBefore } from "./ledger.js";
import { buildPdu, NONE, Op, type PduView } from "./pdu-view.js";
import { Renumbering } from "./renumbering.js";
import type { Edge, Wire } from "./wire.js";

interface Armed {
  readonly fault: Fault;
  left: number;
}

/** Where a redirect or a refusal sends a login. */
export interface LoginTrap {
  readonly statusClass: number;
  readonly statusDetail: number;
  /** By the portal the login came to; absent: no address. */
  readonly addressOf?: (portal: string) => string;
}

/** Sits between the two ends: drops, holds back, damages and invents PDUs, each as a fault asks for it. */
export class Tampering {
  readonly renumbering: Renumbering;
  readonly #clock: Clock;
  readonly #onFired: (kind: FaultKind) => void;
  #armed: Armed[] = [];
  #trap: { readonly fault: Fault; readonly trap: LoginTrap; left: number } | undefined;
  #windowLimits: Map<Wire, number> | undefined;
  #withholdUntilMs = 0;

  constructor(
    options: { readonly cmdSnShift: number; readonly onFired: (kind: FaultKind) => void },
    dependencies: { readonly clock: Clock },
  ) {
    this.renumbering = new Renumbering(options.cmdSnShift);
    this.#onFired = options.onFired;
    this.#clock = dependencies.clock;
  }

  /** The next PDUs that suit the fault suffer it. */
  arm(fault: Fault): void {
    this.#armed.push({ fault, left: fault.count });
  }

  /** The next logins are answered so; undefined ends it. */
  setLoginTrap(fault: Fault, trap: LoginTrap | undefined): void {
    this.#trap = trap === undefined ? undefined : { fault, trap, left: fault.count };
  }

  /** From now on the window shows no more than it did when it was closed, until it is opened. */
  closeWindow(wires: readonly Wire[]): void {
    this.#windowLimits = new Map(wires.map((wire) => [wire, this.renumbering.window(wire)?.maxCmdSn ?? 0]));
  }

  openWindow(): void {
    const wires = [...(this.#windowLimits?.keys() ?? [])];
    this.#windowLimits = undefined;
    for (const wire of wires) this.say(wire, {});
  }

  withholdR2ts(untilMs: number): void {
    this.#withholdUntilMs = untilMs;
  }

  /** Ends every fault on PDUs. */
  disarm(): void {
    this.#armed = [];
    this.#trap = undefined;
    this.#withholdUntilMs = 0;
    if (this.#windowLimits !== undefined) this.openWindow();
  }

  /** An unnumbered NOP-In of our own with the numbers of now, or others; with a tag it asks for an answer. */
  say(wire: Wire, other: { readonly tag?: number; readonly expCmdSn?: number; readonly maxCmdSn?: number }): boolean {
    const numbers = this.renumbering.window(wire);
    const edge = wire.target;
    if (edge === undefined || edge.isClosed || !edge.isFullFeature || numbers === undefined) return false;
    const words = {
      16: NONE,
      20: other.tag ?? NONE,
      24: numbers.statSn,
      28: other.expCmdSn ?? numbers.expCmdSn,
      32: other.maxCmdSn ?? numbers.maxCmdSn,
    };
    edge.inject(buildPdu({ opcode: Op.nopIn }, words, edge.digests));
    return true;
  }

  /** An Asynchronous Message of our own (RFC 7143 §11.9). */
  announce(wire: Wire, event: number, parameters: readonly [number, number, number]): boolean {
    const numbers = this.renumbering.window(wire);
    const edge = wire.target;
    if (edge === undefined || edge.isClosed || !edge.isFullFeature || numbers === undefined) return false;
    const [first, second, third] = parameters;
    const words = {
      16: NONE,
      24: this.renumbering.takeStatSn(wire),
      28: numbers.expCmdSn,
      32: numbers.maxCmdSn,
      36: event * 0x100_0000 + first,
      40: second * 0x1_0000 + third,
    };
    edge.inject(buildPdu({ opcode: Op.async }, words, edge.digests));
    return true;
  }

  /** What becomes of a PDU; see Tamper. */
  apply(edge: Edge, pdu: PduView): readonly PduView[] | undefined {
    const trapped = this.#trapLogin(edge, pdu);
    if (trapped !== undefined) return trapped;
    const moved = this.renumbering.translate(edge, pdu);
    const view = moved ?? pdu;
    const result = this.#limitWindow(edge, view);
    const out = result ?? view;
    const suffered = edge.isFullFeature && pdu.opcode !== Op.login && pdu.opcode !== Op.loginResponse;
    const instead = suffered ? this.#suffer(edge, out) : undefined;
    if (instead !== undefined) return instead;
    return out === pdu ? undefined : [out];
  }

  #trapLogin(edge: Edge, pdu: PduView): readonly PduView[] | undefined {
    const trap = this.#trap;
    if (trap === undefined || edge.side !== "target" || pdu.opcode !== Op.loginResponse) return undefined;
    const { statusClass, statusDetail, addressOf } = trap.trap;
    if (pdu.u8(36) !== 0 || (addressOf === undefined && trap.left <= 0)) return undefined;
    if (trap.left <= 0) return undefined;
    trap.left -= 1;
    this.#onFired(trap.fault.kind);
    const address = addressOf?.(edge.wire.portal);
    const data = address === undefined ? Buffer.alloc(0) : Buffer.from(`TargetAddress=${address}\0`);
    const words = {
      8: pdu.u32(8),
      12: pdu.u32(12) & 0xffff_0000,
      16: pdu.tag,
      24: pdu.word24,
      28: pdu.word28,
      32: pdu.maxCmdSn,
    };
    const refusal = buildPdu({ opcode: Op.loginResponse, flags: pdu.u8(1) & 0x0c, data }, words, {
      header: false,
      data: false,
    });
    refusal.bytes.writeUInt8(statusClass, 36);
    refusal.bytes.writeUInt8(statusDetail, 37);
    return [refusal];
  }

  #limitWindow(edge: Edge, pdu: PduView): PduView | undefined {
    if (edge.side !== "target" || this.#windowLimits === undefined || !edge.isFullFeature) return undefined;
    const limit = this.#windowLimits.get(edge.wire);
    if (limit === undefined || isAtOrBefore(pdu.maxCmdSn, limit)) return undefined;
    // Commands may be under way beyond what was closed: the pair must stay plausible.
    const least = (pdu.word28 - 1) >>> 0;
    const view = pdu.copy();
    view.bytes.writeUInt32BE(isAtOrBefore(least, limit) ? limit : least, 32);
    return view.seal();
  }

  #suffer(edge: Edge, pdu: PduView): readonly PduView[] | undefined {
    if (pdu.opcode === Op.r2t && this.#clock.nowMs() < this.#withholdUntilMs) {
      this.#holdR2t(edge, pdu.copy());
      return [];
    }
    for (const armed of this.#armed) {
      if (!suits(armed.fault.kind, edge, pdu)) continue;
      armed.left -= 1;
      if (armed.left <= 0) this.#armed = this.#armed.filter((each) => each !== armed);
      this.#onFired(armed.fault.kind);
      return this.#doTo(edge, pdu, armed.fault);
    }
    return undefined;
  }

  #doTo(edge: Edge, pdu: PduView, fault: Fault): readonly PduView[] {
    if (fault.kind.startsWith("flip-")) return [damage(pdu.copy(), fault)];
    if (fault.kind === "reject-command") this.#reject(edge, pdu);
    return [];
  }

  /** The target never hears of the command; its CmdSN is a gap now. */
  #reject(edge: Edge, pdu: PduView): void {
    const { wire } = edge;
    const target = wire.target;
    const numbers = this.renumbering.window(wire);
    if (target === undefined || numbers === undefined) return;
    const header = Buffer.from(pdu.bytes.subarray(0, 48));
    // What went through the renumbering is the target's number; the initiator knows its own.
    header.writeUInt32BE(this.renumbering.initiatorCmdSn(pdu.word24), 24);
    const words = { 16: NONE, 24: this.renumbering.takeStatSn(wire), 28: numbers.expCmdSn, 32: numbers.maxCmdSn };
    const reject = buildPdu({ opcode: Op.reject, data: header }, words, target.digests);
    reject.bytes.writeUInt8(0x05, 2);
    target.inject(reject.seal());
  }

  #holdR2t(edge: Edge, held: PduView): void {
    this.#onFired("withhold-r2t");
    const delayMs = this.#withholdUntilMs - this.#clock.nowMs();
    this.#clock.setTimer(delayMs, () => {
      const numbers = this.renumbering.window(edge.wire);
      if (numbers === undefined) return;
      held.bytes.writeUInt32BE(numbers.statSn, 24);
      held.bytes.writeUInt32BE(numbers.expCmdSn, 28);
      held.bytes.writeUInt32BE(numbers.maxCmdSn, 32);
      edge.inject(held.seal());
    });
  }
}

function suits(kind: FaultKind, edge: Edge, pdu: PduView): boolean {
  const isTargets = edge.side === "target";
  const { opcode } = pdu;
  switch (kind) {
    case "drop-status":
      return isTargets && (opcode === Op.response || (opcode === Op.dataIn && countsStatSn(pdu)));
    case "drop-data-in":
      return isTargets && opcode === Op.dataIn && !countsStatSn(pdu);
    case "drop-r2t":
      return isTargets && opcode === Op.r2t;
    case "drop-data-out":
      return !isTargets && opcode === Op.dataOut;
    case "drop-command":
      return !isTargets && opcode === Op.command;
    case "drop-answer":
      return isTargets && (opcode === Op.nopIn || opcode === Op.taskManagementResponse || opcode === Op.logoutResponse);
    case "reject-command":
      // With its data in it: what came behind it would have nowhere to go.
      return !isTargets && opcode === Op.command && pdu.isFinal;
    case "flip-header-to-target":
      return !isTargets && pdu.digests.header;
    case "flip-header-to-initiator":
      return isTargets && pdu.digests.header;
    case "flip-data-to-target":
    case "flip-digest-to-target":
      return !isTargets && pdu.digests.data && pdu.dataLength > 0;
    case "flip-data-to-initiator":
    case "flip-digest-to-initiator":
      return isTargets && pdu.digests.data && pdu.dataLength > 0;
    default:
      return false;
  }
}

/** Turns one bit over; no digest is mended. */
function damage(view: PduView, fault: Fault): PduView {
  const [start, length] = damagePlace(view, fault.kind);
  const bit = fault.salt % (length * 8);
  const at = start + (bit >> 3);
  view.bytes.writeUInt8(view.u8(at) ^ (1 << (bit & 7)), at);
  return view;
}

function damagePlace(view: PduView, kind: FaultKind): readonly [start: number, length: number] {
  if (kind.startsWith("flip-header")) return [0, view.headerEnd];
  if (kind.startsWith("flip-digest")) return [view.bytes.length - 4, 4];
  return [view.headerEnd, view.dataLength];
}
