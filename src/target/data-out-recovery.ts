import { lunEquals } from "../base/lun.js";
import { RESERVED_TAG } from "../wire/constants.js";
import type { ScsiDataOutPdu } from "../wire/pdu.js";
import { findR2t, keepUsefulPart } from "./data-out.js";
import type { TaskRecovery } from "./task-recovery.js";
import type { OpenR2t, TargetTask } from "./task.js";

/** What a Data-Out PDU did to its task above error recovery level 0. */
export type RecoverableResult =
  | "more"
  /** All the data the command takes is there. */
  | "complete"
  /** It belongs to no transfer that is open: data of one that was asked for again, or of none. It is dropped. */
  | "stale"
  /** Overlays, or numbers and offsets that contradict each other: the initiator's fault, and no loss can explain it. */
  | "broken";

/**
 * Takes a Data-Out PDU where PDUs before it may have been lost, or its own data (RFC 7143 §7.8, §7.9): what did not
 * come is noted as missing, and asked for with recovery R2Ts once its sequence is over.
 */
export function acceptRecoverable(
  task: TargetTask,
  recovery: TaskRecovery,
  pdu: ScsiDataOutPdu,
  isDataDigestGood: boolean,
): RecoverableResult {
  const sequence = pdu.targetTransferTag === RESERVED_TAG ? unsolicitedOf(task) : findR2t(task, pdu.targetTransferTag);
  if (sequence === undefined || (pdu.targetTransferTag !== RESERVED_TAG && !lunEquals(pdu.lun, task.lun)))
    return "stale";
  const due = sequence.offset + sequence.received;
  const end = pdu.bufferOffset + pdu.data.length;
  const isGap = pdu.bufferOffset > due;
  const hasLostPdus = pdu.dataSn > sequence.nextDataSn;
  if (pdu.bufferOffset < due || end > sequence.offset + sequence.length) return "broken";
  if (pdu.dataSn < sequence.nextDataSn || (isGap && !hasLostPdus)) return "broken";
  if (isGap) noteMissing(task, recovery, due, pdu.bufferOffset);
  if (isDataDigestGood) {
    keepUsefulPart(task, pdu);
    task.receivedBytes += pdu.data.length;
  } else {
    noteMissing(task, recovery, pdu.bufferOffset, end);
  }
  sequence.received = end - sequence.offset;
  sequence.nextDataSn = pdu.dataSn + 1;
  if (pdu.targetTransferTag === RESERVED_TAG) {
    task.solicitedBytes = end;
    task.nextUnsolicitedDataSn = sequence.nextDataSn;
    if (pdu.isFinal) task.isUnsolicitedOpen = false;
  } else if (pdu.isFinal || sequence.received === sequence.length) {
    closeR2t(task, recovery, sequence);
  }
  return isComplete(task, recovery) ? "complete" : "more";
}

/** Gives up every transfer that is open: what has not come of it is missing (RFC 7143 §7.1.4.1). */
export function abandonTransfers(task: TargetTask, recovery: TaskRecovery): void {
  if (task.isUnsolicitedOpen) {
    noteMissing(task, recovery, task.solicitedBytes, task.unsolicitedEnd);
    task.solicitedBytes = Math.max(task.solicitedBytes, Math.min(task.unsolicitedEnd, task.transferBytes));
    task.isUnsolicitedOpen = false;
  }
  for (const r2t of [...task.openR2ts]) closeR2t(task, recovery, r2t);
}

/** Has all data come that the command takes, and nothing is due? */
export function isComplete(task: TargetTask, recovery: TaskRecovery): boolean {
  return !task.isDataDue && recovery.missing.length === 0 && task.solicitedBytes >= task.transferBytes;
}

/** Unsolicited data as a transfer of its own: it begins where the immediate data ends. */
function unsolicitedOf(task: TargetTask): OpenR2t | undefined {
  if (!task.isUnsolicitedOpen) return undefined;
  return {
    targetTransferTag: RESERVED_TAG,
    offset: task.solicitedBytes,
    length: task.unsolicitedEnd - task.solicitedBytes,
    received: 0,
    nextDataSn: task.nextUnsolicitedDataSn,
  };
}

function closeR2t(task: TargetTask, recovery: TaskRecovery, r2t: OpenR2t): void {
  task.openR2ts.splice(task.openR2ts.indexOf(r2t), 1);
  for (const [r2tSn, sent] of recovery.sentR2ts) {
    if (sent.targetTransferTag === r2t.targetTransferTag) recovery.sentR2ts.delete(r2tSn);
  }
  noteMissing(task, recovery, r2t.offset + r2t.received, r2t.offset + r2t.length);
}

/** Data beyond what the command takes is of no use and is not missed. */
function noteMissing(task: TargetTask, recovery: TaskRecovery, offset: number, end: number): void {
  const usefulEnd = Math.min(end, task.transferBytes);
  if (offset < usefulEnd) recovery.missing.push({ offset, end: usefulEnd });
}
