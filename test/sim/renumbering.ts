import { countsStatSn, isAtOrBefore, next } from "./ledger.js";
import { Op, type PduView } from "./pdu-view.js";
import type { Edge, Wire } from "./wire.js";

/** What a connection's target has said last, in the numbers that the initiator sees. */
interface Numbers {
  statSn: number;
  expCmdSn: number;
  maxCmdSn: number;
  /** StatSNs of PDUs that the target knows nothing of, rising. */
  readonly inserted: number[];
}

/**
 * Makes room in the numbering for PDUs that neither side has sent, and moves the CmdSNs of the target's side so
 * that they wrap. Both sides go on seeing numbers without gaps.
 */
export class Renumbering {
  readonly #cmdSnShift: number;
  readonly #wires = new Map<Wire, Numbers>();

  constructor(cmdSnShift: number) {
    this.#cmdSnShift = cmdSnShift;
  }

  /** The PDU as the other side shall see it; undefined when nothing changes. */
  translate(edge: Edge, pdu: PduView): PduView | undefined {
    return edge.side === "target" ? this.#toInitiator(edge, pdu) : this.#toTarget(edge, pdu);
  }

  /** ExpCmdSN and MaxCmdSN that the initiator was told last over this connection. */
  window(wire: Wire): { readonly expCmdSn: number; readonly maxCmdSn: number; readonly statSn: number } | undefined {
    return this.#wires.get(wire);
  }

  /** The number that the initiator knows for a CmdSN on its way to the target. */
  initiatorCmdSn(targetCmdSn: number): number {
    return (targetCmdSn - this.#cmdSnShift) >>> 0;
  }

  /** Takes the next StatSN of a connection for a PDU of our own. */
  takeStatSn(wire: Wire): number {
    const numbers = this.#numbers(wire);
    const { statSn } = numbers;
    numbers.inserted.push(statSn);
    numbers.statSn = next(statSn);
    return statSn;
  }

  #numbers(wire: Wire): Numbers {
    let numbers = this.#wires.get(wire);
    if (numbers === undefined) {
      numbers = { statSn: 0, expCmdSn: 0, maxCmdSn: 0, inserted: [] };
      this.#wires.set(wire, numbers);
    }
    return numbers;
  }

  #toInitiator(edge: Edge, pdu: PduView): PduView | undefined {
    const numbers = this.#numbers(edge.wire);
    const statSn = shifted(numbers.inserted, pdu.word24);
    const isNumbered = countsStatSn(pdu) || pdu.opcode === Op.r2t || pdu.opcode === Op.nopIn;
    const isMoved = this.#cmdSnShift !== 0 || (isNumbered && statSn !== pdu.word24);
    const view = isMoved ? pdu.copy() : pdu;
    if (isMoved) {
      if (isNumbered) view.bytes.writeUInt32BE(statSn, 24);
      view.bytes.writeUInt32BE((pdu.word28 - this.#cmdSnShift) >>> 0, 28);
      view.bytes.writeUInt32BE((pdu.maxCmdSn - this.#cmdSnShift) >>> 0, 32);
      if (pdu.opcode === Op.reject) this.#moveRejected(view);
      view.seal();
    }
    if (countsStatSn(pdu) && isAtOrBefore(numbers.statSn, statSn)) numbers.statSn = next(statSn);
    if (pdu.opcode === Op.loginResponse) numbers.statSn = next(statSn);
    numbers.expCmdSn = view.word28;
    numbers.maxCmdSn = view.maxCmdSn;
    return isMoved ? view : undefined;
  }

  /** The header in a Reject is the initiator's own, with its own number. */
  #moveRejected(view: PduView): void {
    const header = view.data;
    if (header.length < 48) return;
    const opcode = header.readUInt8(0) & 0x3f;
    if (hasCmdSn(opcode)) header.writeUInt32BE((header.readUInt32BE(24) - this.#cmdSnShift) >>> 0, 24);
  }

  #toTarget(edge: Edge, pdu: PduView): PduView | undefined {
    const { inserted } = this.#numbers(edge.wire);
    // A logout for another connection carries a number of that one (§11.14.4).
    const isForeign = pdu.opcode === Op.logout && pdu.bytes.readUInt16BE(20) !== edge.wire.cid;
    const expStatSn = isForeign ? pdu.word28 : unshifted(inserted, pdu.word28);
    const isStatusSnack = pdu.opcode === Op.snack && (pdu.u8(1) & 0x0f) === 1;
    const isMoved = expStatSn !== pdu.word28 || this.#cmdSnShift !== 0;
    if (!isMoved && !(isStatusSnack && inserted.length > 0)) return undefined;
    const view = pdu.copy();
    view.bytes.writeUInt32BE(expStatSn, 28);
    if (isStatusSnack && pdu.bufferOffset !== 0) {
      view.bytes.writeUInt32BE(unshifted(inserted, pdu.bufferOffset), 40);
    }
    if (hasCmdSn(pdu.opcode)) {
      view.bytes.writeUInt32BE((pdu.word24 + this.#cmdSnShift) >>> 0, 24);
      if (pdu.opcode === Op.taskManagement) view.bytes.writeUInt32BE((pdu.u32(32) + this.#cmdSnShift) >>> 0, 32);
    }
    return view.seal();
  }
}

function hasCmdSn(opcode: number): boolean {
  return opcode !== Op.dataOut && opcode !== Op.snack;
}

function shifted(inserted: readonly number[], statSn: number): number {
  let result = statSn;
  for (const each of inserted) if (isAtOrBefore(each, result)) result = next(result);
  return result;
}

function unshifted(inserted: readonly number[], expStatSn: number): number {
  let before = 0;
  for (const each of inserted) if (each !== expStatSn && isAtOrBefore(each, expStatSn)) before += 1;
  return (expStatSn - before) >>> 0;
}
