import type { Findings } from "./findings.js";
import { isAtOrBefore, type SessionEntry, type WireEntry } from "./ledger.js";
import { NONE, Op, type PduView } from "./pdu-view.js";

/** Rules about logging in again, SNACK and TASK REASSIGN (RFC 7143 §6.3, §7.1 to §7.5, §11.16). */

const TASK_REASSIGN = 8;
/** The clock may be asked just before a timer's moment. */
const SLACK_MS = 0.001;

export function checkLogin(
  findings: Findings,
  login: {
    readonly entry: WireEntry;
    readonly session: SessionEntry | undefined;
    readonly pdu: PduView;
    readonly nowMs: number;
  },
): void {
  const { entry, session, pdu, nowMs } = login;
  if (session === undefined) {
    findings.require(entry.loginTsih === 0, "TSIH 0 opens a session", pdu, entry.loginTsih);
    return;
  }
  if (entry.loginTsih === 0) {
    // §7.5: the earliest moment at which tasks of the old session may be ended by a login.
    const { firstLost } = session;
    const backAtMs = firstLost === undefined ? nowMs : session.backAtMs(firstLost);
    findings.require(nowMs + SLACK_MS >= backAtMs, "Time2Wait before a session recovery", pdu, [nowMs, backAtMs]);
    return;
  }
  findings.require(entry.loginTsih === session.tsih, "a connection joins the session there is", pdu, entry.loginTsih);
  const old = session.wires.findLast((each) => each.cid === entry.cid);
  if (old === undefined || old.hasLoggedOut) return;
  findings.require(
    old.closedAtMs !== undefined || session.errorRecoveryLevel === 2,
    "a CID is used once",
    pdu,
    entry.cid,
  );
  const backAtMs = session.backAtMs(old);
  findings.require(nowMs + SLACK_MS >= backAtMs, "Time2Wait before a reinstatement", pdu, [nowMs, backAtMs]);
}

export function checkSnack(
  findings: Findings,
  sent: { readonly entry: WireEntry; readonly session: SessionEntry; readonly pdu: PduView },
): void {
  const { entry, session, pdu } = sent;
  findings.require(session.errorRecoveryLevel > 0, "no SNACK at recovery level 0", pdu, session.errorRecoveryLevel);
  const type = pdu.u8(1) & 0x0f;
  const begin = pdu.bufferOffset;
  if (type === 1) {
    findings.require(pdu.tag === NONE && pdu.word20 === NONE, "a status SNACK names no task", pdu, pdu.tag);
    const acknowledged = entry.lastExpStatSn ?? begin;
    const isOpen = begin === 0 || isAtOrBefore(acknowledged, begin);
    findings.require(isOpen, "no SNACK for acknowledged status", pdu, [begin, acknowledged]);
    return;
  }
  if (type === 2) checkDataAck(findings, sent);
  else checkDataSnack(findings, sent);
}

/** §11.16.3: tag and unit as the Data-In gave them, no task, no run. */
function checkDataAck(findings: Findings, { session, pdu }: Parameters<typeof checkSnack>[1]): void {
  const task = session.ackTags.get(pdu.word20);
  const isWellFormed = pdu.tag === NONE && pdu.word20 !== NONE && pdu.word44 === 0;
  findings.require(
    isWellFormed && task !== undefined,
    "a DataACK answers a Data-In that asked for it",
    pdu,
    pdu.word20,
  );
  if (task === undefined) return;
  const begin = pdu.bufferOffset;
  findings.require(task.ackedDataSn <= begin, "a DataACK never goes back", pdu, [begin, task.ackedDataSn]);
  task.ackedDataSn = Math.max(task.ackedDataSn, begin);
}

function checkDataSnack(findings: Findings, { entry, session, pdu }: Parameters<typeof checkSnack>[1]): void {
  const answered = session.answered.get(pdu.tag);
  const task = session.tasks.get(pdu.tag) ?? answered?.task;
  findings.require(task?.opcode === Op.command, "a SNACK names a task", pdu, pdu.tag);
  if (task === undefined) return;
  findings.require(task.wire === entry.wire, "a SNACK goes where its command went", pdu, task.wire.id);
  const isLive = session.tasks.has(pdu.tag);
  const isOpen =
    isLive || entry.lastExpStatSn === undefined || isAtOrBefore(entry.lastExpStatSn, answered?.statSn ?? 0);
  findings.require(isOpen, "no SNACK for a task whose status is acknowledged", pdu, [
    entry.lastExpStatSn,
    answered?.statSn,
  ]);
  if ((pdu.u8(1) & 0x0f) !== 0) return;
  const begin = pdu.bufferOffset;
  const isFresh = task.isWrite || task.ackedDataSn <= begin;
  findings.require(isFresh, "no SNACK for acknowledged data", pdu, [begin, task.ackedDataSn]);
}

/** TASK REASSIGN among the task management requests. */
export function checkReassign(
  findings: Findings,
  sent: {
    readonly entry: WireEntry;
    readonly session: SessionEntry;
    readonly pdu: PduView;
    readonly nowMs: number;
  },
): void {
  const { entry, session, pdu, nowMs } = sent;
  if ((pdu.u8(1) & 0x7f) !== TASK_REASSIGN) return;
  findings.require(session.errorRecoveryLevel === 2, "no TASK REASSIGN below recovery level 2", pdu, 0);
  findings.require(pdu.isImmediate, "TASK REASSIGN is immediate", pdu, 0);
  const task = session.tasks.get(pdu.word20);
  if (task === undefined) return;
  const isReleased = session.releasedWires.has(task.wire);
  findings.require(isReleased, "TASK REASSIGN after the old connection was logged out", pdu, task.wire.id);
  const old = session.wires.find((each) => each.wire === task.wire);
  const backAtMs = old === undefined ? nowMs : session.backAtMs(old);
  findings.require(nowMs + SLACK_MS >= backAtMs, "Time2Wait before a TASK REASSIGN", pdu, [nowMs, backAtMs]);
  task.restart(entry.wire);
  // What is sent again is asked for anew.
  task.isUnsolicitedOpen = false;
}
