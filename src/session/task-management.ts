import { type Lun, LUN_ZERO } from "../base/lun.js";
import { RESERVED_TAG, TaskManagementFunction, TaskManagementResponseCode } from "../wire/constants.js";
import type { TaskManagementRequestPdu, TaskManagementResponsePdu } from "../wire/pdu.js";
import { SessionError } from "./errors.js";
import { type RequestNumbers, type RequestOptions, type SessionContext, request } from "./session-context.js";
import type { TaskRecord } from "./task-record.js";

/**
 * What `Session.taskManagement` can be asked for; aborting one task is the escalation's own business. The last two lines
 * are of RFC 7144, and need iSCSIProtocolLevel 2.
 */
export type TaskManagementRequest =
  | { readonly function: "abort-task-set" | "clear-aca" | "clear-task-set" | "lun-reset"; readonly lun: Lun }
  | { readonly function: "target-warm-reset" | "target-cold-reset" }
  | { readonly function: "query-task-set" | "query-async-event"; readonly lun: Lun }
  | { readonly function: "i-t-nexus-reset" };

const functionCodes = {
  "abort-task-set": TaskManagementFunction.abortTaskSet,
  "clear-aca": TaskManagementFunction.clearAca,
  "clear-task-set": TaskManagementFunction.clearTaskSet,
  "lun-reset": TaskManagementFunction.logicalUnitReset,
  "target-warm-reset": TaskManagementFunction.targetWarmReset,
  "target-cold-reset": TaskManagementFunction.targetColdReset,
  "query-task-set": TaskManagementFunction.queryTaskSet,
  "query-async-event": TaskManagementFunction.queryAsyncEvent,
  "i-t-nexus-reset": TaskManagementFunction.iTNexusReset,
} as const;

type FunctionName = keyof typeof functionCodes;

/** Those that ask without ending anything. */
const questions: ReadonlySet<FunctionName> = new Set(["clear-aca", "query-task-set", "query-async-event"]);

/** RFC 7144 §4.2: only where both sides agreed on the level. */
const levelTwo: ReadonlySet<FunctionName> = new Set(["query-task-set", "query-async-event", "i-t-nexus-reset"]);

/** What the target said to a function that was carried out. */
export interface TaskManagementAnswer {
  /** Of a question: is there such a task, task set or event (RFC 7144 §4.2)? Of anything else true. */
  readonly isPresent: boolean;
  /** What it says beyond that, for `query-async-event`: raw (RFC 7144 §4.3). */
  readonly additionalResponse: number;
}

/** ABORT TASK for one task: its tag and its CmdSN (RFC 7143 §11.5.5, §11.5.6). */
export function abortTaskPdu(record: TaskRecord, { tag, cmdSn, expStatSn }: RequestNumbers): TaskManagementRequestPdu {
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
export function taskManagementPdu(
  request: TaskManagementRequest,
  { tag, cmdSn, expStatSn }: RequestNumbers,
): TaskManagementRequestPdu {
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

/** One task management function and its answer. Rejects with SessionError. */
export function requestFunction(
  context: SessionContext,
  options: Omit<RequestOptions<"task-management-response">, "answer">,
  build: (numbers: RequestNumbers) => TaskManagementRequestPdu,
): Promise<TaskManagementResponsePdu> {
  return request(context, { ...options, answer: "task-management-response" }, build);
}

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

/** One function; tasks of ours that it ended fail with SESSION_TASK_ABORTED. */
export async function manageTasks(
  context: SessionContext,
  management: TaskManagementRequest,
): Promise<TaskManagementAnswer> {
  const { dispatcher, timers, connections, connection } = context;
  const name = management.function;
  requireLevel(context, name);
  const affected = questions.has(name) ? [] : dispatcher.active("lun" in management ? management.lun : undefined);
  for (const record of affected) record.isBeingEnded = true;
  const timeoutMs = "lun" in management ? timers.lunResetTimeoutMs : timers.targetResetTimeoutMs;
  try {
    const answer = await requestFunction(context, { what: name, timeoutMs, connection }, (numbers) =>
      taskManagementPdu(management, numbers),
    );
    requireFunctionComplete(name, answer.response);
    const error = new SessionError("SESSION_TASK_ABORTED", `${name} ended the task`, { retry: "same-path" });
    for (const record of affected) {
      // Over another connection its answer may still be under way.
      if (!dispatcher.has(record)) continue;
      if (connections.size > 1) dispatcher.abandon(record, { kind: "failed", error });
      else dispatcher.complete(record, { kind: "failed", error });
    }
    return presence(name, answer);
  } finally {
    for (const record of affected) record.isBeingEnded = false;
  }
}

/** QUERY TASK (RFC 7144 §6.3): does the target have this task of ours? Rejects with SessionError. */
export async function queryTask(context: SessionContext, record: TaskRecord): Promise<boolean> {
  requireLevel(context, "query-task-set");
  const { connection } = record;
  const options = { what: "QUERY TASK", timeoutMs: context.timers.abortTimeoutMs, connection };
  const answer = await requestFunction(context, options, (numbers) => ({
    ...abortTaskPdu(record, numbers),
    function: TaskManagementFunction.queryTask,
  }));
  requireFunctionComplete("QUERY TASK", answer.response);
  return answer.response === TaskManagementResponseCode.functionSucceeded;
}

function requireLevel({ connection }: SessionContext, name: FunctionName): void {
  const level = connection?.parameters.iscsiProtocolLevel ?? 1;
  if (!levelTwo.has(name) || level >= 2) return;
  throw new SessionError(
    "SESSION_TASK_MANAGEMENT_FAILED",
    `${name} needs iSCSIProtocolLevel 2 (RFC 7144), and ${level} was agreed on with the target`,
    { details: { iscsiProtocolLevel: level } },
  );
}

function presence(name: FunctionName, answer: TaskManagementResponsePdu): TaskManagementAnswer {
  const isQuestion = name === "query-task-set" || name === "query-async-event";
  const isPresent = !isQuestion || answer.response === TaskManagementResponseCode.functionSucceeded;
  return { isPresent, additionalResponse: answer.additionalResponse };
}
