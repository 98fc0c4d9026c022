import { checkCommandData, checkDataOut, learnAckTag, learnR2t } from "./data-rules.js";
import type { Findings } from "./findings.js";
import { countsStatSn, isAtOrBefore, Ledger, next, type SessionEntry, TaskEntry, type WireEntry } from "./ledger.js";
import { NONE, Op, type PduView } from "./pdu-view.js";
import { checkLogin, checkReassign, checkSnack } from "./recovery-rules.js";
import type { Edge } from "./wire.js";

/** The rules of RFC 7143 for an initiator, seen from its end of every connection. */
export class InitiatorRules {
  readonly #findings: Findings;
  readonly #nowMs: () => number;
  readonly #ledger = new Ledger();
  #isid: string | undefined;

  constructor(findings: Findings, nowMs: () => number) {
    this.#findings = findings;
    this.#nowMs = nowMs;
  }

  onSent(edge: Edge, pdu: PduView): void {
    if (pdu.opcode === Op.login) {
      this.#onLoginSent(edge, pdu);
      return;
    }
    const entry = this.#ledger.wire(edge.wire);
    const session = entry?.session;
    this.#findings.require(session !== undefined && !pdu.isFromTarget, "login before all else", pdu, entry?.cid);
    if (entry === undefined || session === undefined) return;
    this.#checkAfterLogout(entry, pdu);
    if (session !== this.#ledger.session) return;
    this.#checkExpStatSn(entry, pdu);
    if (pdu.opcode === Op.dataOut) {
      checkDataOut(this.#findings, { edge, leading: session.leading }, session, pdu);
      return;
    }
    if (pdu.opcode === Op.snack) {
      checkSnack(this.#findings, { entry, session, pdu });
      return;
    }
    const isRetry = this.#isRetry(entry, session, pdu);
    if (!isRetry) this.#checkCmdSn(entry, session, pdu);
    if (pdu.opcode === Op.nopOut && pdu.tag === NONE) {
      this.#findings.require(pdu.word20 !== NONE && pdu.isImmediate, "an answer to a ping is immediate", pdu, 0);
      return;
    }
    this.#openTask(edge, { entry, session, pdu, isRetry });
  }

  onReceived(edge: Edge, pdu: PduView): void {
    const entry = this.#ledger.wire(edge.wire);
    if (entry === undefined) return;
    if (!pdu.isHeaderIntact || !pdu.isDataIntact) return;
    if (pdu.opcode === Op.loginResponse) {
      this.#onLoginReceived(edge, entry, pdu);
      return;
    }
    if (countsStatSn(pdu)) entry.receiveStatSn(pdu.word24);
    const { session } = entry;
    if (session === undefined || session !== this.#ledger.session) return;
    // §4.2.2.1: a pair that contradicts itself is ignored, and the window never shrinks.
    const isPlausible = isAtOrBefore((pdu.word28 - 1) >>> 0, pdu.maxCmdSn);
    if (isPlausible && !isAtOrBefore(pdu.maxCmdSn, session.maxCmdSn)) session.maxCmdSn = pdu.maxCmdSn;
    if (isPlausible && !isAtOrBefore(pdu.word28, session.expCmdSn)) session.expCmdSn = pdu.word28;
    if (pdu.opcode === Op.r2t) learnR2t(session, pdu);
    if (pdu.opcode === Op.dataIn) learnAckTag(session, pdu);
    if (pdu.opcode === Op.reject) this.#onReject(session, pdu);
    if (pdu.opcode === Op.async) learnAnnouncement(entry, session, pdu);
    this.#endTask(entry, session, pdu);
  }

  onClosed(edge: Edge): void {
    this.#ledger.closed(edge, this.#nowMs());
  }

  /** When all is over: no number between the first and the last was left out. */
  finish(): void {
    const { session } = this.#ledger;
    if (session === undefined) return;
    let missing = 0;
    for (let sn = session.firstCmdSn; isAtOrBefore(sn, session.highestCmdSn); sn = next(sn)) {
      if (!session.used.has(sn)) missing += 1;
    }
    if (missing > 0) this.#findings.report(`${missing} CmdSNs of the last session were never sent`);
  }

  #onLoginSent(edge: Edge, pdu: PduView): void {
    const known = this.#ledger.wire(edge.wire);
    const entry = known ?? this.#ledger.open(edge, pdu);
    this.#findings.require(entry.isid === (this.#isid ??= entry.isid), "the same ISID in every login", pdu, entry.isid);
    this.#findings.require(entry.loginTag === pdu.tag, "one tag for all of a login", pdu, pdu.tag);
    this.#findings.require(entry.cid === pdu.bytes.readUInt16BE(20), "one CID for all of a login", pdu, entry.cid);
    entry.lastCmdSn = pdu.word24;
    if (known !== undefined) return;
    checkLogin(this.#findings, { entry, session: this.#ledger.session, pdu, nowMs: this.#nowMs() });
  }

  #onLoginReceived(edge: Edge, entry: WireEntry, pdu: PduView): void {
    // The numbers of a refusal mean nothing (§11.13.4).
    if (pdu.u8(36) !== 0) return;
    entry.receiveStatSn(pdu.word24);
    const { session } = this.#ledger;
    // A connection that joins tells of the window of its session.
    if (entry.loginTsih !== 0 && session !== undefined && !isAtOrBefore(pdu.maxCmdSn, session.maxCmdSn)) {
      session.maxCmdSn = pdu.maxCmdSn;
    }
    const isEnd = pdu.isFinal && (pdu.u8(1) & 3) === 3;
    if (!isEnd || entry.session !== undefined) return;
    this.#ledger.loggedIn(edge, entry, pdu, entry.lastCmdSn ?? 0);
    entry.lastCmdSn = undefined;
  }

  #checkAfterLogout(entry: WireEntry, pdu: PduView): void {
    const isOver = entry.logout !== undefined && (entry.logout.reason === 0 || entry.logout.cid === entry.cid);
    const isQuiet = pdu.opcode === Op.nopOut && pdu.tag === NONE;
    this.#findings.require(!isOver || isQuiet, "no request after a logout", pdu, entry.logout);
  }

  #checkExpStatSn(entry: WireEntry, pdu: PduView): void {
    if (pdu.opcode === Op.snack || entry.nextStatSn === undefined) return;
    const expStatSn = pdu.word28;
    const cid = pdu.opcode === Op.logout && (pdu.u8(1) & 0x7f) !== 0 ? pdu.bytes.readUInt16BE(20) : entry.cid;
    if (cid !== entry.cid) {
      // §11.14.4: the last ExpStatSN of the connection that is to be closed.
      const other = entry.session?.wires.findLast((each) => each.cid === cid);
      const isOthers = isAtOrBefore(expStatSn, other?.nextStatSn ?? expStatSn);
      this.#findings.require(isOthers, "a logout carries the ExpStatSN of what it closes", pdu, other?.nextStatSn);
      return;
    }
    const isKnown = isAtOrBefore(expStatSn, entry.nextStatSn);
    this.#findings.require(isKnown, "ExpStatSN not beyond what came", pdu, [expStatSn, entry.nextStatSn]);
    const last = entry.lastExpStatSn ?? expStatSn;
    this.#findings.require(isAtOrBefore(last, expStatSn), "ExpStatSN never back", pdu, [expStatSn, last]);
    entry.lastExpStatSn = expStatSn;
  }

  /** The same tag, number and command once more (§7.2.1), or a NOP-Out in the place of a rejected command (§7.3). */
  #isRetry(entry: WireEntry, session: SessionEntry, pdu: PduView): boolean {
    if (pdu.isImmediate) return false;
    const usedBy = session.used.get(pdu.word24);
    if (usedBy === undefined) return false;
    const before = session.tasks.get(usedBy);
    if (pdu.opcode === Op.nopOut && usedBy !== pdu.tag) {
      // Nothing else will fill the gap: the command is over, was rejected, or its connection is gone.
      const isOver = before === undefined || before.isRejected || before.wire.initiator?.isClosed === true;
      const isGap = isOver && isAtOrBefore(session.expCmdSn, pdu.word24);
      this.#findings.require(isGap, "a number is used again only to fill a gap", pdu, [pdu.word24, session.expCmdSn]);
      return isGap;
    }
    if (before === undefined) return false;
    if (before.tag !== pdu.tag) return false;
    const same = (at: number, end: number): boolean =>
      before.header.subarray(at, end).equals(pdu.bytes.subarray(at, end));
    const isSame = pdu.opcode === before.opcode && same(8, 16) && same(20, 24) && same(32, 48);
    this.#findings.require(isSame, "a retry repeats the command as it was", pdu, before.tag);
    const isFree = before.wire === entry.wire || before.wire.initiator?.isClosed === true;
    this.#findings.require(isFree, "a retry goes over the same connection", pdu, before.wire.id);
    before.restart(entry.wire);
    return true;
  }

  #checkCmdSn(entry: WireEntry, session: SessionEntry, pdu: PduView): void {
    const cmdSn = pdu.word24;
    if (pdu.isImmediate) {
      const isNext = cmdSn === next(session.highestCmdSn);
      if (!session.isMultiConnection)
        this.#findings.require(isNext, "an immediate command shows the next CmdSN", pdu, cmdSn);
      return;
    }
    this.#findings.require(!session.used.has(cmdSn), "a CmdSN is used once", pdu, cmdSn);
    const isOpen = isAtOrBefore(cmdSn, session.maxCmdSn);
    this.#findings.require(isOpen, "CmdSN within the window", pdu, [cmdSn, session.maxCmdSn]);
    // A NOP-Out fills the place of a command that went with a connection before it could be sent.
    const isFiller = pdu.opcode === Op.nopOut && isAtOrBefore(cmdSn, session.highestCmdSn);
    const isRising = isFiller || entry.lastCmdSn === undefined || isAtOrBefore(next(entry.lastCmdSn), cmdSn);
    this.#findings.require(isRising, "CmdSN rises on each connection", pdu, [entry.lastCmdSn, cmdSn]);
    entry.lastCmdSn = cmdSn;
    if (!session.isMultiConnection) {
      const isNext = cmdSn === next(session.highestCmdSn);
      this.#findings.require(isNext, "CmdSN without gaps", pdu, [cmdSn, session.highestCmdSn]);
    }
    session.used.set(cmdSn, pdu.tag);
    if (isAtOrBefore(session.highestCmdSn, cmdSn)) session.highestCmdSn = cmdSn;
  }

  #openTask(edge: Edge, sent: { entry: WireEntry; session: SessionEntry; pdu: PduView; isRetry: boolean }): void {
    const { entry, session, pdu, isRetry } = sent;
    this.#findings.require(pdu.tag !== NONE, "a task has a tag", pdu, pdu.tag);
    const live = session.tasks.get(pdu.tag);
    const isContinuation = pdu.opcode === Op.text && live?.opcode === Op.text;
    this.#findings.require(live === undefined || isRetry || isContinuation, "a tag is not used twice", pdu, pdu.tag);
    if (pdu.opcode === Op.logout)
      entry.logout = { reason: pdu.u8(1) & 0x7f, cid: pdu.bytes.readUInt16BE(20), tag: pdu.tag };
    if (pdu.opcode === Op.taskManagement) checkReassign(this.#findings, { entry, session, pdu, nowMs: this.#nowMs() });
    const task = isRetry && live !== undefined ? live : new TaskEntry(pdu, edge.wire);
    session.tasks.set(pdu.tag, task);
    if (pdu.opcode === Op.command) checkCommandData(this.#findings, { edge, leading: session.leading }, task, pdu);
  }

  #onReject(session: SessionEntry, pdu: PduView): void {
    const header = pdu.data;
    if (header.length < 48) return;
    const opcode = header.readUInt8(0) & 0x3f;
    const task = session.tasks.get(header.readUInt32BE(16));
    if (task === undefined || opcode !== task.opcode) return;
    task.isRejected = true;
    // A command that was rejected before it began gets no other answer; which it is, its CmdSN tells (§11.17.1).
    if (opcode !== Op.command) session.tasks.delete(task.tag);
  }

  #endTask(entry: WireEntry, session: SessionEntry, pdu: PduView): void {
    const task = this.#ledger.endedBy(pdu);
    if (task === undefined) return;
    if (task.opcode === Op.taskManagement && pdu.opcode === Op.taskManagementResponse) {
      this.#onManagementDone(session, task, pdu);
    }
    if (task.opcode === Op.logout && pdu.opcode === Op.logoutResponse) this.#onLogoutDone(entry, session, pdu);
    session.tasks.delete(task.tag);
    if (task.opcode === Op.command) session.answered.set(task.tag, { task, statSn: pdu.word24 });
  }

  #onManagementDone(session: SessionEntry, management: TaskEntry, pdu: PduView): void {
    const isDone = pdu.u8(2) === 0;
    const what = management.header.readUInt8(1) & 0x7f;
    // Over for the target; for the initiator when the turn of this answer has come, as its StatSN says.
    const end = (task: TaskEntry | undefined): void => {
      if (task === undefined) return;
      session.tasks.delete(task.tag);
      session.answered.set(task.tag, { task, statSn: pdu.word24 });
    };
    if (what === 1 && (isDone || pdu.u8(2) === 1)) end(session.tasks.get(management.header.readUInt32BE(20)));
    if (!isDone || what === 1 || what >= 8) return;
    for (const task of session.tasks.values()) if (task.opcode === Op.command) end(task);
  }

  #onLogoutDone(entry: WireEntry, session: SessionEntry, pdu: PduView): void {
    const { logout } = entry;
    if (logout === undefined || pdu.u8(2) !== 0) return;
    for (const each of session.wires) {
      if (logout.reason !== 0 && each.cid !== logout.cid) continue;
      each.hasLoggedOut = true;
      if (logout.reason === 2 && each.closedAtMs !== undefined) session.releasedWires.add(each.wire);
    }
    // The logout was for another connection: this one goes on.
    if (logout.reason !== 0 && logout.cid !== entry.cid) entry.logout = undefined;
  }
}

/** AsyncEvent 2 and 3: one connection, or all of them, will be dropped; Parameter2 replaces Time2Wait. */
function learnAnnouncement(entry: WireEntry, session: SessionEntry, pdu: PduView): void {
  const event = pdu.u8(36);
  const cid = pdu.bytes.readUInt16BE(38);
  const announcedMs = 1000 * pdu.bytes.readUInt16BE(40);
  // While one before it is missing it has not had its turn, and may never have it.
  const isInTurn = isAtOrBefore(next(pdu.word24), entry.nextStatSn ?? 0);
  const waitMs = isInTurn ? announcedMs : Math.min(announcedMs, session.time2WaitMs);
  for (const each of session.wires) {
    if (each.closedAtMs !== undefined) continue;
    if (event === 3 || (event === 2 && each.cid === cid)) each.announcedWaitMs = waitMs;
  }
}
