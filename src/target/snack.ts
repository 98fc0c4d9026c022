import { unreachable } from "../base/assert.js";
import { lunEquals } from "../base/lun.js";
import { serialLess, serialLessOrEqual } from "../base/serial32.js";
import { RejectReason, SnackType } from "../wire/constants.js";
import type { SnackRequestPdu } from "../wire/pdu.js";
import type { ConnectionSlot } from "./connection-slot.js";
import { resendDataIn } from "./data-in.js";
import { continuedPlan, nextDataSnOf } from "./data-in-plan.js";
import type { TargetSession } from "./session.js";
import type { TaskRecovery } from "./task-recovery.js";
import type { TargetTask } from "./task.js";

/** Answers a SNACK Request (RFC 7143 §11.16) with what it asks for, or with Reject. `header` is borrowed. */
export function answerSnack(session: TargetSession, slot: ConnectionSlot, pdu: SnackRequestPdu, header: Buffer): void {
  if (slot.log === undefined) {
    slot.reject(RejectReason.snackReject, header);
    return;
  }
  switch (pdu.snackType) {
    case SnackType.status:
      session.tally.statusSnacks += 1;
      resendStatus(slot, pdu, header);
      return;
    case SnackType.dataAck:
      session.tally.dataAcks += 1;
      acknowledgeData(session, slot, pdu, header);
      return;
    case SnackType.dataOrR2t:
    case SnackType.rData: {
      const task = findTask(session, slot, pdu.initiatorTaskTag);
      if (task?.recovery === undefined) slot.reject(RejectReason.protocolError, header);
      else if (pdu.snackType === SnackType.rData) resegment(session, slot, task, task.recovery, pdu);
      else resendRun(session, slot, task, task.recovery, pdu, header);
      return;
    }
    default:
      unreachable(pdu.snackType);
  }
}

function findTask(session: TargetSession, slot: ConnectionSlot, initiatorTaskTag: number): TargetTask | undefined {
  const { runner } = session;
  const task = runner.tasks.get(initiatorTaskTag) ?? runner.concluded.get(initiatorTaskTag);
  return task?.slot === slot ? task : undefined;
}

/** Responses are sent again with the numbers they had; the window is today's. */
function resendStatus(slot: ConnectionSlot, pdu: SnackRequestPdu, header: Buffer): void {
  const isAll = pdu.begRun === 0 && pdu.runLength === 0;
  const first = isAll ? slot.expStatSn : pdu.begRun;
  const next = slot.connection.statSn;
  const last = pdu.runLength === 0 ? next : (first + pdu.runLength) >>> 0;
  const isKnown = serialLessOrEqual(slot.expStatSn, first) && serialLess(first, next) && serialLessOrEqual(last, next);
  if (!isKnown) {
    if (!isAll) slot.reject(RejectReason.protocolError, header);
    return;
  }
  const run = slot.log?.run(first, pdu.runLength, next) ?? [];
  for (const kept of run) if (kept !== undefined) slot.resend(kept.pdu);
  if (run.includes(undefined)) slot.reject(RejectReason.snackReject, header);
}

/** §11.16.2: frees data; nothing is sent. What was never sent with the A bit cannot be acknowledged. */
function acknowledgeData(session: TargetSession, slot: ConnectionSlot, pdu: SnackRequestPdu, header: Buffer): void {
  for (const task of session.runner.concluded.values()) {
    const { recovery } = task;
    if (recovery?.plan === undefined || recovery.dataAckTag !== pdu.targetTransferTag || task.slot !== slot) continue;
    const next = nextDataSnOf(recovery.plan);
    if (!lunEquals(pdu.lun, task.lun) || pdu.begRun < recovery.acknowledgedDataSn || pdu.begRun > next) break;
    recovery.acknowledgedDataSn = pdu.begRun;
    // While the status is in the last Data-In PDU, a Status SNACK may still ask for that data.
    const isStatusApart = recovery.statSn !== undefined && slot.log?.at(recovery.statSn)?.type === "scsi-response";
    if (pdu.begRun === next && isStatusApart) session.runner.releaseData(task);
    return;
  }
  slot.reject(RejectReason.invalidDataAck, header);
}

function resendRun(
  session: TargetSession,
  slot: ConnectionSlot,
  task: TargetTask,
  recovery: TaskRecovery,
  pdu: SnackRequestPdu,
  header: Buffer,
): void {
  session.tally.dataSnacks += 1;
  const isAll = pdu.begRun === 0 && pdu.runLength === 0;
  const next = recovery.plan === undefined ? task.nextR2tSn : nextDataSnOf(recovery.plan);
  const first = isAll ? recovery.acknowledgedDataSn : pdu.begRun;
  const last = pdu.runLength === 0 ? next : first + pdu.runLength;
  if (first < recovery.acknowledgedDataSn || first >= next || last > next) {
    if (!isAll) slot.reject(RejectReason.protocolError, header, next);
    return;
  }
  for (const [r2tSn, r2t] of recovery.sentR2ts) {
    if (r2tSn < first || r2tSn >= last) continue;
    recovery.lastDataMs = session.clock.nowMs();
    slot.resend({ ...r2t, statSn: 0, expCmdSn: 0, maxCmdSn: 0 });
  }
  const { plan } = recovery;
  if (plan === undefined || last <= plan.firstDataSn) return;
  if (recovery.isDataAcknowledged) slot.reject(RejectReason.snackReject, header);
  else resendDataIn(slot, task, first, last);
}

/** §11.16.3: all that is not acknowledged is sent again, cut as the initiator takes it now, and a response with its tag. */
function resegment(
  session: TargetSession,
  slot: ConnectionSlot,
  task: TargetTask,
  recovery: TaskRecovery,
  pdu: SnackRequestPdu,
): void {
  session.tally.rDataSnacks += 1;
  recovery.snackTag = pdu.targetTransferTag;
  if (task.state !== "concluded") return;
  const { plan } = recovery;
  if (plan !== undefined) {
    const dataSn = Math.max(recovery.acknowledgedDataSn, plan.firstDataSn);
    recovery.plan = continuedPlan(plan, dataSn, slot.parameters.initiatorMaxRecvDataSegmentLength);
  }
  session.runner.sendConcluded(task);
}
