import type { Findings } from "./findings.js";
import { countsStatSn, isAtOrBefore, next } from "./ledger.js";
import { NONE, Op, type PduView } from "./pdu-view.js";
import type { Edge, Wire } from "./wire.js";

interface Command {
  readonly expectedLength: number;
  readonly isWrite: boolean;
  readonly isRead: boolean;
  r2tSn: number;
  dataSn: number;
  dataBytes: number;
  receivedBytes: number;
  /** Recovery has touched it: what was sent may come again. */
  isRecovered: boolean;
}

class TargetWire {
  errorRecoveryLevel = 0;
  nextStatSn: number | undefined;
  expCmdSn: number | undefined;
  maxCmdSn: number | undefined;
  readonly commands = new Map<number, Command>();
}

/** The rules of RFC 7143 for a target, seen from its end of every connection. */
export class TargetRules {
  readonly #findings: Findings;
  readonly #wires = new Map<Wire, TargetWire>();
  /** By TSIH: agreed on by the leading connection. */
  readonly #levels = new Map<number, number>();

  constructor(findings: Findings) {
    this.#findings = findings;
  }

  onReceived(edge: Edge, pdu: PduView): void {
    if (!pdu.isHeaderIntact) return;
    const wire = this.#wire(edge);
    const command = wire.commands.get(pdu.tag);
    if (pdu.opcode === Op.command && pdu.isDataIntact) {
      if (command !== undefined) {
        command.isRecovered = true;
        return;
      }
      wire.commands.set(pdu.tag, {
        expectedLength: pdu.word20,
        isWrite: (pdu.u8(1) & 0x20) !== 0,
        isRead: (pdu.u8(1) & 0x40) !== 0,
        ...{ r2tSn: 0, dataSn: 0, dataBytes: 0, isRecovered: false },
        receivedBytes: pdu.dataLength,
      });
    }
    if (pdu.opcode === Op.dataOut && command !== undefined && pdu.isDataIntact) command.receivedBytes += pdu.dataLength;
    if (pdu.opcode === Op.snack && command !== undefined) command.isRecovered = true;
    if (pdu.opcode === Op.taskManagement && (pdu.u8(1) & 0x7f) === 8) {
      // The command came over a connection that is gone; what it has had so far is not known here.
      wire.commands.delete(pdu.word20);
    }
  }

  onSent(edge: Edge, pdu: PduView): void {
    this.#findings.require(pdu.isFromTarget, "a target sends a target's PDUs", pdu, pdu.opcode);
    const wire = this.#wire(edge);
    const isRefusal = pdu.opcode === Op.loginResponse && pdu.u8(36) !== 0;
    if (isRefusal) return;
    this.#checkStatSn(wire, pdu);
    this.#checkWindow(wire, pdu);
    if (pdu.opcode === Op.loginResponse) {
      this.#learnLevel(edge, wire, pdu);
      return;
    }
    const limit = Number(edge.declared("initiator", "MaxRecvDataSegmentLength") ?? 8192);
    this.#findings.require(pdu.dataLength <= limit, "the target keeps MaxRecvDataSegmentLength", pdu, limit);
    const command = wire.commands.get(pdu.tag);
    if (pdu.opcode === Op.r2t && command !== undefined) this.#checkR2t({ edge, wire }, command, pdu);
    if (pdu.opcode === Op.dataIn && command !== undefined) this.#checkDataIn(wire, command, pdu);
    if (pdu.opcode === Op.response || (pdu.opcode === Op.dataIn && (pdu.u8(1) & 1) === 1)) {
      if (command !== undefined) this.#checkWhole(command, pdu);
      if (wire.errorRecoveryLevel === 0) wire.commands.delete(pdu.tag);
    }
  }

  #wire(edge: Edge): TargetWire {
    let wire = this.#wires.get(edge.wire);
    if (wire === undefined) {
      wire = new TargetWire();
      this.#wires.set(edge.wire, wire);
    }
    return wire;
  }

  #learnLevel(edge: Edge, wire: TargetWire, pdu: PduView): void {
    const tsih = pdu.bytes.readUInt16BE(14);
    if (tsih === 0) return;
    const level = edge.declared("target", "ErrorRecoveryLevel");
    if (level !== undefined) this.#levels.set(tsih, Number(level));
    wire.errorRecoveryLevel = this.#levels.get(tsih) ?? 0;
  }

  #checkStatSn(wire: TargetWire, pdu: PduView): void {
    if (pdu.opcode === Op.dataIn && !countsStatSn(pdu)) return;
    const statSn = pdu.word24;
    wire.nextStatSn ??= statSn;
    const isAgain = wire.errorRecoveryLevel > 0 && isAtOrBefore(statSn, wire.nextStatSn);
    const isRight = statSn === wire.nextStatSn || isAgain;
    this.#findings.require(isRight, "the target's StatSN without gaps", pdu, [statSn, wire.nextStatSn]);
    if (countsStatSn(pdu) && statSn === wire.nextStatSn) wire.nextStatSn = next(statSn);
  }

  #checkWindow(wire: TargetWire, pdu: PduView): void {
    const [expCmdSn, maxCmdSn] = [pdu.word28, pdu.maxCmdSn];
    const isRising =
      isAtOrBefore(wire.expCmdSn ?? expCmdSn, expCmdSn) && isAtOrBefore(wire.maxCmdSn ?? maxCmdSn, maxCmdSn);
    this.#findings.require(isRising, "the target's window never shrinks", pdu, [wire.expCmdSn, wire.maxCmdSn]);
    const isPlausible = isAtOrBefore((expCmdSn - 1) >>> 0, maxCmdSn);
    this.#findings.require(isPlausible, "MaxCmdSN is at least ExpCmdSN - 1", pdu, [expCmdSn, maxCmdSn]);
    wire.expCmdSn = expCmdSn;
    wire.maxCmdSn = maxCmdSn;
  }

  #checkR2t(place: { readonly edge: Edge; readonly wire: TargetWire }, command: Command, pdu: PduView): void {
    const { edge, wire } = place;
    const length = pdu.word44;
    const isInside = pdu.bufferOffset + length <= command.expectedLength;
    this.#findings.require(length > 0 && isInside, "an R2T asks for data of its command", pdu, command);
    this.#findings.require(pdu.word20 !== NONE, "an R2T has a tag", pdu, pdu.word20);
    // Agreed on by the leading connection; one that joined says nothing of it.
    const of = (side: "initiator" | "target"): number => Number(edge.declared(side, "MaxBurstLength") ?? 16_777_215);
    const limit = Math.min(of("initiator"), of("target"));
    this.#findings.require(length <= limit, "an R2T keeps MaxBurstLength", pdu, [length, limit]);
    const isNext = pdu.word36 === command.r2tSn || wire.errorRecoveryLevel > 0;
    this.#findings.require(isNext, "R2TSN counts from 0", pdu, [pdu.word36, command.r2tSn]);
    command.r2tSn = pdu.word36 + 1;
  }

  #checkDataIn(wire: TargetWire, command: Command, pdu: PduView): void {
    const hasStatus = (pdu.u8(1) & 1) === 1;
    this.#findings.require(pdu.isFinal || !hasStatus, "status comes with the final Data-In", pdu, 0);
    const isInside = pdu.bufferOffset + pdu.dataLength <= command.expectedLength;
    this.#findings.require(isInside && command.isRead, "Data-In within its command", pdu, command);
    if (command.isRecovered || pdu.dataLength === 0) return;
    // Sent again because its status was asked for.
    if (wire.errorRecoveryLevel > 0 && pdu.word36 < command.dataSn) return;
    this.#findings.require(pdu.word36 === command.dataSn, "Data-In's DataSN counts from 0", pdu, command.dataSn);
    this.#findings.require(pdu.bufferOffset === command.dataBytes, "Data-In without gaps", pdu, command.dataBytes);
    command.dataSn += 1;
    command.dataBytes += pdu.dataLength;
  }

  /** GOOD without a residual: all of the data has travelled before (§11.4.5). */
  #checkWhole(command: Command, pdu: PduView): void {
    const isOfData = pdu.opcode === Op.dataIn;
    const isGood = (isOfData || pdu.u8(2) === 0) && pdu.u8(3) === 0 && (pdu.u8(1) & 0x06) === 0;
    if (!isGood || command.isRecovered) return;
    const travelled = command.isWrite ? command.receivedBytes : command.dataBytes;
    const expected = command.isWrite || command.isRead ? command.expectedLength : 0;
    this.#findings.require(travelled >= expected, "GOOD when all data has travelled", pdu, [travelled, expected]);
  }
}
