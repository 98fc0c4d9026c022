import type { PortalAddress } from "../base/access.js";
import { sleep } from "../base/clock.js";
import { createDeferred } from "../base/deferred.js";
import { AppError, CancelledError, errorMessage } from "../base/errors.js";
import { DEFAULT_MAX_RECV_DATA_SEGMENT_BYTES } from "../base/limits.js";
import { formatPortal } from "../base/portal.js";
import type { ChapAlgorithm } from "../login/chap-algorithms.js";
import { InitiatorLogin, type InitiatorLoginOptions, type LoginResult } from "../login/initiator-login.js";
import type { Redirect, RedirectFollower } from "../login/redirect.js";
import type { Pdu } from "../wire/pdu.js";
import { SessionError, protocolError } from "./errors.js";
import { PduChannel } from "./pdu-channel.js";
import type { SessionDependencies, SessionOptions, SessionTimers } from "./session-options.js";

/** A connection that has just entered the full feature phase; its channel has no user yet. */
export interface LoggedIn {
  readonly channel: PduChannel;
  readonly result: LoginResult;
  /** Where it ended up, after redirects. */
  readonly portal: PortalAddress;
  /** Of a session that existed: it joined, or stands for a connection of it. */
  readonly isJoined: boolean;
}

export interface LoginAttempt {
  readonly options: SessionOptions;
  readonly timers: SessionTimers;
  readonly redirects: RedirectFollower;
  /** Source address of the connection. */
  readonly localAddress: string | undefined;
  /** Interface that it leaves through. */
  readonly localInterface?: string | undefined;
  /** Longest data segment to declare for this connection. */
  readonly maxRecvDataSegmentLength?: number | undefined;
  readonly cmdSn: number;
  readonly connectionId: number;
  /** The session that the connection joins, or is to be a connection of again; absent for a new session. */
  readonly join?: Pick<LoginResult, "tsih" | "parameters" | "targetPortalGroupTag"> | undefined;
  /** Of a connection with the same CID that this one stands for. */
  readonly oldExpStatSn?: number | undefined;
  readonly signal: AbortSignal;
}

type Outcome =
  | { readonly kind: "done"; readonly result: LoginResult; readonly channel: PduChannel }
  | { readonly kind: "redirect"; readonly redirect: Redirect };

const LOGIN_TASK_TAG = 1;

/** We never want to wait longer before we come back than the target asks for. */
const DEFAULT_TIME2WAIT_SECONDS = 0;

/** How long the target shall keep the tasks of a lost connection at level 2; it keeps nothing below that. */
const DEFAULT_TIME2RETAIN_SECONDS = 60;

/**
 * Connects and logs in (RFC 7143 §6.3), following redirects and once more with other CHAP algorithms where the
 * target could not cope with the first list. Rejects with TransportError, LoginError, SessionError or CancelledError;
 * nothing stays open then.
 */
export async function logIn(attempt: LoginAttempt, dependencies: SessionDependencies): Promise<LoggedIn> {
  let portal = attempt.redirects.begin();
  let algorithms: readonly ChapAlgorithm[] | undefined;
  for (;;) {
    const login = new InitiatorLogin(loginOptions(attempt, algorithms), dependencies);
    try {
      const outcome = await exchange(attempt, portal, login, dependencies);
      if (outcome.kind === "done") {
        for (const warning of outcome.result.warnings) {
          dependencies.logger.warn("login worked, with a weakness", { portal: formatPortal(portal), warning });
        }
        return { channel: outcome.channel, result: outcome.result, portal, isJoined: attempt.join !== undefined };
      }
      dependencies.logger.info("login redirected", {
        from: formatPortal(portal),
        to: formatPortal(outcome.redirect),
        redirect: outcome.redirect.kind,
      });
      portal = attempt.redirects.follow(outcome.redirect);
    } catch (error) {
      // Once only, or a target that always fails would keep us here.
      const next = algorithms === undefined ? login.nextChapAttempt(error) : undefined;
      login.abandon();
      if (next === undefined) throw error;
      dependencies.logger.info("login is tried again with other CHAP algorithms", {
        portal: formatPortal(portal),
        algorithms: next,
        reason: errorMessage(error),
      });
      algorithms = next;
    }
  }
}

async function exchange(
  attempt: LoginAttempt,
  portal: PortalAddress,
  login: InitiatorLogin,
  dependencies: SessionDependencies,
): Promise<Outcome> {
  const { timers, signal } = attempt;
  const stream = await dependencies.dialer.dial(
    { kind: "tcp", host: portal.host, port: portal.port },
    {
      timeoutMs: timers.connectTimeoutMs,
      signal,
      ...(attempt.localAddress === undefined ? {} : { localAddress: attempt.localAddress }),
      ...(attempt.localInterface === undefined ? {} : { localInterface: attempt.localInterface }),
    },
  );
  const outcome = createDeferred<Outcome>();
  const channel = new PduChannel(
    {
      stream,
      maxDataSegmentLength: attempt.maxRecvDataSegmentLength ?? DEFAULT_MAX_RECV_DATA_SEGMENT_BYTES,
      user: {
        placeData: () => undefined,
        onPdu: (pdu) => onLoginPdu(pdu),
        onClosed: (error) => outcome.reject(error ?? closedDuringLogin(portal)),
      },
    },
    dependencies,
  );
  const onLoginPdu = (pdu: Pdu): void => {
    if (pdu.type !== "login-response") throw protocolError("§6.3", `${pdu.type} in answer to a Login Request`);
    const step = login.receive(pdu);
    if (step.kind === "send") {
      channel.send(step.pdu);
    } else if (step.kind === "redirect") {
      outcome.resolve({ kind: "redirect", redirect: step.redirect });
      channel.destroy();
    } else {
      channel.setDigests({ header: step.result.isHeaderDigestUsed, data: step.result.isDataDigestUsed });
      channel.setResynchronise(step.result.parameters.errorRecoveryLevel > 0);
      channel.hold();
      outcome.resolve({ kind: "done", result: step.result, channel });
    }
  };
  channel.send(login.start());
  return withinLoginTime(attempt, portal, channel, outcome.promise, dependencies);
}

async function withinLoginTime(
  { timers, signal }: LoginAttempt,
  portal: PortalAddress,
  channel: PduChannel,
  outcome: Promise<Outcome>,
  { clock }: SessionDependencies,
): Promise<Outcome> {
  const over = new AbortController();
  const stop = (): void => over.abort(new CancelledError("session", "SESSION_CANCELLED", "the login was cancelled"));
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  const limit = sleep(clock, timers.loginTimeoutMs, over.signal).then(() => {
    throw new SessionError(
      "SESSION_TIMEOUT",
      `login at ${formatPortal(portal)} did not end within ${timers.loginTimeoutMs} ms`,
      { retry: "other-path" },
    );
  });
  try {
    return await Promise.race([outcome, limit]);
  } catch (error) {
    outcome.catch(() => undefined);
    channel.destroy(error instanceof AppError ? error : undefined);
    throw error;
  } finally {
    signal.removeEventListener("abort", stop);
    limit.catch(() => undefined);
    over.abort(new CancelledError("session", "SESSION_CANCELLED", "the login is over"));
  }
}

function loginOptions(attempt: LoginAttempt, algorithms: readonly ChapAlgorithm[] | undefined): InitiatorLoginOptions {
  const { options, cmdSn, connectionId, join } = attempt;
  const isDiscovery = options.sessionType === "Discovery";
  const portalGroupTag = join?.targetPortalGroupTag;
  return {
    initiatorName: options.initiatorName,
    ...(options.initiatorAlias === undefined ? {} : { initiatorAlias: options.initiatorAlias }),
    ...(options.targetName === undefined || isDiscovery ? {} : { targetName: options.targetName }),
    sessionType: options.sessionType ?? "Normal",
    isid: options.isid,
    // Zero even when we come back: the target ends the old session and all of its tasks first (§6.3.5).
    tsih: join?.tsih ?? 0,
    cid: connectionId,
    cmdSn,
    ...(options.chap === undefined ? {} : { chap: options.chap }),
    headerDigest: options.headerDigest,
    dataDigest: options.dataDigest,
    offers: offersOf(attempt),
    initiatorTaskTag: LOGIN_TASK_TAG,
    ...(algorithms === undefined ? {} : { chapAlgorithms: algorithms }),
    ...(join === undefined ? {} : { sessionParameters: join.parameters }),
    ...(attempt.oldExpStatSn === undefined ? {} : { oldExpStatSn: attempt.oldExpStatSn }),
    ...(join !== undefined || options.extensionKeys === undefined ? {} : { extensionKeys: options.extensionKeys }),
    ...(portalGroupTag === undefined ? {} : { expectedPortalGroupTag: portalGroupTag }),
  };
}

/** What the options of the session mean in text keys. */
function offersOf({ options, maxRecvDataSegmentLength }: LoginAttempt): NonNullable<InitiatorLoginOptions["offers"]> {
  const errorRecoveryLevel = options.errorRecoveryLevel ?? 0;
  const planned = 1 + (options.additionalConnections?.length ?? 0);
  // One to spare: LIO counts a connection that a login stands for as one more.
  const spare = errorRecoveryLevel === 2 ? 1 : 0;
  const maxConnections = Math.max(planned + spare, options.maxConnections ?? 1);
  return {
    defaultTime2Wait: DEFAULT_TIME2WAIT_SECONDS,
    defaultTime2Retain: errorRecoveryLevel === 2 ? DEFAULT_TIME2RETAIN_SECONDS : 0,
    errorRecoveryLevel,
    maxConnections,
    // A command that may have to be sent again carries no data outside its own PDU, or that data would come twice.
    ...(errorRecoveryLevel > 0 || maxConnections > 1 ? { initialR2T: true } : {}),
    ...options.offers,
    ...(maxRecvDataSegmentLength === undefined ? {} : { maxRecvDataSegmentLength }),
  };
}

function closedDuringLogin(portal: PortalAddress): SessionError {
  return new SessionError(
    "SESSION_CONNECTION_LOST",
    `${formatPortal(portal)} closed the connection during the login; is the target name known there, and are ` +
      "we allowed to reach it?",
    { retry: "other-path" },
  );
}
