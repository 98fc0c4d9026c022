import { sleep } from "../base/clock.js";
import { AppError } from "../base/errors.js";
import { LogoutReason } from "../wire/constants.js";
import type { LogoutResponsePdu } from "../wire/pdu.js";
import { SessionError, protocolError } from "./errors.js";
import { type SessionContext, request } from "./session-context.js";

const DRAIN_STEP_MS = 20;
const MAX_DRAIN_MS = 10_000;

const responseTexts: Readonly<Record<number, string>> = {
  1: "the connection is not known",
  2: "connection recovery is not supported",
  3: "cleanup failed",
};

/** Closes the session at the target (RFC 7143 §11.14). Rejects with SESSION_LOGOUT_FAILED, SESSION_TIMEOUT and others. */
export async function logOut(context: SessionContext): Promise<LogoutResponsePdu> {
  const { logoutTimeoutMs } = context.timers;
  const cid = context.connection?.connectionId ?? 0;
  const answer = await request(context, { what: "Logout", timeoutMs: logoutTimeoutMs }, (numbers) => ({
    type: "logout-request",
    isImmediate: true,
    reason: LogoutReason.closeSession,
    initiatorTaskTag: numbers.tag,
    cid,
    cmdSn: numbers.cmdSn,
    expStatSn: numbers.expStatSn,
  }));
  if (answer.type !== "logout-response") throw protocolError("§11.15", `${answer.type} in answer to a Logout Request`);
  if (answer.response !== 0) {
    throw new SessionError(
      "SESSION_LOGOUT_FAILED",
      `the target did not log us out: ${responseTexts[answer.response] ?? `response ${answer.response}`}`,
      { details: { response: answer.response } },
    );
  }
  return answer;
}

/**
 * The target asked for a logout within `timeLimitMs` (RFC 7143 §11.9.1): lets the tasks that are under way end for at
 * most half of that, logs out, and has the session come back after the time the target names.
 */
export async function logOutOnRequest(context: SessionContext, timeLimitMs: number): Promise<void> {
  const { clock, logger } = context.dependencies;
  const deadlineMs = clock.nowMs() + Math.min(timeLimitMs / 2, MAX_DRAIN_MS);
  while (isDraining(context) && context.dispatcher.inFlight > 0 && clock.nowMs() < deadlineMs) {
    await sleep(clock, DRAIN_STEP_MS);
  }
  if (!isDraining(context)) return;
  let delayMs = 0;
  try {
    const answer = await logOut(context);
    delayMs = answer.time2Wait * 1000;
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    logger.warn("logout that the target asked for failed", { error: error.message });
  }
  if (!isDraining(context)) return;
  context.drop(
    new SessionError("SESSION_CONNECTION_LOST", "logged out because the target asked for it", { retry: "same-path" }),
    delayMs,
  );
}

/** Asked anew each time: the state may change while we wait. */
function isDraining(context: SessionContext): boolean {
  return context.state === "draining";
}
