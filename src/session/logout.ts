import { sleep } from "../base/clock.js";
import { asAppError } from "../base/errors.js";
import { LogoutReason } from "../wire/constants.js";
import type { LogoutResponsePdu } from "../wire/pdu.js";
import { SessionError } from "./errors.js";
import type { Connection } from "./connection.js";
import { type AnnouncedTimes, type SessionContext, request } from "./session-context.js";

const DRAIN_STEP_MS = 20;
const MAX_DRAIN_MS = 10_000;
const QUIESCE_STEP_MS = 2;
const MAX_QUIESCE_MS = 1_000;

const responseTexts: Readonly<Record<number, string>> = {
  1: "the connection is not known",
  2: "connection recovery is not supported",
  3: "cleanup failed",
};

export interface LogoutOptions {
  /** See LogoutReason. */
  readonly reason: number;
  /** The connection that is logged out; it need not exist any more (RFC 7143 §11.14.1). */
  readonly of: Connection;
  /** The connection that says so; default `of`. */
  readonly over?: Connection;
}

/** One logout (RFC 7143 §11.14). Rejects with SESSION_LOGOUT_FAILED, whose detail `response` is the target's, SESSION_TIMEOUT and others. */
export async function logOut(context: SessionContext, options: LogoutOptions): Promise<LogoutResponsePdu> {
  const { logoutTimeoutMs: timeoutMs } = context.timers;
  const { reason, of, over = of } = options;
  const sent = request(
    context,
    { what: "Logout", answer: "logout-response", timeoutMs, connection: over },
    (numbers) => ({
      type: "logout-request",
      isImmediate: true,
      reason,
      initiatorTaskTag: numbers.tag,
      cid: reason === LogoutReason.closeSession ? 0 : of.connectionId,
      cmdSn: numbers.cmdSn,
      // §11.14.4: that of the connection to be closed.
      expStatSn: over === of ? numbers.expStatSn : of.expStatSn,
    }),
  );
  // §11.14: nothing may follow it on the connection that closes.
  if (over === of || reason === LogoutReason.closeSession) of.isLoggingOut = true;
  const answer = await sent;
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
 * Holds new commands back until those that are under way have ended, for a moment at most, and resolves with what lets
 * them go again: istgt throws away what the other connections have under way when one of them is closed.
 */
export async function quiesce(context: SessionContext): Promise<() => void> {
  const { dispatcher, dependencies, connections } = context;
  const { clock } = dependencies;
  const deadlineMs = clock.nowMs() + MAX_QUIESCE_MS;
  dispatcher.setPaused(true);
  while (connections.all().some(({ inFlight }) => inFlight > 0) && clock.nowMs() < deadlineMs) {
    await sleep(clock, QUIESCE_STEP_MS);
  }
  return () => dispatcher.setPaused(false);
}

/**
 * The target asked for a logout of one connection within `timeLimitMs` (RFC 7143 §11.9.1): lets its tasks that are under way
 * end for at most half of that and logs it out: alone while there are others, else with the session, which comes back
 * after the time the target names.
 */
export async function logOutOnRequest(
  context: SessionContext,
  connection: Connection,
  timeLimitMs: number,
): Promise<void> {
  const { clock, logger } = context.dependencies;
  const deadlineMs = clock.nowMs() + Math.min(timeLimitMs / 2, MAX_DRAIN_MS);
  while (isLeaving(context, connection) && connection.inFlight > 0 && clock.nowMs() < deadlineMs) {
    await sleep(clock, DRAIN_STEP_MS);
  }
  if (!isLeaving(context, connection)) return;
  let announced: AnnouncedTimes | undefined;
  try {
    const isLast = context.connections.size === 1;
    const reason = isLast ? LogoutReason.closeSession : LogoutReason.closeConnection;
    const answer = await logOut(context, { reason, of: connection });
    const waitMs = Math.max(context.timers.asyncLogoutPauseMs, answer.time2Wait * 1000);
    announced = { waitMs, retainMs: answer.time2Retain * 1000 };
    connection.isLoggedOut = true;
  } catch (error) {
    logger.warn("logout that the target asked for failed", { error: asAppError(error).message });
  }
  if (!isLeaving(context, connection)) return;
  context.dropConnection(
    connection,
    new SessionError("SESSION_CONNECTION_LOST", "logged out because the target asked for it", { retry: "same-path" }),
    announced,
  );
}

/** Asked anew each time: the state may change while we wait. */
function isLeaving(context: SessionContext, connection: Connection): boolean {
  return connection.isDraining && context.connections.has(connection);
}
