import { abandonTransfers, isComplete } from "./data-out-recovery.js";
import { continuedPlan, nextDataSnOf } from "./data-in-plan.js";
import type { ConnectionSlot } from "./connection-slot.js";
import type { TaskRecovery } from "./task-recovery.js";
import type { TaskRunner } from "./task-runner.js";
import type { TargetTask } from "./task.js";

/**
 * Continues a task on another connection (RFC 7143 §7.2.2): a write is asked for what it lacks, a task that has its
 * outcome sends what was not acknowledged, one that runs answers there when it is done. `expDataSn` is that of the
 * TASK REASSIGN, §11.5.6: 0 leaves the acknowledgment reference number as it is.
 */
export function reassign(runner: TaskRunner, slot: ConnectionSlot, task: TargetTask, expDataSn: number): void {
  const { recovery } = task;
  // A connection that went away meanwhile takes nothing: the task can still be reassigned to another.
  if (recovery === undefined || task.slot.state !== "recovering" || slot.state !== "logged-in") return;
  task.slot = slot;
  recovery.snackTag = 0;
  recovery.statSn = undefined;
  if (task.state === "receiving") continueWrite(runner, task, recovery, expDataSn);
  else if (task.state === "concluded") continueRead(runner, slot, task, recovery, expDataSn);
}

function continueWrite(runner: TaskRunner, task: TargetTask, recovery: TaskRecovery, expDataSn: number): void {
  // R2Ts that were lost with the connection are not numbered again: the initiator would miss them.
  const firstOpen = Math.min(task.nextR2tSn, ...recovery.sentR2ts.keys());
  abandonTransfers(task, recovery);
  recovery.sentR2ts.clear();
  const isTold = expDataSn >= firstOpen && expDataSn <= task.nextR2tSn && expDataSn !== 0;
  task.nextR2tSn = isTold ? expDataSn : firstOpen;
  if (isComplete(task, recovery)) runner.resume(task);
  else runner.requestData(task);
}

function continueRead(
  runner: TaskRunner,
  slot: ConnectionSlot,
  task: TargetTask,
  recovery: TaskRecovery,
  expDataSn: number,
): void {
  const { plan } = recovery;
  if (plan !== undefined) {
    const isValid = expDataSn > recovery.acknowledgedDataSn && expDataSn <= nextDataSnOf(plan);
    const dataSn = Math.max(isValid ? expDataSn : recovery.acknowledgedDataSn, plan.firstDataSn);
    recovery.acknowledgedDataSn = dataSn;
    recovery.plan = continuedPlan(plan, dataSn, slot.parameters.initiatorMaxRecvDataSegmentLength);
  }
  runner.sendConcluded(task);
}
