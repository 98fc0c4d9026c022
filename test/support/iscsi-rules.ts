import type { CapturedPdu } from "./iscsi-capture.js";

/**
 * The numbering rules of RFC 7143 checked on a recorded connection, with arithmetic of its own: nothing here knows how
 * the product counts. All runs are far shorter than 2³¹ numbers and begin low, so that plain comparison will do.
 */

const NONE = 0xffff_ffff;
const ABORT_TASK = 1;

export const Opcode = {
  nopOut: 0x00,
  scsiCommand: 0x01,
  taskManagementRequest: 0x02,
  loginRequest: 0x03,
  textRequest: 0x04,
  dataOut: 0x05,
  logoutRequest: 0x06,
  snackRequest: 0x10,
  nopIn: 0x20,
  scsiResponse: 0x21,
  taskManagementResponse: 0x22,
  loginResponse: 0x23,
  textResponse: 0x24,
  dataIn: 0x25,
  logoutResponse: 0x26,
  readyToTransfer: 0x31,
  asyncMessage: 0x32,
  reject: 0x3f,
} as const;

interface Solicited {
  readonly offset: number;
  readonly length: number;
}

interface LiveTask {
  readonly opcode: number;
  /** Of a task management request; else undefined. */
  readonly function: number | undefined;
  readonly referencedTag: number | undefined;
  readonly expectedLength: number;
  readonly isWrite: boolean;
  dataInSn: number;
  dataInBytes: number;
  r2tSn: number;
  /** Bytes sent because an R2T asked for them. */
  solicitedBytes: number;
  /** Bytes sent without being asked for, immediate data among them. */
  unsolicitedBytes: number;
  unsolicitedSn: number;
  isUnsolicitedOver: boolean;
  readonly solicited: Map<number, Solicited & { sent: number; sn: number }>;
}

export interface ConnectionFindings {
  /** Rules that were broken, each with the PDU. Empty is what is wanted. */
  readonly violations: readonly string[];
  /** What was really looked at, so that an empty list of violations means something. */
  readonly checked: Readonly<Record<string, number>>;
}

/** Whoever receives declares how much one PDU may carry; both sides' lists are in the login. */
class Negotiated {
  readonly #initiator = new Map<string, string>();
  readonly #target = new Map<string, string>();

  learn(pdu: CapturedPdu): void {
    const side = pdu.isFromInitiator ? this.#initiator : this.#target;
    for (const pair of pdu.keys) {
      const at = pair.indexOf("=");
      side.set(pair.slice(0, at), pair.slice(at + 1));
    }
  }

  declared(by: "initiator" | "target", key: string, fallback: number): number {
    const value = Number((by === "initiator" ? this.#initiator : this.#target).get(key));
    // Not said, or answered "Irrelevant".
    return Number.isNaN(value) ? fallback : value;
  }

  /** RFC 7143 §13: the smaller number of the two. */
  smaller(key: string, fallback: number): number {
    return Math.min(this.declared("initiator", key, fallback), this.declared("target", key, fallback));
  }

  isYes(key: string, combine: "and" | "or", fallback: string): boolean {
    const values = [this.#initiator, this.#target].map((side) => (side.get(key) ?? fallback) === "Yes");
    return combine === "and" ? values.every(Boolean) : values.some(Boolean);
  }
}

class ConnectionChecker {
  readonly violations: string[] = [];
  readonly checked: Record<string, number> = {};
  readonly #agreed = new Negotiated();
  readonly #tasks = new Map<number, LiveTask>();
  #nextCmdSn: number | undefined;
  #maxCmdSn: number | undefined;
  #nextStatSn: number | undefined;
  #lastExpStatSn = 0;

  take(pdu: CapturedPdu): void {
    if (pdu.isFromInitiator) this.#fromInitiator(pdu);
    else this.#fromTarget(pdu);
  }

  #require(isTrue: boolean, rule: string, pdu: CapturedPdu, seen: unknown): void {
    const name = rule.split(":")[0] ?? rule;
    this.checked[name] = (this.checked[name] ?? 0) + 1;
    if (!isTrue) this.violations.push(`${rule}: ${JSON.stringify(seen)} in ${pdu.where}`);
  }

  #fromInitiator(pdu: CapturedPdu): void {
    const { opcode } = pdu;
    // SNACK numbers nothing and opens no task.
    if (opcode === Opcode.snackRequest) return;
    if (opcode !== Opcode.dataOut) this.#checkCmdSn(pdu);
    if (opcode !== Opcode.loginRequest || this.#nextStatSn !== undefined) this.#checkExpStatSn(pdu);
    if (opcode === Opcode.loginRequest) this.#agreed.learn(pdu);
    else if (opcode === Opcode.dataOut) this.#checkDataOut(pdu);
    else this.#openTask(pdu);
    if (opcode !== Opcode.loginRequest) this.#checkSegment(pdu, "target");
  }

  #checkCmdSn(pdu: CapturedPdu): void {
    const cmdSn = pdu.number("cmdsn");
    if (pdu.opcode === Opcode.loginRequest) {
      this.#nextCmdSn ??= cmdSn;
      this.#require(cmdSn === this.#nextCmdSn, "CmdSN: the same in all of a login", pdu, cmdSn);
      return;
    }
    this.#require(cmdSn === this.#nextCmdSn, "CmdSN: contiguous", pdu, [cmdSn, this.#nextCmdSn]);
    const isImmediate = pdu.number("I") === 1;
    if (isImmediate) return;
    this.#require(cmdSn <= (this.#maxCmdSn ?? -1), "CmdSN: within the window", pdu, [cmdSn, this.#maxCmdSn]);
    this.#nextCmdSn = cmdSn + 1;
  }

  #checkExpStatSn(pdu: CapturedPdu): void {
    const expStatSn = pdu.number("expstatsn");
    const next = this.#nextStatSn ?? 0;
    this.#require(expStatSn <= next, "ExpStatSN: never ahead", pdu, [expStatSn, next]);
    this.#require(expStatSn >= this.#lastExpStatSn, "ExpStatSN: never back", pdu, [expStatSn, this.#lastExpStatSn]);
    this.#lastExpStatSn = expStatSn;
  }

  #openTask(pdu: CapturedPdu): void {
    const tag = pdu.number("initiatortasktag");
    if (pdu.opcode === Opcode.nopOut && tag === NONE) {
      this.#require(pdu.number("targettransfertag") !== NONE, "NOP-Out: an answer names the ping", pdu, NONE);
      return;
    }
    const live = this.#tasks.get(tag);
    const isContinuation = pdu.opcode === Opcode.textRequest && live?.opcode === Opcode.textRequest;
    this.#require(live === undefined || isContinuation, "ITT: unique among live tasks", pdu, tag);
    this.#require(tag !== NONE, "ITT: not the reserved value", pdu, tag);
    const isCommand = pdu.opcode === Opcode.scsiCommand;
    const isManagement = pdu.opcode === Opcode.taskManagementRequest;
    const task: LiveTask = {
      opcode: pdu.opcode,
      function: isManagement ? pdu.number("taskmanfun.function") : undefined,
      referencedTag: isManagement ? pdu.number("taskmanfun.referencedtasktag") : undefined,
      expectedLength: isCommand ? pdu.number("scsicommand.expecteddatatransferlength") : 0,
      isWrite: isCommand && pdu.number("scsicommand.W") === 1,
      ...{ dataInSn: 0, dataInBytes: 0, r2tSn: 0, solicitedBytes: 0, unsolicitedBytes: 0, unsolicitedSn: 0 },
      isUnsolicitedOver: true,
      solicited: new Map(),
    };
    this.#tasks.set(tag, task);
    if (isCommand) this.#checkCommand(pdu, task);
  }

  #checkCommand(pdu: CapturedPdu, task: LiveTask): void {
    const immediate = pdu.number("datasegmentlength");
    task.unsolicitedBytes = immediate;
    task.isUnsolicitedOver = pdu.number("scsicommand.F") === 1;
    if (!task.isWrite) {
      this.#require(immediate === 0 && task.isUnsolicitedOver, "command: a read is final and empty", pdu, immediate);
      return;
    }
    const isImmediateAllowed = this.#agreed.isYes("ImmediateData", "and", "Yes");
    this.#require(immediate === 0 || isImmediateAllowed, "ImmediateData: only as agreed", pdu, immediate);
    const isR2tNeeded = this.#agreed.isYes("InitialR2T", "or", "Yes");
    this.#require(task.isUnsolicitedOver || !isR2tNeeded, "InitialR2T: no unsolicited Data-Out", pdu, immediate);
    this.#checkFirstBurst(pdu, task);
  }

  #checkFirstBurst(pdu: CapturedPdu, task: LiveTask): void {
    const limit = Math.min(this.#agreed.smaller("FirstBurstLength", 65_536), task.expectedLength);
    this.#require(task.unsolicitedBytes <= limit, "FirstBurstLength: kept", pdu, [task.unsolicitedBytes, limit]);
  }

  #checkSegment(pdu: CapturedPdu, receiver: "initiator" | "target"): void {
    const length = pdu.has("datasegmentlength") ? pdu.number("datasegmentlength") : 0;
    if (length === 0) return;
    const limit = this.#agreed.declared(receiver, "MaxRecvDataSegmentLength", 8192);
    this.#require(length <= limit, "MaxRecvDataSegmentLength: kept", pdu, [length, limit]);
  }

  #checkDataOut(pdu: CapturedPdu): void {
    const task = this.#tasks.get(pdu.number("initiatortasktag"));
    this.#require(task?.isWrite === true, "Data-Out: of a live write", pdu, pdu.number("initiatortasktag"));
    if (task === undefined) return;
    const [sn, offset, length] = [pdu.number("datasn"), pdu.number("bufferOffset"), pdu.number("datasegmentlength")];
    const isFinal = pdu.number("scsidata.F") === 1;
    const transferTag = pdu.number("targettransfertag");
    if (transferTag === NONE) {
      this.#require(!task.isUnsolicitedOver, "Data-Out: unsolicited only while the command says so", pdu, offset);
      this.#require(sn === task.unsolicitedSn, "DataSN: from 0 without a gap", pdu, [sn, task.unsolicitedSn]);
      this.#require(offset === task.unsolicitedBytes, "Data-Out: offsets without a gap", pdu, offset);
      task.unsolicitedSn += 1;
      task.unsolicitedBytes += length;
      task.isUnsolicitedOver = isFinal;
      this.#checkFirstBurst(pdu, task);
      return;
    }
    const burst = task.solicited.get(transferTag);
    this.#require(burst !== undefined, "Data-Out: asked for by an R2T", pdu, transferTag);
    if (burst === undefined) return;
    this.#require(sn === burst.sn, "DataSN: from 0 without a gap", pdu, [sn, burst.sn]);
    this.#require(offset === burst.offset + burst.sent, "Data-Out: offsets without a gap", pdu, [offset, burst]);
    const [oldest] = task.solicited.keys();
    this.#require(oldest === transferTag, "Data-Out: R2Ts in their order", pdu, [oldest, transferTag]);
    burst.sn += 1;
    burst.sent += length;
    task.solicitedBytes += length;
    this.#require(isFinal === (burst.sent === burst.length), "Data-Out: F on the last", pdu, [isFinal, burst]);
    if (isFinal) task.solicited.delete(transferTag);
  }

  #fromTarget(pdu: CapturedPdu): void {
    if (pdu.opcode === Opcode.loginResponse) this.#agreed.learn(pdu);
    this.#checkStatSn(pdu);
    if (pdu.has("maxcmdsn")) this.#maxCmdSn = Math.max(this.#maxCmdSn ?? 0, pdu.number("maxcmdsn"));
    if (pdu.opcode === Opcode.loginResponse) return;
    this.#checkSegment(pdu, "initiator");
    const tag = pdu.has("initiatortasktag") ? pdu.number("initiatortasktag") : NONE;
    const task = this.#tasks.get(tag);
    if (tag !== NONE && pdu.opcode !== Opcode.reject) {
      this.#require(task !== undefined, "answers: to a live task", pdu, tag);
    }
    if (pdu.opcode === Opcode.readyToTransfer && task !== undefined) this.#checkR2t(pdu, task);
    if (pdu.opcode === Opcode.dataIn && task !== undefined) this.#checkDataIn(pdu, task);
    if (pdu.opcode === Opcode.taskManagementResponse && task !== undefined) this.#endAborted(pdu, task);
    if (!this.#endsTask(pdu)) return;
    if (task !== undefined) this.#checkWhole(pdu, task);
    this.#tasks.delete(tag);
  }

  /** GOOD without a residual: as much has travelled as the command expected (§11.4.5). */
  #checkWhole(pdu: CapturedPdu, task: LiveTask): void {
    if (pdu.opcode !== Opcode.dataIn && pdu.opcode !== Opcode.scsiResponse) return;
    const isOfData = pdu.opcode === Opcode.dataIn;
    const names = isOfData
      ? ["scsidata.U", "scsidata.O"]
      : ["scsiresponse.U", "scsiresponse.O", "scsiresponse.response"];
    const hasResidual = names.some((field) => pdu.number(field) !== 0);
    if (hasResidual || pdu.number("scsiresponse.status") !== 0) return;
    const travelled = task.dataInBytes + task.unsolicitedBytes + task.solicitedBytes;
    this.#require(travelled === task.expectedLength, "GOOD: all data travelled", pdu, [travelled, task.expectedLength]);
  }

  /** What a function that was carried out ended gets no answer of its own, and its tag is free (§11.6.1). */
  #endAborted(pdu: CapturedPdu, management: LiveTask): void {
    if (pdu.number("taskmanfun.response") !== 0) return;
    if (management.function === ABORT_TASK) {
      this.#tasks.delete(management.referencedTag ?? NONE);
      return;
    }
    for (const [tag, task] of this.#tasks) if (task.opcode === Opcode.scsiCommand) this.#tasks.delete(tag);
  }

  #endsTask(pdu: CapturedPdu): boolean {
    switch (pdu.opcode) {
      case Opcode.dataIn:
        return pdu.number("scsidata.S") === 1;
      case Opcode.textResponse:
        return pdu.number("text.F") === 1;
      case Opcode.readyToTransfer:
        return false;
      default:
        return true;
    }
  }

  /** StatSN counts answers; a Data-In without status has none, R2T and a ping only show the next (§11.8.2, §11.19). */
  #checkStatSn(pdu: CapturedPdu): void {
    if (pdu.opcode === Opcode.dataIn && pdu.number("scsidata.S") === 0) return;
    // The numbers of a login that is refused mean nothing (§11.13.4).
    if (pdu.opcode === Opcode.loginResponse && pdu.number("login.status") !== 0) return;
    const statSn = pdu.number("statsn");
    this.#nextStatSn ??= statSn;
    this.#require(statSn === this.#nextStatSn, "StatSN: contiguous", pdu, [statSn, this.#nextStatSn]);
    const isPing = pdu.opcode === Opcode.nopIn && pdu.number("initiatortasktag") === NONE;
    if (pdu.opcode !== Opcode.readyToTransfer && !isPing) this.#nextStatSn = statSn + 1;
  }

  #checkR2t(pdu: CapturedPdu, task: LiveTask): void {
    const sn = pdu.number("r2tsn");
    const length = pdu.number("desireddatalength");
    this.#require(sn === task.r2tSn, "R2TSN: from 0 without a gap", pdu, [sn, task.r2tSn]);
    task.r2tSn += 1;
    this.#require(length <= this.#agreed.smaller("MaxBurstLength", 262_144), "MaxBurstLength: kept", pdu, length);
    const offset = pdu.number("bufferOffset");
    task.solicited.set(pdu.number("targettransfertag"), { offset, length, sent: 0, sn: 0 });
    const limit = this.#agreed.smaller("MaxOutstandingR2T", 1);
    this.#require(task.solicited.size <= limit, "MaxOutstandingR2T: kept", pdu, [task.solicited.size, limit]);
  }

  #checkDataIn(pdu: CapturedPdu, task: LiveTask): void {
    if (pdu.number("datasegmentlength") === 0) return;
    const sn = pdu.number("datasn");
    this.#require(sn === task.dataInSn, "DataSN: from 0 without a gap", pdu, [sn, task.dataInSn]);
    task.dataInSn += 1;
    const offset = pdu.number("bufferOffset");
    this.#require(offset === task.dataInBytes, "Data-In: offsets without a gap", pdu, [offset, task.dataInBytes]);
    task.dataInBytes += pdu.number("datasegmentlength");
    this.#require(task.dataInBytes <= task.expectedLength, "Data-In: no more than expected", pdu, task.dataInBytes);
  }
}

/** Checks every recorded connection on its own: a session of ours has one. */
export function checkNumbering(pdus: readonly CapturedPdu[]): ConnectionFindings {
  const checkers = new Map<number, ConnectionChecker>();
  for (const pdu of pdus) {
    const checker = checkers.get(pdu.connection) ?? new ConnectionChecker();
    checkers.set(pdu.connection, checker);
    checker.take(pdu);
  }
  const checked: Record<string, number> = { connections: checkers.size };
  for (const checker of checkers.values()) {
    for (const [rule, count] of Object.entries(checker.checked)) checked[rule] = (checked[rule] ?? 0) + count;
  }
  return { violations: [...checkers.values()].flatMap(({ violations }) => violations), checked };
}

/** PDUs by the name of their opcode. */
export function countOpcodes(pdus: readonly CapturedPdu[]): Readonly<Record<string, number>> {
  const names = new Map<number, string>(Object.entries(Opcode).map(([name, opcode]) => [opcode, name]));
  const counts: Record<string, number> = {};
  for (const { opcode } of pdus) {
    const name = names.get(opcode) ?? `0x${opcode.toString(16)}`;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}
