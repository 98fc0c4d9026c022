import { lunEquals } from "../base/lun.js";
import type { NegotiatedParameters } from "../login/parameters.js";
import { RESERVED_TAG } from "../wire/constants.js";
import type { ScsiDataOutPdu } from "../wire/pdu.js";
import { Condition, type SenseCode } from "./scsi/check-condition.js";
import type { ByteRange, UnnumberedR2t } from "./task-recovery.js";
import type { OpenR2t, TargetTask } from "./task.js";

/** What a Data-Out PDU did to its task. */
export type DataOutResult =
  | { readonly kind: "more" }
  /** All the data the command takes is there. */
  | { readonly kind: "complete" }
  /** The sequence is broken: the task ends with this condition (RFC 7143 §11.4.7.2). */
  | { readonly kind: "broken"; readonly condition: SenseCode };

const MORE: DataOutResult = { kind: "more" };
const COMPLETE: DataOutResult = { kind: "complete" };

/**
 * Where a Data-Out PDU belongs, if it is in order: the only place its bytes may be written to. Above error recovery
 * level 0 PDUs before it may be missing.
 */
export function findPlace(
  task: TargetTask,
  targetTransferTag: number,
  offset: number,
  length: number,
): Buffer | undefined {
  const { buffer } = task;
  if (buffer === undefined || task.state !== "receiving") return undefined;
  const end = offset + length;
  if (targetTransferTag === RESERVED_TAG) {
    if (!task.isUnsolicitedOpen || !isDue(task, offset, task.solicitedBytes) || end > task.unsolicitedEnd) {
      return undefined;
    }
  } else {
    const r2t = findR2t(task, targetTransferTag);
    if (r2t === undefined || !isDue(task, offset, r2t.offset + r2t.received) || end > r2t.offset + r2t.length) {
      return undefined;
    }
  }
  // Unsolicited data may go beyond what the command takes: that part has no place.
  return end <= buffer.length ? buffer.subarray(offset, end) : undefined;
}

function isDue(task: TargetTask, offset: number, dueOffset: number): boolean {
  return offset === dueOffset || (task.recovery !== undefined && offset > dueOffset);
}

/** Takes a Data-Out PDU whose data `findPlace` has put where it belongs. */
export function acceptDataOut(task: TargetTask, pdu: ScsiDataOutPdu): DataOutResult {
  if (pdu.targetTransferTag === RESERVED_TAG) return acceptUnsolicited(task, pdu);
  const r2t = findR2t(task, pdu.targetTransferTag);
  if (r2t === undefined || !lunEquals(pdu.lun, task.lun)) return broken(Condition.unexpectedUnsolicitedData);
  const end = r2t.received + pdu.data.length;
  const isInOrder = pdu.dataSn === r2t.nextDataSn && pdu.bufferOffset === r2t.offset + r2t.received;
  if (!isInOrder || end > r2t.length || pdu.isFinal !== (end === r2t.length)) {
    return broken(Condition.notEnoughUnsolicitedData);
  }
  r2t.received = end;
  r2t.nextDataSn += 1;
  task.receivedBytes += pdu.data.length;
  if (pdu.isFinal) task.openR2ts.splice(task.openR2ts.indexOf(r2t), 1);
  return task.receivedBytes >= task.transferBytes ? COMPLETE : MORE;
}

function acceptUnsolicited(task: TargetTask, pdu: ScsiDataOutPdu): DataOutResult {
  const end = pdu.bufferOffset + pdu.data.length;
  if (!task.isUnsolicitedOpen || end > task.unsolicitedEnd) return broken(Condition.unexpectedUnsolicitedData);
  if (pdu.dataSn !== task.nextUnsolicitedDataSn || pdu.bufferOffset !== task.receivedBytes) {
    return broken(Condition.notEnoughUnsolicitedData);
  }
  keepUsefulPart(task, pdu);
  task.receivedBytes = end;
  task.solicitedBytes = end;
  task.nextUnsolicitedDataSn += 1;
  if (!pdu.isFinal) return MORE;
  task.isUnsolicitedOpen = false;
  return task.receivedBytes >= task.transferBytes ? COMPLETE : MORE;
}

/** A last piece that reaches beyond what the command takes had no place: its useful part is copied. */
export function keepUsefulPart(task: TargetTask, pdu: ScsiDataOutPdu): void {
  const { buffer } = task;
  if (buffer === undefined || pdu.bufferOffset + pdu.data.length <= buffer.length) return;
  if (pdu.bufferOffset < buffer.length) {
    pdu.data.copy(buffer, pdu.bufferOffset, 0, buffer.length - pdu.bufferOffset);
  }
}

/** The next R2Ts of a task, as many as may be outstanding (RFC 7143 §11.8, §13.17): first for what came to harm. */
export function nextR2ts(task: TargetTask, parameters: NegotiatedParameters, takeTag: () => number): UnnumberedR2t[] {
  const r2ts: UnnumberedR2t[] = [];
  if (task.isUnsolicitedOpen) return r2ts;
  while (task.openR2ts.length < parameters.maxOutstandingR2T) {
    const range = nextMissing(task, parameters.maxBurstLength) ?? nextUnasked(task, parameters.maxBurstLength);
    if (range === undefined) return r2ts;
    const { offset } = range;
    const length = range.end - offset;
    const open: OpenR2t = { targetTransferTag: takeTag(), offset, length, received: 0, nextDataSn: 0 };
    task.openR2ts.push(open);
    const r2t: UnnumberedR2t = {
      type: "ready-to-transfer",
      lun: task.lun,
      initiatorTaskTag: task.initiatorTaskTag,
      targetTransferTag: open.targetTransferTag,
      r2tSn: task.nextR2tSn,
      bufferOffset: offset,
      desiredDataTransferLength: length,
    };
    task.recovery?.sentR2ts.set(r2t.r2tSn, r2t);
    r2ts.push(r2t);
    task.nextR2tSn += 1;
  }
  return r2ts;
}

function nextUnasked(task: TargetTask, burstBytes: number): ByteRange | undefined {
  const offset = task.solicitedBytes;
  if (offset >= task.transferBytes) return undefined;
  task.solicitedBytes = Math.min(offset + burstBytes, task.transferBytes);
  return { offset, end: task.solicitedBytes };
}

function nextMissing(task: TargetTask, burstBytes: number): ByteRange | undefined {
  const { recovery } = task;
  const range = recovery?.missing.shift();
  if (recovery === undefined || range === undefined) return undefined;
  recovery.recoveryR2tCount += 1;
  const end = Math.min(range.end, range.offset + burstBytes);
  if (end < range.end) recovery.missing.unshift({ offset: end, end: range.end });
  return { offset: range.offset, end };
}

/** The transfer a Data-Out PDU with this tag belongs to. */
export function findR2t(task: TargetTask, targetTransferTag: number): OpenR2t | undefined {
  for (const r2t of task.openR2ts) if (r2t.targetTransferTag === targetTransferTag) return r2t;
  return undefined;
}

function broken(condition: SenseCode): DataOutResult {
  return { kind: "broken", condition };
}
