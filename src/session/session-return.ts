import { assert } from "../base/assert.js";
import { AppError, CancelledError } from "../base/errors.js";
import type { Lun } from "../base/lun.js";
import { formatPortal } from "../base/portal.js";
import type { PortalAddress } from "../base/access.js";
import type { LoginResult } from "../login/initiator-login.js";
import { CommandWindow } from "./command-window.js";
import type { Connection } from "./connection.js";
import type { ConnectionAdmission } from "./connection-admission.js";
import type { ConnectionKeeper, ConnectionPlace } from "./connection-keeper.js";
import type { ConnectionRecovery } from "./connection-recovery.js";
import { SessionError, taskLost } from "./errors.js";
import { SessionEvacuation } from "./evacuation.js";
import { fenceOldNexus } from "./fence.js";
import { PortalHopping } from "./portal-hopping.js";
import type { SessionLinksHost } from "./session-links.js";
import type { LoggedIn } from "./session-login.js";
import type { SessionDependencies } from "./session-options.js";
import { SessionRecovery } from "./session-recovery.js";

const FIRST_CMD_SN = 1;

/** The parts of a session's connections that its coming back needs. */
export interface SessionReturnParts {
  readonly admission: ConnectionAdmission;
  readonly keeper: ConnectionKeeper;
  readonly connectionRecovery: ConnectionRecovery;
}

/** The last connection of a session went. */
export interface AllLost {
  readonly connection: Connection;
  readonly reason: AppError;
  /** Before anything is tried (RFC 7143 §7.5). */
  readonly waitMs: number;
  /** How long after that the target keeps the tasks; 0 when it does not, or is not trusted with them. */
  readonly retainMs: number;
}

/**
 * How a session gets its first connection, and the first one after all were lost: by taking up what the target has kept
 * of it, where the level and the time allow, else by beginning anew with the same ISID.
 */
export class SessionReturn {
  readonly #host: SessionLinksHost;
  readonly #parts: SessionReturnParts;
  readonly #dependencies: SessionDependencies;
  readonly #portals: PortalHopping;
  readonly #recovery: SessionRecovery;
  readonly #evacuation: SessionEvacuation;
  #loggedIn: LoggedIn | undefined;
  /** Of the last session that carried commands: its nexus may still be at work on them. */
  #carried: LoginResult | undefined;
  #window = new CommandWindow(FIRST_CMD_SN);
  /** Until when the target keeps the tasks of a session without connections; undefined when it does not. */
  #retainedUntilMs: number | undefined;
  #epoch = 0;
  #reconnects = 0;

  constructor(host: SessionLinksHost, parts: SessionReturnParts, dependencies: SessionDependencies) {
    const { portal, alternatePortals, isPortalPinned, portalRetryCount } = host.options;
    this.#host = host;
    this.#parts = parts;
    this.#dependencies = dependencies;
    this.#portals = new PortalHopping({
      portal,
      ...(alternatePortals === undefined ? {} : { alternatePortals }),
      ...(isPortalPinned === undefined ? {} : { isPinned: isPortalPinned }),
      ...(portalRetryCount === undefined ? {} : { portalRetryCount }),
    });
    this.#recovery = this.#createRecovery();
    this.#evacuation = new SessionEvacuation(host.context, host.options.evacuation, () => this.#recovery.interrupt());
  }

  /** The latest login that made, or brought back, the session. There is one from the first on. */
  get loggedIn(): LoggedIn {
    assert(this.#loggedIn !== undefined, "the session was never logged in");
    return this.#loggedIn;
  }

  /** The command window of the session that stands. */
  get window(): CommandWindow {
    return this.#window;
  }

  /** Counts sessions at the target: what began with one is void in the next. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Does the target keep the tasks of this session, which has no connection? */
  get isRetained(): boolean {
    return this.#retainedUntilMs !== undefined;
  }

  /** Times the session began anew. */
  get reconnects(): number {
    return this.#reconnects;
  }

  setAdvertisedPortals(portals: readonly PortalAddress[]): void {
    this.#portals.setAdvertised(portals);
  }

  /** Tasks that wait for this session may go another way now, if that can be made safe. */
  handOver(): void {
    this.#evacuation.request();
  }

  /** The first login. Rejects with its error. */
  async open(signal: AbortSignal): Promise<void> {
    const loggedIn = await this.#logInLeading(signal);
    if (signal.aborted) {
      loggedIn.channel.destroy();
      throw new CancelledError("session", "SESSION_CANCELLED", "opening the session was cancelled");
    }
    this.#beginSession(loggedIn).requireAlive();
    this.#carried = loggedIn.result;
    this.#host.machine.moveTo("ready", "");
    this.#host.context.dispatcher.setGate("open");
    this.#parts.keeper.fill();
  }

  /** Ends it for good. */
  stop(reason: AppError): void {
    this.#epoch += 1;
    this.#evacuation.end();
    this.#recovery.stop(reason);
  }

  /** There is no connection any more. */
  begin({ connection, reason, waitMs, retainMs }: AllLost): void {
    const { context, machine } = this.#host;
    const { clock } = this.#dependencies;
    const pendingMs = this.#parts.connectionRecovery.notBeforeMs - clock.nowMs();
    machine.moveTo("recovering", reason.message);
    this.#warn(connection, reason);
    if (retainMs > 0 && !this.#evacuation.isPlanned) {
      context.dispatcher.suspend(taskLost(reason));
      this.#retainedUntilMs ??= clock.nowMs() + waitMs + retainMs;
    } else {
      this.#forgetRetained(reason);
    }
    context.emit({ kind: "disconnected", portal: connection.portal, reason });
    this.#evacuation.begin(reason);
    this.#portals.onLost(reason);
    this.#recovery.start(Math.max(waitMs, pendingMs));
  }

  /** The target no longer has, or cannot be trusted with, the tasks it kept: they begin anew in a new session. */
  abandonRetained(reason: AppError): void {
    this.#dependencies.logger.info("the session cannot be taken up again, a new one is begun", {
      reason: reason.message,
    });
    this.#forgetRetained(reason);
  }

  #forgetRetained(reason: AppError): void {
    this.#retainedUntilMs = undefined;
    this.#epoch += 1;
    this.#parts.connectionRecovery.reset();
    this.#host.context.dispatcher.detach(taskLost(reason));
  }

  #createRecovery(): SessionRecovery {
    const { context } = this.#host;
    return new SessionRecovery(
      {
        prepare: (signal) => this.#evacuation.prepare(signal),
        connect: (signal) => this.#reconnect(signal),
        adopt: (loggedIn, signal) => this.#adopt(loggedIn, signal),
        resume: (loggedIn, outageMs) => this.#resume(loggedIn, outageMs),
        isRoundStart: () => this.#portals.isRoundStart,
        onAttemptFailed: (attempt, reason) => this.#onAttemptFailed(attempt, reason),
        onExhausted: (reason) => this.#host.close(reason),
        onLimit: (reason) => {
          if (this.#retainedUntilMs !== undefined) this.abandonRetained(reason);
          context.emit({ kind: "unavailable", reason });
          context.dispatcher.setRefusal(reason);
          context.dispatcher.failWaiting(reason);
        },
      },
      { timers: context.timers, maxAttempts: this.#host.options.maxReconnectAttempts ?? 0 },
      this.#dependencies,
    );
  }

  #logInLeading(signal: AbortSignal): Promise<LoggedIn> {
    return this.#parts.admission.logIn({
      place: this.#parts.keeper.leading,
      redirects: this.#portals.current,
      connectTimeoutMs: this.#portals.connectTimeoutMs(this.#host.context.timers.connectTimeoutMs),
      cmdSn: FIRST_CMD_SN,
      signal,
    });
  }

  /** Takes up the session that the target has kept, as long as it keeps it; else begins a new one. */
  async #reconnect(signal: AbortSignal): Promise<LoggedIn> {
    if (this.#retainedUntilMs !== undefined && this.#dependencies.clock.nowMs() >= this.#retainedUntilMs) {
      this.abandonRetained(taskLost(new SessionError("SESSION_TIMEOUT", "Time2Retain is over")));
    }
    const lost = this.isRetained ? this.#parts.connectionRecovery.oldest : undefined;
    if (lost === undefined) return this.#logInLeading(signal);
    try {
      return await this.#parts.admission.logIn({
        place: this.#placeOf(lost.connectionId),
        redirects: this.#portals.current,
        connectTimeoutMs: this.#portals.connectTimeoutMs(this.#host.context.timers.connectTimeoutMs),
        cmdSn: this.#window.nextCmdSn,
        join: this.loggedIn.result,
        oldExpStatSn: lost.expStatSn,
        signal,
      });
    } catch (error) {
      // A portal that cannot be reached says nothing about the session; a target that answers no does.
      if (error instanceof AppError && error.layer === "login") this.abandonRetained(error);
      throw error;
    }
  }

  /** A new session at the target: fresh numbers, one connection. Nothing flows over it yet. */
  #beginSession(loggedIn: LoggedIn): Connection {
    const { connections, context } = this.#host;
    const { result } = loggedIn;
    this.#window = new CommandWindow(result.cmdSn);
    this.#window.update(result.expCmdSn, result.maxCmdSn);
    this.#loggedIn = loggedIn;
    const connection = this.#parts.admission.create(loggedIn, this.#parts.keeper.leading, this.#window, false);
    connections.add(connection);
    context.dispatcher.attach(this.#parts.admission.route, this.#window);
    connection.start();
    return connection;
  }

  async #adopt(loggedIn: LoggedIn, signal: AbortSignal): Promise<void> {
    const { context, machine } = this.#host;
    const before = this.#carried;
    assert(before !== undefined, "a session that comes back has carried commands");
    const kept = loggedIn.isJoined ? this.#requireKept() : undefined;
    machine.moveTo("verifying", "looking at what is behind the new connection");
    const connection = kept === undefined ? this.#beginSession(loggedIn) : this.#takeUp(loggedIn, kept.connectionId);
    connection.requireAlive();
    if (loggedIn.isJoined) await this.#clear(connection, signal);
    else await fenceOldNexus(context, before, loggedIn.result, signal);
    connection.requireAlive();
    context.dispatcher.setGate("probes");
    try {
      await this.#parts.admission.verify(connection);
    } catch (error) {
      if (isRefusal(error)) {
        if (this.#retainedUntilMs !== undefined) this.abandonRetained(error);
        context.dispatcher.failWaiting(error, error.details["lun"] as Lun);
      }
      throw error;
    }
    if (loggedIn.isJoined && !this.isRetained) throw givenUp();
    connection.isJoining = false;
  }

  async #clear(connection: Connection, signal: AbortSignal): Promise<void> {
    try {
      await this.#parts.connectionRecovery.clear(connection, signal);
    } catch (error) {
      // A connection that was lost again says nothing about the session; a target that does not play along does.
      if (error instanceof AppError && !connection.channel.isOver) this.abandonRetained(error);
      throw error;
    }
  }

  /**
   * The connection whose place a login took. Throws when the session was given up while it was logging in: its tasks are
   * to begin anew, which they must not do beside those that the target still has.
   */
  #requireKept(): Connection {
    const { oldest } = this.#parts.connectionRecovery;
    if (oldest !== undefined) return oldest;
    throw givenUp();
  }

  /** A place that was removed has no plan any more: its connection is made like the leading one. */
  #placeOf(connectionId: number): ConnectionPlace {
    return this.#parts.keeper.find(connectionId) ?? { ...this.#parts.keeper.leading, connectionId };
  }

  /** The connection stands for a lost one of the same CID: the target has let go of that one's tasks (§6.3.4). */
  #takeUp(loggedIn: LoggedIn, connectionId: number): Connection {
    const { connections } = this.#host;
    const { result } = loggedIn;
    const connection = this.#parts.admission.create(loggedIn, this.#placeOf(connectionId), this.#window, true);
    this.#window.update(result.expCmdSn, result.maxCmdSn);
    this.#parts.connectionRecovery.markReinstated(connectionId);
    connections.add(connection);
    connection.start();
    return connection;
  }

  #resume({ portal, isJoined }: LoggedIn, outageMs: number): void {
    const { context, machine } = this.#host;
    const { result } = this.loggedIn;
    const { tsih } = result;
    this.#carried = result;
    this.#retainedUntilMs = undefined;
    if (!isJoined) {
      this.#reconnects += 1;
      context.counters.sessionRecoveries += 1;
    }
    this.#portals.onSucceeded();
    machine.moveTo("ready", "");
    this.#evacuation.end();
    context.dispatcher.setRefusal(undefined);
    this.#dependencies.logger.info("session is back", {
      portal: formatPortal(portal),
      tsih,
      outageMs: Math.round(outageMs),
    });
    context.emit({ kind: "reconnected", portal, tsih, outageMs });
    context.dispatcher.setGate("open");
    this.#parts.connectionRecovery.start();
    this.#parts.keeper.fill();
  }

  #onAttemptFailed(attempt: number, reason: AppError): void {
    const { machine, context } = this.#host;
    const { portal } = this.#portals.current;
    this.#portals.onFailed(reason);
    machine.explain(reason.message);
    this.#dependencies.logger.warn("reconnecting failed", {
      portal: formatPortal(portal),
      attempt,
      reason: reason.message,
    });
    context.emit({ kind: "reconnect-failed", portal, attempt, reason });
  }

  #warn(connection: Connection, reason: AppError): void {
    const portal = formatPortal(connection.portal);
    this.#dependencies.logger.warn("connection lost", { portal, code: reason.code, reason: reason.message });
  }
}

function isRefusal(error: unknown): error is SessionError {
  return error instanceof SessionError && error.code === "SESSION_PATH_REFUSED" && error.details["lun"] !== undefined;
}

function givenUp(): SessionError {
  return new SessionError("SESSION_CONNECTION_LOST", "the session was given up while it was being taken up again", {
    retry: "same-path",
  });
}
