import { sleep } from "../base/clock.js";
import { AppError } from "../base/errors.js";
import { formatLun } from "../base/lun.js";
import type { LoginResult } from "../login/initiator-login.js";
import type { SessionContext } from "./session-context.js";
import { requestFunction, requireFunctionComplete, taskManagementPdu } from "./task-management.js";

/**
 * Makes sure that no write of before can land after a newer one. Logging in again with the same ISID ends the old
 * session's tasks, but only at the same portal group: another group is another nexus, and the target may still be
 * working for the old one. Then the units with unanswered writes are reset, which ends tasks of every nexus; where that is
 * refused we wait until the target has dropped them by itself (RFC 7143 §7.1.4.4: Time2Wait + Time2Retain).
 */
export async function fenceOldNexus(
  context: SessionContext,
  before: LoginResult,
  now: LoginResult,
  signal: AbortSignal,
): Promise<void> {
  if (before.targetPortalGroupTag === now.targetPortalGroupTag) return;
  const { logger, clock } = context.dependencies;
  for (const lun of context.dispatcher.unitsWithUnansweredWrites()) {
    try {
      const answer = await requestFunction(
        context,
        { what: "LUN RESET", timeoutMs: context.timers.lunResetTimeoutMs },
        (numbers) => taskManagementPdu({ function: "lun-reset", lun }, numbers),
      );
      requireFunctionComplete("LUN RESET", answer.response);
      logger.info("unit reset before its writes are sent to another portal group", { lun: formatLun(lun) });
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== "SESSION_TASK_MANAGEMENT_FAILED") throw error;
      const waitMs = (before.parameters.defaultTime2Wait + before.parameters.defaultTime2Retain) * 1000;
      logger.warn("unit cannot be reset, waiting until the old session's tasks are over", { waitMs, error });
      await sleep(clock, waitMs, signal);
    }
  }
}
