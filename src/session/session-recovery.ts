import { Backoff } from "../base/backoff.js";
import { type Timer, sleep } from "../base/clock.js";
import { type AppError, CancelledError, asAppError } from "../base/errors.js";
import { SessionError } from "./errors.js";
import type { LoggedIn } from "./session-login.js";
import type { SessionDependencies, SessionTimers } from "./session-options.js";

/** What recovery needs of its session. */
export interface RecoveryHost {
  /** Called before the pause of every attempt; an attempt does not begin before it has resolved. */
  prepare(signal: AbortSignal): Promise<void>;
  /** Logs in at the portal whose turn it is. Rejects with AppError. */
  connect(signal: AbortSignal): Promise<LoggedIn>;
  /** Makes it the session's connection and asks the guards. Rejects with AppError when it must not be used. */
  adopt(loggedIn: LoggedIn, signal: AbortSignal): Promise<void>;
  /** Lets tasks flow again. */
  resume(loggedIn: LoggedIn, outageMs: number): void;
  /** This attempt failed; the next one goes to the next portal. */
  onAttemptFailed(attempt: number, reason: AppError): void;
  /** Does the next attempt begin a round of portals, so that a pause before it is right? */
  isRoundStart(): boolean;
  /** The operator's limit is over. */
  onLimit(reason: SessionError): void;
  /** All the attempts that were allowed have failed: nothing more is tried. */
  onExhausted(reason: SessionError): void;
}

/**
 * Brings a session back after its connection was lost (session recovery, RFC 7143 §7.1.4.4): waits, logs in with the
 * same ISID so that the target ends the old session first, has the guards look, lets tasks flow. Never gives up unless
 * `maxAttempts` says so.
 */
export class SessionRecovery {
  readonly #host: RecoveryHost;
  readonly #timers: SessionTimers;
  readonly #maxAttempts: number;
  readonly #dependencies: SessionDependencies;
  readonly #stop = new AbortController();
  readonly #backoff: Backoff;
  /** Ends the pause or the login of the attempt under way; undefined while neither is. */
  #turn: AbortController | undefined;
  #isRunning = false;
  #resumedMs = Number.NEGATIVE_INFINITY;
  /** End of the longest Time2Wait. */
  #notBeforeMs = 0;

  /** `maxAttempts` 0: as many as it takes. */
  constructor(
    host: RecoveryHost,
    options: { readonly timers: SessionTimers; readonly maxAttempts: number },
    dependencies: SessionDependencies,
  ) {
    const { timers } = options;
    this.#host = host;
    this.#timers = timers;
    this.#maxAttempts = options.maxAttempts;
    this.#dependencies = dependencies;
    const { reconnectInitialMs: initialMs, reconnectMaximumMs: maximumMs } = timers;
    this.#backoff = new Backoff({ initialMs, maximumMs }, { random: dependencies.random });
  }

  /** Begins unless it is under way; nothing is tried before `delayMs`, the target's Time2Wait, in any case. */
  start(delayMs: number): void {
    this.#notBeforeMs = Math.max(this.#notBeforeMs, this.#dependencies.clock.nowMs() + delayMs);
    if (this.#isRunning || this.#stop.signal.aborted) return;
    this.#isRunning = true;
    void this.#run();
  }

  /** Ends it for good; a login under way is cancelled. */
  stop(reason: AppError): void {
    this.#stop.abort(reason);
    this.#turn?.abort(reason);
  }

  /** Ends the pause or the login under way; the next attempt, which is prepared first, follows it. */
  interrupt(): void {
    this.#turn?.abort(new CancelledError("session", "SESSION_CANCELLED", "something else comes before this login"));
  }

  async #run(): Promise<void> {
    const { clock } = this.#dependencies;
    const startMs = clock.nowMs();
    // A session that is lost again soon after it came back must not come back ever faster: the pauses go on growing.
    if (startMs - this.#resumedMs > this.#timers.reconnectMaximumMs) this.#backoff.reset();
    const limit = this.#armLimit();
    let waitMs = this.#backoff.next();
    for (let attempt = 1; !this.#stop.signal.aborted; attempt += 1) {
      const loggedIn = await this.#attempt(attempt, Math.max(waitMs, this.#notBeforeMs - clock.nowMs()));
      if (loggedIn !== undefined) {
        this.#isRunning = false;
        this.#resumedMs = clock.nowMs();
        this.#host.resume(loggedIn, this.#resumedMs - startMs);
        break;
      }
      if (this.#maxAttempts > 0 && attempt >= this.#maxAttempts) {
        this.#host.onExhausted(exhausted(attempt));
        break;
      }
      // The next portal of a round has done nothing that it should be waited for.
      waitMs = this.#host.isRoundStart() ? this.#backoff.next() : 0;
    }
    limit?.cancel();
  }

  async #attempt(attempt: number, waitMs: number): Promise<LoggedIn | undefined> {
    const { signal } = this.#stop;
    const turn = new AbortController();
    let loggedIn: LoggedIn | undefined;
    try {
      await this.#host.prepare(signal);
      signal.throwIfAborted();
      this.#turn = turn;
      await sleep(this.#dependencies.clock, waitMs, turn.signal);
      loggedIn = await this.#host.connect(turn.signal);
      signal.throwIfAborted();
      this.#turn = undefined;
      await this.#host.adopt(loggedIn, signal);
      signal.throwIfAborted();
      return loggedIn;
    } catch (error) {
      const reason = asAppError(error);
      loggedIn?.channel.destroy(reason);
      if (!turn.signal.aborted && !signal.aborted) this.#host.onAttemptFailed(attempt, reason);
      return undefined;
    } finally {
      this.#turn = undefined;
    }
  }

  #armLimit(): Timer | undefined {
    const { reconnectLimitMs } = this.#timers;
    if (reconnectLimitMs === 0) return undefined;
    return this.#dependencies.clock.setTimer(reconnectLimitMs, () =>
      this.#host.onLimit(
        new SessionError("SESSION_UNAVAILABLE", `no path to the target for ${reconnectLimitMs} ms`, {
          retry: "other-path",
        }),
      ),
    );
  }
}

function exhausted(attempts: number): SessionError {
  return new SessionError("SESSION_UNAVAILABLE", `no path to the target after ${attempts} attempts`, {
    retry: "other-path",
  });
}
