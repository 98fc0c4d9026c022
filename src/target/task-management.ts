import { TARGET_ABORT_WAIT_MS } from "../base/limits.js";
import { lunEquals } from "../base/lun.js";
import { serialLess, serialLessOrEqual } from "../base/serial32.js";
import { AsyncEvent, TaskManagementFunction, TaskManagementResponseCode } from "../wire/constants.js";
import type { TaskManagementRequestPdu } from "../wire/pdu.js";
import type { ConnectionSlot } from "./connection-slot.js";
import { reassign } from "./reassign.js";
import { Condition } from "./scsi/check-condition.js";
import type { LogicalUnit } from "./scsi/logical-unit.js";
import type { TargetSession } from "./session.js";
import type { TargetTask } from "./task.js";

/** What task management can reach beyond its own session. */
export interface TaskManagementScope {
  /** All sessions of the target, the asking one included. */
  sessions(): Iterable<TargetSession>;
  units(): Iterable<LogicalUnit>;
}

export interface TaskManagementAnswer {
  readonly response: number;
  readonly additionalResponse: number;
  /** Goes out only after all earlier responses have been acknowledged (RFC 7143 §4.2.2.3.4). */
  readonly isFenced?: boolean;
  /** What ends once the response is sent: TARGET COLD RESET and I_T NEXUS RESET (RFC 7144 §6.3). */
  readonly ends?: "session" | "target";
  /** Takes effect once the response is sent. */
  readonly afterResponse?: () => void;
}

const Code = TaskManagementResponseCode;

function answer(response: number, additionalResponse = 0): TaskManagementAnswer {
  return { response, additionalResponse };
}

const FENCED: TaskManagementAnswer = { response: Code.functionComplete, additionalResponse: 0, isFenced: true };

/** Functions 1 to 8 of RFC 7143 §11.5.1 and 9 to 12 of RFC 7144 §4.2; resolves when the affected tasks have ended. */
export async function manageTasks(
  session: TargetSession,
  slot: ConnectionSlot,
  pdu: TaskManagementRequestPdu,
  scope: TaskManagementScope,
): Promise<TaskManagementAnswer> {
  switch (pdu.function) {
    case TaskManagementFunction.abortTask:
      return abortTask(session, slot, pdu);
    case TaskManagementFunction.taskReassign:
      return reassignTask(session, slot, pdu);
    case TaskManagementFunction.targetWarmReset:
    case TaskManagementFunction.targetColdReset:
      return resetTarget(session, pdu, scope);
    case TaskManagementFunction.abortTaskSet:
    case TaskManagementFunction.clearTaskSet:
    case TaskManagementFunction.logicalUnitReset:
      return manageUnit(session, slot, pdu, scope);
    default:
      return isRfc7144(pdu.function) && session.parameters.iscsiProtocolLevel >= 2
        ? manageByLevel2(session, pdu)
        : answer(Code.functionNotSupported);
  }
}

function isRfc7144(managementFunction: number): boolean {
  return (
    managementFunction >= TaskManagementFunction.queryTask &&
    managementFunction <= TaskManagementFunction.queryAsyncEvent
  );
}

/**
 * §11.5.1 and §11.6.1: a task not yet received, within the window and before this request, counts as aborted: its
 * CmdSN is taken as received. A concluded task whose connection was logged out is sent its status again first.
 */
async function abortTask(
  session: TargetSession,
  slot: ConnectionSlot,
  pdu: TaskManagementRequestPdu,
): Promise<TaskManagementAnswer> {
  const task = session.runner.tasks.get(pdu.referencedTaskTag);
  if (task !== undefined) {
    if (!lunEquals(task.lun, pdu.lun)) return answer(Code.taskDoesNotExist);
    const isElsewhere = task.slot !== slot;
    await session.runner.abort(task);
    return { ...answer(Code.functionComplete), isFenced: isElsewhere };
  }
  const concluded = session.runner.concluded.get(pdu.referencedTaskTag);
  if (concluded?.slot.state === "recovering" && lunEquals(concluded.lun, pdu.lun)) {
    reassign(session.runner, slot, concluded, 0);
    return answer(Code.functionComplete);
  }
  return answerMissing(session, pdu);
}

/** §11.6.1 b and c: the task is not here. If its command may still come, its CmdSN counts as received. */
function answerMissing(session: TargetSession, pdu: TaskManagementRequestPdu): TaskManagementAnswer {
  const { expCmdSn, maxCmdSn } = session.window;
  const isInWindow = serialLessOrEqual(expCmdSn, pdu.refCmdSn) && serialLessOrEqual(pdu.refCmdSn, maxCmdSn);
  if (!isInWindow || !serialLess(pdu.refCmdSn, pdu.cmdSn)) return answer(Code.taskDoesNotExist);
  session.intake.plug(pdu.refCmdSn);
  return answer(Code.functionComplete);
}

/** §7.2.2 and §11.5.1: only a task whose connection was logged out for recovery finds a new one. */
function reassignTask(
  session: TargetSession,
  slot: ConnectionSlot,
  pdu: TaskManagementRequestPdu,
): TaskManagementAnswer {
  if (session.parameters.errorRecoveryLevel < 2) return answer(Code.reassignmentNotSupported);
  const { runner } = session;
  const task = runner.tasks.get(pdu.referencedTaskTag) ?? runner.concluded.get(pdu.referencedTaskTag);
  if (task === undefined) return answer(Code.taskDoesNotExist);
  if (task.slot.state !== "recovering") return answer(Code.taskStillAllegiant);
  session.tally.taskReassigns += 1;
  return { ...answer(Code.functionComplete), afterResponse: () => reassign(runner, slot, task, pdu.expDataSn) };
}

/** §4.2.3.3 and §4.2.3.4: the order of what the target does is the RFC's. */
async function manageUnit(
  session: TargetSession,
  slot: ConnectionSlot,
  pdu: TaskManagementRequestPdu,
  scope: TaskManagementScope,
): Promise<TaskManagementAnswer> {
  const unit = session.deviceServer.unit(pdu.lun);
  if (unit === undefined) return answer(Code.lunDoesNotExist);
  if (!(await session.waitAtMost(session.window.whenReceived(pdu.cmdSn), TARGET_ABORT_WAIT_MS))) {
    session.intake.plugBefore(pdu.cmdSn);
  }
  const isReset = pdu.function === TaskManagementFunction.logicalUnitReset;
  const isOwnOnly = pdu.function === TaskManagementFunction.abortTaskSet;
  const own = tasksOf(session, unit).filter((task) => isReset || isBefore(task, pdu));
  const others = isOwnOnly ? [] : [...scope.sessions()].filter((other) => other !== session);
  const aborts = [abortOwn(session, slot, pdu, own)];
  for (const other of others) {
    const affected = tasksOf(other, unit);
    if (affected.length === 0) continue;
    if (!isReset) unit.attentions.add(other.nexus.id, Condition.commandsClearedByAnotherInitiator);
    announceTermination(other, unit, affected, undefined);
    other.fence.fenceNext();
    aborts.push(other.abortTasks(unit));
  }
  await Promise.all(aborts);
  if (isReset) {
    unit.reset([...scope.sessions()].map((other) => other.nexus.id));
    for (const other of scope.sessions()) other.fence.fenceNext();
  }
  return FENCED;
}

/** Ends the tasks of the asking session: with FastAbort at once, else after the data that was asked for has come. */
async function abortOwn(
  session: TargetSession,
  slot: ConnectionSlot,
  pdu: TaskManagementRequestPdu,
  tasks: readonly TargetTask[],
): Promise<void> {
  if (session.parameters.taskReporting === "FastAbort") {
    const unit = session.deviceServer.unit(pdu.lun);
    if (unit !== undefined) announceTermination(session, unit, tasks, slot);
  } else {
    const drained = Promise.all(tasks.map((task) => session.runner.drain(task)));
    await session.waitAtMost(drained, TARGET_ABORT_WAIT_MS);
  }
  await Promise.all(tasks.map((task) => session.runner.abort(task)));
}

/** §4.2.3.4 d: connections with affected tasks are told, where FastAbort was agreed on, but for the asking one. */
function announceTermination(
  session: TargetSession,
  unit: LogicalUnit,
  tasks: readonly TargetTask[],
  except: ConnectionSlot | undefined,
): void {
  if (session.parameters.taskReporting !== "FastAbort") return;
  const affected = tasks.filter((task) => task.command?.unit === unit);
  for (const slot of new Set(affected.map((task) => task.slot))) {
    const lun = affected.find((task) => task.slot === slot)?.lun;
    if (slot !== except && lun !== undefined) slot.sendAsync({ asyncEvent: AsyncEvent.fastAbort, lun });
  }
}

function tasksOf(session: TargetSession, unit: LogicalUnit): TargetTask[] {
  return [...session.runner.tasks.values()].filter((task) => task.command?.unit === unit);
}

/** §11.5.1: task management acts on the commands with a CmdSN lower than its own; immediate ones share it. */
function isBefore(task: TargetTask, pdu: TaskManagementRequestPdu): boolean {
  return task.isImmediate ? serialLessOrEqual(task.cmdSn, pdu.cmdSn) : serialLess(task.cmdSn, pdu.cmdSn);
}

/** §4.2.3.3 b: commands that have not come count as received. */
async function resetTarget(
  session: TargetSession,
  pdu: TaskManagementRequestPdu,
  scope: TaskManagementScope,
): Promise<TaskManagementAnswer> {
  session.intake.plugBefore(pdu.cmdSn);
  const sessions = [...scope.sessions()];
  for (const other of sessions) {
    for (const unit of scope.units()) announceTermination(other, unit, tasksOf(other, unit), undefined);
    other.fence.fenceNext();
  }
  await Promise.all(sessions.map((other) => other.runner.abortActive()));
  for (const unit of scope.units()) unit.reset(sessions.map((other) => other.nexus.id));
  return pdu.function === TaskManagementFunction.targetColdReset ? { ...FENCED, ends: "target" } : FENCED;
}

async function manageByLevel2(session: TargetSession, pdu: TaskManagementRequestPdu): Promise<TaskManagementAnswer> {
  if (pdu.function === TaskManagementFunction.iTNexusReset) {
    // The LUN field is reserved here (RFC 7144 §6.3.1).
    await session.runner.abortActive();
    return { ...FENCED, ends: "session" };
  }
  const unit = session.deviceServer.unit(pdu.lun);
  if (unit === undefined) return answer(Code.lunDoesNotExist);
  switch (pdu.function) {
    case TaskManagementFunction.queryTask: {
      const task = session.runner.tasks.get(pdu.referencedTaskTag);
      if (task !== undefined && lunEquals(task.lun, pdu.lun)) return answer(Code.functionSucceeded);
      // RFC 7144 §6.3.3: RefCmdSN is used as for ABORT TASK.
      return answerMissing(session, pdu);
    }
    case TaskManagementFunction.queryTaskSet:
      return answer(session.hasTasks(unit) ? Code.functionSucceeded : Code.functionComplete);
    default: {
      // QUERY ASYNCHRONOUS EVENT: sense key, ASC and ASCQ of a pending unit attention (SAM-5 §7.9).
      const pending = unit.attentions.peek(session.nexus.id);
      return pending === undefined
        ? answer(Code.functionComplete)
        : answer(Code.functionSucceeded, (pending.key << 16) | pending.asc);
    }
  }
}
