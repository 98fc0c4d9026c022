import { asAppError } from "../base/errors.js";
import { formatLun } from "../base/lun.js";
import { Mutex } from "../base/mutex.js";
import { TaskManagementResponseCode } from "../wire/constants.js";
import { SessionError } from "./errors.js";
import type { SessionContext } from "./session-context.js";
import {
  type TaskManagementRequest,
  abortTaskPdu,
  requestFunction,
  requireFunctionComplete,
  taskManagementPdu,
} from "./task-management.js";
import type { TaskRecord } from "./task-record.js";

/**
 * What happens to a task that ran out of time: abort it; if that does not work reset its unit, then the target, then
 * drop the session. Each step has its own time. No task is given back before it is certain that the target has
 * ended it, because its buffer and its blocks are still in play until then.
 */
export class Escalation {
  readonly #context: SessionContext;
  /** One climb at a time: the resets of one may well end the tasks of the next. */
  readonly #turn = new Mutex();

  constructor(context: SessionContext) {
    this.#context = context;
  }

  begin(record: TaskRecord): void {
    const { dependencies } = this.#context;
    record.isAborting = true;
    const opcode = record.task.cdb[0] ?? 0;
    dependencies.logger.warn("task timed out", { lun: formatLun(record.task.lun), opcode, attempts: record.attempts });
    this.#context.emit({ kind: "task-timeout", lun: record.task.lun, opcode });
    void this.#turn.run(() => this.#climb(record));
  }

  async #climb(record: TaskRecord): Promise<void> {
    const { lun } = record.task;
    const { lunResetTimeoutMs, targetResetTimeoutMs } = this.#context.timers;
    if (!this.#isStuck(record) || (await this.#abortTask(record)) || !this.#isStuck(record)) return;
    if (await this.#reset(record, { function: "lun-reset", lun }, lunResetTimeoutMs)) return;
    if (!this.#isStuck(record)) return;
    if (await this.#reset(record, { function: "target-warm-reset" }, targetResetTimeoutMs)) return;
    if (!this.#isStuck(record)) return;
    this.#report("drop", "succeeded", "no reset helped");
    this.#context.drop(
      new SessionError("SESSION_TIMEOUT", "a task timed out and neither abort nor reset ended it", {
        retry: "same-path",
      }),
    );
  }

  async #abortTask(record: TaskRecord): Promise<boolean> {
    const { dispatcher, timers } = this.#context;
    try {
      // §11.5.1: only the connection the task belongs to knows it.
      const { connection } = record;
      const options = { what: "ABORT TASK", timeoutMs: timers.abortTimeoutMs, connection };
      const answer = await requestFunction(this.#context, options, (numbers) => abortTaskPdu(record, numbers));
      // A task the target does not know has ended as well (§11.6.1); had it answered, that answer came before this.
      if (answer.response !== TaskManagementResponseCode.taskDoesNotExist) {
        requireFunctionComplete("ABORT TASK", answer.response);
      }
    } catch (error) {
      return this.#failed("abort-task", error);
    }
    this.#report("abort-task", "succeeded", "");
    if (dispatcher.has(record)) dispatcher.complete(record, { kind: "failed", error: timedOut(record) });
    return true;
  }

  async #reset(record: TaskRecord, step: TaskManagementRequest, timeoutMs: number): Promise<boolean> {
    const { dispatcher } = this.#context;
    const name = step.function === "lun-reset" ? "lun-reset" : "target-reset";
    const affected = dispatcher.active("lun" in step ? step.lun : undefined);
    for (const each of affected) each.isAborting = true;
    try {
      const answer = await requestFunction(this.#context, { what: step.function, timeoutMs }, (numbers) =>
        taskManagementPdu(step, numbers),
      );
      requireFunctionComplete(step.function, answer.response);
    } catch (error) {
      return this.#failed(name, error);
    }
    this.#report(name, "succeeded", "");
    const ended = affected.filter((each) => each !== record && dispatcher.has(each));
    const error = new SessionError("SESSION_TASK_ABORTED", `a ${name} after a timeout ended the task`);
    // Their answers may be under way on other connections than this one.
    dispatcher.takeBack(ended, error, { mayBeAnswered: this.#context.connections.size > 1 });
    if (dispatcher.has(record)) dispatcher.abandon(record, { kind: "failed", error: timedOut(record) });
    return true;
  }

  #failed(step: "abort-task" | "lun-reset" | "target-reset", error: unknown): false {
    this.#report(step, "failed", asAppError(error).message);
    return false;
  }

  #report(
    step: "abort-task" | "lun-reset" | "target-reset" | "drop",
    outcome: "succeeded" | "failed",
    reason: string,
  ): void {
    this.#context.dependencies.logger.warn("escalation after a task timeout", { step, outcome, reason });
    this.#context.emit({ kind: "escalation", step, outcome, reason });
  }

  /** Still at the target, and not sent anew in the meantime? */
  #isStuck(record: TaskRecord): boolean {
    return this.#context.dispatcher.has(record) && record.isAborting;
  }
}

function timedOut(record: TaskRecord): SessionError {
  const opcode = (record.task.cdb[0] ?? 0).toString(16).padStart(2, "0");
  return new SessionError(
    "SESSION_TASK_TIMEOUT",
    `SCSI command 0x${opcode} to LUN ${formatLun(record.task.lun)} did not end in time and was aborted`,
    { retry: "same-path" },
  );
}
