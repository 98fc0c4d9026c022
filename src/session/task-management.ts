import { type Lun, LUN_ZERO } from "../base/lun.js";
import { RESERVED_TAG, TaskManagementFunction, TaskManagementResponseCode } from "../wire/constants.js";
import type { InitiatorPdu } from "../wire/pdu.js";
import { SessionError, protocolError } from "./errors.js";
import { type SessionContext, request } from "./session-context.js";
import type { TaskRecord } from "./task-record.js";

/** What `Session.taskManagement` can be asked for; aborting one task is the escalation's own business. */
export type TaskManagementRequest =
  | { readonly function: "abort-task-set" | "clear-aca" | "clear-task-set" | "lun-reset"; readonly lun: Lun }
  | { readonly function: "target-warm-reset" | "target-cold-reset" };

const functionCodes = {
  "abort-task-set": TaskManagementFunction.abortTaskSet,
  "clear-aca": TaskManagementFunction.clearAca,
  "clear-task-set": TaskManagementFunction.clearTaskSet,
  "lun-reset": TaskManagementFunction.logicalUnitReset,
  "target-warm-reset": TaskManagementFunction.targetWarmReset,
  "target-cold-reset": TaskManagementFunction.targetColdReset,
} as const;

interface Numbers {
  readonly tag: number;
  readonly cmdSn: number;
  readonly expStatSn: number;
}

/** ABORT TASK for one task: its tag and its CmdSN (RFC 7143 §11.5.5, §11.5.6). */
export function abortTaskPdu(record: TaskRecord, { tag, cmdSn, expStatSn }: Numbers): InitiatorPdu {
  return {
    type: "task-management-request",
    isImmediate: true,
    function: TaskManagementFunction.abortTask,
    lun: record.task.lun,
    initiatorTaskTag: tag,
    referencedTaskTag: record.initiatorTaskTag,
    cmdSn,
    expStatSn,
    refCmdSn: record.cmdSn,
    expDataSn: 0,
  };
}

/** Any other function: no task is referenced. */
export function taskManagementPdu(request: TaskManagementRequest, { tag, cmdSn, expStatSn }: Numbers): InitiatorPdu {
  return {
    type: "task-management-request",
    isImmediate: true,
    function: functionCodes[request.function],
    lun: "lun" in request ? request.lun : LUN_ZERO,
    initiatorTaskTag: tag,
    referencedTaskTag: RESERVED_TAG,
    cmdSn,
    expStatSn,
    refCmdSn: 0,
    expDataSn: 0,
  };
}

const responseTexts: Readonly<Record<number, string>> = {
  [TaskManagementResponseCode.taskDoesNotExist]: "the task does not exist",
  [TaskManagementResponseCode.lunDoesNotExist]: "the LUN does not exist",
  [TaskManagementResponseCode.taskStillAllegiant]: "the task is still allegiant to another connection",
  [TaskManagementResponseCode.reassignmentNotSupported]: "task reassignment is not supported",
  [TaskManagementResponseCode.functionNotSupported]: "the function is not supported",
  [TaskManagementResponseCode.authorizationFailed]: "we are not authorized",
  [TaskManagementResponseCode.functionRejected]: "the function was rejected",
};

/** Throws SESSION_TASK_MANAGEMENT_FAILED unless the function was carried out (RFC 7143 §11.6.1). */
export function requireFunctionComplete(name: string, response: number): void {
  const { functionComplete, functionSucceeded } = TaskManagementResponseCode;
  if (response === functionComplete || response === functionSucceeded) return;
  throw new SessionError(
    "SESSION_TASK_MANAGEMENT_FAILED",
    `${name} failed: ${responseTexts[response] ?? `response code ${response}`}`,
    { details: { response } },
  );
}

/** One function over the present connection; tasks of ours that it ended fail with SESSION_TASK_ABORTED. */
export async function manageTasks(context: SessionContext, management: TaskManagementRequest): Promise<void> {
  const { dispatcher, timers } = context;
  const affected = dispatcher.active("lun" in management ? management.lun : undefined);
  const timeoutMs = "lun" in management ? timers.lunResetTimeoutMs : timers.targetResetTimeoutMs;
  const answer = await request(context, { what: management.function, timeoutMs }, (numbers) =>
    taskManagementPdu(management, numbers),
  );
  if (answer.type !== "task-management-response") {
    throw protocolError("§11.6", `${answer.type} in answer to a task management request`);
  }
  requireFunctionComplete(management.function, answer.response);
  if (management.function === "clear-aca") return;
  const error = new SessionError("SESSION_TASK_ABORTED", `${management.function} ended the task`, {
    retry: "same-path",
  });
  for (const record of affected) {
    if (dispatcher.has(record)) dispatcher.complete(record, { kind: "failed", error });
  }
}
