import type { PortalAddress } from "../base/access.js";
import type { Clock } from "../base/clock.js";
import { createDeferred } from "../base/deferred.js";
import { AppError, errorMessage } from "../base/errors.js";
import { type Lun, formatLun } from "../base/lun.js";
import { formatPortal } from "../base/portal.js";
import type { SessionDependencies, SessionOptions } from "../session/session-options.js";
import { Session } from "../session/session.js";

/** Another way to the target that works now. */
export interface FenceWay {
  readonly portal: PortalAddress;
  readonly localAddress?: string;
  readonly localInterface?: string;
  /** Resolves when the target answers over the session of that way; rejects with AppError. */
  ping(): Promise<unknown>;
  /** Resets the unit over the session of that way, for a target that does not let another one in. Rejects with AppError. */
  resetUnit(): Promise<void>;
}

export interface FenceRequest {
  /** Of the session whose commands must not be carried out any more: names, ISID, credentials. */
  readonly session: SessionOptions;
  readonly lun: Lun;
  /** Portal group of that session; undefined when it is not known. */
  readonly portalGroupTag: number | undefined;
  /** Those that answer a ping first are tried first. */
  readonly ways: readonly FenceWay[];
  /** The unit was reset: tasks of other sessions may have ended without an answer. */
  onUnitReset(): Promise<void>;
}

/** A way that is alive has answered a ping by then, unless it is very slow. */
const WAY_ANSWER_MS = 1_000;

/** A way that is slow to answer is not the one to wait for: I/O stands meanwhile. */
export const FENCE_TIMERS = {
  connectTimeoutMs: 3_000,
  loginTimeoutMs: 5_000,
  logoutTimeoutMs: 3_000,
  lunResetTimeoutMs: 10_000,
};

/**
 * Makes certain that a target carries out nothing more of what a lost session gave it: logs in over another way with
 * the same ISID, which ends the old session and its tasks (session reinstatement, RFC 7143 §6.3.5), and out again. That
 * holds within one portal group; at another the unit is reset as well, which ends the tasks of every nexus (SAM-5 §7.7).
 * Resolves with false when no way let it be done; does not reject.
 */
export async function fencePath(
  request: FenceRequest,
  dependencies: SessionDependencies,
  signal: AbortSignal,
): Promise<boolean> {
  for await (const way of byLiveliness(request.ways, dependencies.clock, signal)) {
    if (signal.aborted) return false;
    try {
      await fenceOver(way, request, dependencies, signal);
      dependencies.logger.info("commands of a lost path are fenced", { over: formatPortal(way.portal) });
      return true;
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      dependencies.logger.warn("commands of a lost path could not be fenced this way", {
        over: formatPortal(way.portal),
        reason: errorMessage(error),
      });
    }
  }
  return false;
}

/** Ways in the order in which they answer; those that have not within WAY_ANSWER_MS come last. */
async function* byLiveliness(
  ways: readonly FenceWay[],
  clock: Clock,
  signal: AbortSignal,
): AsyncGenerator<FenceWay, void, void> {
  const left = new Set(ways);
  const late = createDeferred<undefined>();
  const waitNoLonger = (): void => late.resolve(undefined);
  const timer = clock.setTimer(WAY_ANSWER_MS, waitNoLonger);
  signal.addEventListener("abort", waitNoLonger, { once: true });
  const pings = new Map(ways.map((way) => [way, answerOf(way)]));
  try {
    // One way alone is not worth the wait.
    while (pings.size > 1) {
      const answer = await Promise.race([late.promise, ...pings.values()]);
      if (answer === undefined) break;
      pings.delete(answer.way);
      left.delete(answer.way);
      if (answer.isAlive) yield answer.way;
      else left.add(answer.way);
    }
  } finally {
    timer.cancel();
    signal.removeEventListener("abort", waitNoLonger);
  }
  yield* left;
}

async function answerOf(way: FenceWay): Promise<{ readonly way: FenceWay; readonly isAlive: boolean }> {
  const isAlive = await way.ping().then(
    () => true,
    () => false,
  );
  return { way, isAlive };
}

async function fenceOver(
  way: FenceWay,
  request: FenceRequest,
  dependencies: SessionDependencies,
  signal: AbortSignal,
): Promise<void> {
  const session = await Session.open(fenceOptions(way, request.session), dependencies, signal).catch(
    (error: unknown) => {
      // A target that answers, but lets no other session in, can be asked over the one that stands.
      if (error instanceof AppError && error.layer === "login" && !signal.aborted) return undefined;
      throw error;
    },
  );
  if (session === undefined) {
    await way.resetUnit();
    await request.onUnitReset();
    return;
  }
  try {
    const { portalGroupTag } = session.status();
    const isSameNexus = portalGroupTag !== undefined && portalGroupTag === request.portalGroupTag;
    if (!isSameNexus) {
      dependencies.logger.info("the unit is reset: the lost path led to another portal group", {
        lun: formatLun(request.lun),
      });
      await session.taskManagement({ function: "lun-reset", lun: request.lun });
      await request.onUnitReset();
    }
  } finally {
    await session.logout().catch(() => session.close());
  }
}

function fenceOptions(way: FenceWay, lost: SessionOptions): SessionOptions {
  const { targetName, initiatorName, isid, chap, headerDigest, dataDigest, timers } = lost;
  return {
    portal: way.portal,
    isPortalPinned: true,
    ...(way.localAddress === undefined ? {} : { localAddress: way.localAddress }),
    ...(way.localInterface === undefined ? {} : { localInterface: way.localInterface }),
    ...(targetName === undefined ? {} : { targetName }),
    ...{ initiatorName, isid, headerDigest, dataDigest },
    ...(chap === undefined ? {} : { chap }),
    maxTasks: 1,
    timers: { ...timers, ...FENCE_TIMERS },
  };
}
