import { serialLess, serialLessOrEqual } from "../base/serial32.js";
import { lunEquals } from "../base/lun.js";
import { TaskManagementFunction, TaskManagementResponseCode } from "../wire/constants.js";
import type { TaskManagementRequestPdu } from "../wire/pdu.js";
import { Condition } from "./scsi/check-condition.js";
import type { LogicalUnit } from "./scsi/logical-unit.js";
import type { TargetSession } from "./session.js";

/** What task management can reach beyond its own session. */
export interface TaskManagementScope {
  /** All sessions of the target, the asking one included. */
  sessions(): Iterable<TargetSession>;
  units(): Iterable<LogicalUnit>;
}

export interface TaskManagementAnswer {
  readonly response: number;
  readonly additionalResponse: number;
  /** TARGET COLD RESET ends all sessions once the response is sent. */
  readonly endsSessions?: boolean;
}

const Code = TaskManagementResponseCode;

function answer(response: number, additionalResponse = 0): TaskManagementAnswer {
  return { response, additionalResponse };
}

/** Functions 1 to 8 of RFC 7143 §11.5.1 and 9 to 12 of RFC 7144 §4.2; resolves when the affected tasks have ended. */
export async function manageTasks(
  session: TargetSession,
  pdu: TaskManagementRequestPdu,
  scope: TaskManagementScope,
): Promise<TaskManagementAnswer> {
  switch (pdu.function) {
    case TaskManagementFunction.abortTask:
      return abortTask(session, pdu);
    case TaskManagementFunction.taskReassign:
      return answer(Code.reassignmentNotSupported);
    case TaskManagementFunction.targetWarmReset:
    case TaskManagementFunction.targetColdReset:
      return resetTarget(pdu, scope);
    case TaskManagementFunction.abortTaskSet:
    case TaskManagementFunction.clearTaskSet:
    case TaskManagementFunction.logicalUnitReset:
      return manageUnit(session, pdu, scope);
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

/** §11.5.1 and §11.6.1: a task not yet received, within the window and before this request, counts as aborted. */
async function abortTask(session: TargetSession, pdu: TaskManagementRequestPdu): Promise<TaskManagementAnswer> {
  const task = session.runner.tasks.get(pdu.referencedTaskTag);
  if (task !== undefined) {
    if (!lunEquals(task.lun, pdu.lun)) return answer(Code.taskDoesNotExist);
    await session.runner.abort(task);
    return answer(Code.functionComplete);
  }
  const { expCmdSn, maxCmdSn } = session.window;
  const isInWindow = serialLessOrEqual(expCmdSn, pdu.refCmdSn) && serialLessOrEqual(pdu.refCmdSn, maxCmdSn);
  return answer(isInWindow && serialLess(pdu.refCmdSn, pdu.cmdSn) ? Code.functionComplete : Code.taskDoesNotExist);
}

async function manageUnit(
  session: TargetSession,
  pdu: TaskManagementRequestPdu,
  scope: TaskManagementScope,
): Promise<TaskManagementAnswer> {
  const unit = session.deviceServer.unit(pdu.lun);
  if (unit === undefined) return answer(Code.lunDoesNotExist);
  if (pdu.function === TaskManagementFunction.abortTaskSet) {
    await session.abortTasks(unit);
    return answer(Code.functionComplete);
  }
  const isReset = pdu.function === TaskManagementFunction.logicalUnitReset;
  await Promise.all(
    [...scope.sessions()].map((other) => {
      const hasTasks = other.hasTasks(unit);
      if (!isReset && hasTasks && other !== session) {
        unit.attentions.add(other.nexus.portName, Condition.commandsClearedByAnotherInitiator);
      }
      return other.abortTasks(unit);
    }),
  );
  if (isReset) unit.reset([...scope.sessions()].map((other) => other.nexus.portName));
  return answer(Code.functionComplete);
}

async function resetTarget(pdu: TaskManagementRequestPdu, scope: TaskManagementScope): Promise<TaskManagementAnswer> {
  const sessions = [...scope.sessions()];
  await Promise.all(sessions.map((other) => other.runner.abortAll()));
  for (const unit of scope.units()) unit.reset(sessions.map((other) => other.nexus.portName));
  const endsSessions = pdu.function === TaskManagementFunction.targetColdReset;
  return { ...answer(Code.functionComplete), endsSessions };
}

async function manageByLevel2(session: TargetSession, pdu: TaskManagementRequestPdu): Promise<TaskManagementAnswer> {
  const unit = session.deviceServer.unit(pdu.lun);
  if (unit === undefined) return answer(Code.lunDoesNotExist);
  switch (pdu.function) {
    case TaskManagementFunction.queryTask: {
      const task = session.runner.tasks.get(pdu.referencedTaskTag);
      const isThere = task !== undefined && lunEquals(task.lun, pdu.lun);
      return answer(isThere ? Code.functionSucceeded : Code.functionComplete);
    }
    case TaskManagementFunction.queryTaskSet:
      return answer(session.hasTasks(unit) ? Code.functionSucceeded : Code.functionComplete);
    case TaskManagementFunction.iTNexusReset:
      await session.runner.abortAll();
      for (const each of session.units()) {
        each.nexusLost(session.nexus.portName);
        each.attentions.add(session.nexus.portName, Condition.nexusLoss);
      }
      return answer(Code.functionComplete);
    default: {
      // QUERY ASYNCHRONOUS EVENT: sense key, ASC and ASCQ of a pending unit attention (SAM-5 §7.9).
      const pending = unit.attentions.peek(session.nexus.portName);
      return pending === undefined
        ? answer(Code.functionComplete)
        : answer(Code.functionSucceeded, (pending.key << 16) | pending.asc);
    }
  }
}
