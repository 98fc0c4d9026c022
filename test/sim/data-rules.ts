import type { Findings } from "./findings.js";
import type { SessionEntry, TaskEntry } from "./ledger.js";
import { NONE, Op, type PduView } from "./pdu-view.js";
import type { Edge } from "./wire.js";

/** Rules about the data an initiator sends (RFC 7143 §11.3, §11.7, §11.8, §13). */

/** Where a PDU goes, and where the session's values were agreed on. */
export interface Place {
  readonly edge: Edge;
  readonly leading: Edge;
}

function declared(edge: Edge, by: "initiator" | "target", key: string, fallback: number): number {
  const value = Number(edge.declared(by, key));
  return Number.isNaN(value) ? fallback : value;
}

function smaller(edge: Edge, key: string, fallback: number): number {
  return Math.min(declared(edge, "initiator", key, fallback), declared(edge, "target", key, fallback));
}

function isYes(edge: Edge, key: string, fallback: string, combine: "and" | "or"): boolean {
  const values = (["initiator", "target"] as const).map((by) => (edge.declared(by, key) ?? fallback) === "Yes");
  return combine === "and" ? values.every(Boolean) : values.some(Boolean);
}

/** The command and its immediate data. */
export function checkCommandData(findings: Findings, { edge, leading }: Place, task: TaskEntry, pdu: PduView): void {
  const immediate = pdu.dataLength;
  task.unsolicitedBytes = immediate;
  task.isUnsolicitedOpen = !pdu.isFinal;
  if (!task.isWrite) {
    findings.require(immediate === 0 && pdu.isFinal, "a read is final and empty", pdu, immediate);
    return;
  }
  const mayBeImmediate = isYes(leading, "ImmediateData", "Yes", "and");
  findings.require(immediate === 0 || mayBeImmediate, "ImmediateData as agreed", pdu, immediate);
  findings.require(pdu.isFinal || !isYes(leading, "InitialR2T", "Yes", "or"), "InitialR2T as agreed", pdu, immediate);
  checkFirstBurst(findings, leading, task, pdu);
  checkSegment(findings, edge, pdu);
}

function checkFirstBurst(findings: Findings, leading: Edge, task: TaskEntry, pdu: PduView): void {
  const limit = Math.min(smaller(leading, "FirstBurstLength", 65_536), task.expectedLength);
  findings.require(task.unsolicitedBytes <= limit, "FirstBurstLength kept", pdu, [task.unsolicitedBytes, limit]);
}

function checkSegment(findings: Findings, edge: Edge, pdu: PduView): void {
  const limit = declared(edge, "target", "MaxRecvDataSegmentLength", 8192);
  findings.require(pdu.dataLength <= limit, "MaxRecvDataSegmentLength kept", pdu, [pdu.dataLength, limit]);
}

export function learnR2t(session: SessionEntry, pdu: PduView): void {
  const task = session.tasks.get(pdu.tag);
  task?.bursts.set(pdu.word20, { offset: pdu.bufferOffset, length: pdu.word44, sent: 0, dataSn: 0 });
}

/** A Data-In with the A bit names the tag of the acknowledgement it asks for (§11.7.2). */
export function learnAckTag(session: SessionEntry, pdu: PduView): void {
  const task = session.tasks.get(pdu.tag) ?? session.answered.get(pdu.tag)?.task;
  if (task !== undefined && (pdu.u8(1) & 0x40) !== 0) session.ackTags.set(pdu.word20, task);
}

export function checkDataOut(findings: Findings, { edge, leading }: Place, session: SessionEntry, pdu: PduView): void {
  const task = session.tasks.get(pdu.tag);
  checkSegment(findings, edge, pdu);
  // Answers to R2Ts of a task that has meanwhile been answered or aborted go on (§4.2.3.3).
  if (task?.opcode !== Op.command) return;
  findings.require(task.isWrite, "Data-Out belongs to a write", pdu, task.tag);
  findings.require(task.wire === edge.wire, "Data-Out goes where its command went", pdu, task.wire.id);
  if (pdu.word20 === NONE) checkUnsolicited(findings, leading, task, pdu);
  else checkSolicited(findings, task, pdu);
}

function checkUnsolicited(findings: Findings, leading: Edge, task: TaskEntry, pdu: PduView): void {
  findings.require(task.isUnsolicitedOpen, "unsolicited data only while announced", pdu, pdu.bufferOffset);
  findings.require(pdu.word36 === task.unsolicitedSn, "DataSN counts from 0", pdu, [pdu.word36, task.unsolicitedSn]);
  const isNext = pdu.bufferOffset === task.unsolicitedBytes;
  findings.require(isNext, "Data-Out without gaps", pdu, [pdu.bufferOffset, task.unsolicitedBytes]);
  task.unsolicitedSn += 1;
  task.unsolicitedBytes += pdu.dataLength;
  task.isUnsolicitedOpen = !pdu.isFinal;
  checkFirstBurst(findings, leading, task, pdu);
}

function checkSolicited(findings: Findings, task: TaskEntry, pdu: PduView): void {
  const burst = task.bursts.get(pdu.word20);
  findings.require(burst !== undefined, "Data-Out answers an R2T", pdu, pdu.word20);
  if (burst === undefined) return;
  const isSameUnit = pdu.bytes.subarray(8, 16).equals(task.header.subarray(8, 16));
  findings.require(isSameUnit, "Data-Out copies the LUN", pdu, 0);
  findings.require(pdu.word36 === burst.dataSn, "DataSN counts from 0", pdu, [pdu.word36, burst.dataSn]);
  const isNext = pdu.bufferOffset === burst.offset + burst.sent;
  findings.require(isNext, "Data-Out without gaps", pdu, [pdu.bufferOffset, burst.offset + burst.sent]);
  burst.dataSn += 1;
  burst.sent += pdu.dataLength;
  findings.require(pdu.isFinal === (burst.sent === burst.length), "F on the last Data-Out", pdu, burst);
  if (pdu.isFinal) task.bursts.delete(pdu.word20);
}
