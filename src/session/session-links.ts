import { sleep } from "../base/clock.js";
import type { PortalAddress } from "../base/access.js";
import { AppError, CancelledError } from "../base/errors.js";
import type { Lun } from "../base/lun.js";
import { formatPortal } from "../base/portal.js";
import { LogoutReason } from "../wire/constants.js";
import { CommandWindow } from "./command-window.js";
import type { Connection, ConnectionOwner } from "./connection.js";
import { ConnectionAdmission } from "./connection-admission.js";
import { ConnectionKeeper, type ConnectionPlace } from "./connection-keeper.js";
import { ConnectionRecovery } from "./connection-recovery.js";
import type { ConnectionSet } from "./connection-set.js";
import { SessionError } from "./errors.js";
import { fenceOldNexus } from "./fence.js";
import { logOut, logOutOnRequest } from "./logout.js";
import { PortalHopping } from "./portal-hopping.js";
import type { ReinstatementGuard } from "./reinstatement-guard.js";
import type { SessionContext } from "./session-context.js";
import type { LoggedIn } from "./session-login.js";
import type { ConnectionPlan, SessionDependencies, SessionOptions } from "./session-options.js";
import { SessionRecovery } from "./session-recovery.js";
import type { SessionStateMachine } from "./session-state.js";

const FIRST_CMD_SN = 1;
const DRAIN_STEP_MS = 20;
const MAX_DRAIN_MS = 10_000;

/** What the connections of a session need of it. */
export interface SessionLinksHost {
  readonly context: SessionContext;
  readonly machine: SessionStateMachine;
  readonly connections: ConnectionSet;
  /** As they stand: credentials may change. */
  readonly options: SessionOptions;
  readonly guards: ReadonlySet<ReinstatementGuard>;
  readonly owner: Omit<ConnectionOwner, "onLost">;
  /** Ends the session. */
  close(reason: AppError): void;
}

/**
 * How the connections of one session come and go: the first login, connections that join and leave, what happens
 * when one is lost, and how the session comes back. Recovery within the session is tried first where the level allows it.
 */
export class SessionLinks {
  readonly #host: SessionLinksHost;
  readonly #dependencies: SessionDependencies;
  readonly #portals: PortalHopping;
  readonly #keeper: ConnectionKeeper;
  readonly #connectionRecovery: ConnectionRecovery;
  readonly #sessionRecovery: SessionRecovery;
  readonly #admission: ConnectionAdmission;
  #loggedIn: LoggedIn | undefined;
  #window = new CommandWindow(1);
  /** Until when the target keeps the tasks of a session without connections; undefined when it does not. */
  #retainedUntilMs: number | undefined;
  /** Counts sessions at the target: what began with one is void in the next. */
  #epoch = 0;
  reconnects = 0;

  constructor(host: SessionLinksHost, dependencies: SessionDependencies) {
    const { options, context } = host;
    this.#host = host;
    this.#dependencies = dependencies;
    this.#portals = new PortalHopping({
      portal: options.portal,
      ...(options.alternatePortals === undefined ? {} : { alternatePortals: options.alternatePortals }),
      ...(options.isPortalPinned === undefined ? {} : { isPinned: options.isPortalPinned }),
      ...(options.portalRetryCount === undefined ? {} : { portalRetryCount: options.portalRetryCount }),
    });
    this.#admission = new ConnectionAdmission(
      {
        context,
        connections: host.connections,
        get options() {
          return host.options;
        },
        guards: host.guards,
        owner: { ...host.owner, onLost: (connection, reason) => this.#onLost(connection, reason, 0) },
      },
      dependencies,
    );
    this.#keeper = this.#createKeeper();
    this.#connectionRecovery = new ConnectionRecovery({
      context,
      giveUp: (reason) => this.drop(reason, 0),
      onRecovered: () => this.#keeper.fill(this.#pauseMs()),
    });
    this.#sessionRecovery = this.#createRecovery();
  }

  /** The latest login that made, or brought back, the session. */
  get loggedIn(): LoggedIn | undefined {
    return this.#loggedIn;
  }

  setAdvertisedPortals(portals: Parameters<PortalHopping["setAdvertised"]>[0]): void {
    this.#portals.setAdvertised(portals);
  }

  async open(signal: AbortSignal): Promise<void> {
    const { context, machine } = this.#host;
    const loggedIn = await this.#logInLeading(signal);
    if (signal.aborted) {
      loggedIn.channel.destroy();
      throw new CancelledError("session", "SESSION_CANCELLED", "opening the session was cancelled");
    }
    this.#beginSession(loggedIn).requireAlive();
    machine.moveTo("ready", "");
    context.dispatcher.setGate("open");
    this.#keeper.fill();
  }

  add(plan: ConnectionPlan): Promise<number> {
    return this.#keeper.add(plan);
  }

  async remove(connectionId: number): Promise<void> {
    const { connections, context } = this.#host;
    const connection = connections.find(connectionId);
    if (connection === undefined) {
      throw new SessionError("SESSION_CONNECTION_UNKNOWN", `the session has no connection ${connectionId}`);
    }
    if (this.#isLast(connection)) throw lastConnection(connectionId);
    connections.setDraining(connection, true);
    await this.#drain(connection);
    if (!connections.has(connection)) return this.#keeper.forget(connectionId);
    if (this.#isLast(connection)) {
      connections.setDraining(connection, false);
      throw lastConnection(connectionId);
    }
    this.#keeper.forget(connectionId);
    await logOut(context, { reason: LogoutReason.closeConnection, of: connection });
    if (!connections.remove(connection)) return;
    connection.isLoggedOut = true;
    const error = new SessionError("SESSION_CONNECTION_LOST", "the connection was removed", { retry: "same-path" });
    context.controls.failAll(connection, error);
    context.dispatcher.takeBack(context.dispatcher.tasksOf(connection), error);
    connection.drop(error);
    context.emit({ kind: "connection-removed", cid: connectionId, portal: connection.portal });
  }

  /** The target wants one connection logged out; see logOutOnRequest. */
  beginLogoutOnRequest(connection: Connection, timeLimitMs: number): void {
    const { machine, connections, context } = this.#host;
    if (machine.state !== "ready" || connection.isDraining || !connections.has(connection)) return;
    if (this.#isLast(connection)) {
      machine.moveTo("draining", "the target asked us to log out");
      context.dispatcher.setGate("shut");
    }
    connections.setDraining(connection, true);
    void logOutOnRequest(context, connection, timeLimitMs);
  }

  /** Called at every sweep. */
  check(nowMs: number): void {
    const { connections, machine } = this.#host;
    for (const connection of connections.all()) connection.sweep(nowMs);
    if (machine.state === "ready") this.#connectionRecovery.check(nowMs);
  }

  /** Ends all of it. */
  close(error: AppError): void {
    const { connections, context } = this.#host;
    this.#epoch += 1;
    this.#sessionRecovery.stop(error);
    this.#keeper.stop(error);
    this.#connectionRecovery.reset();
    const all = connections.all();
    connections.dropAll(error);
    for (const connection of all) context.controls.failAll(connection, error);
  }

  /** Gives all connections up; the session begins anew. */
  drop(reason: AppError, delayMs: number): void {
    const { connections, context, machine } = this.#host;
    const lost = connections.all();
    if (lost.length === 0) {
      if (this.#retainedUntilMs !== undefined) this.#abandonRetained(reason);
      return;
    }
    connections.dropAll(reason);
    for (const connection of lost) context.controls.failAll(connection, reason);
    if (machine.state === "connecting") return;
    if (this.#isFinal) this.#host.close(reason);
    else this.#beginRecovery(lost[0], reason, delayMs, false);
  }

  dropConnection(connection: Connection, reason: AppError, delayMs: number): void {
    this.#onLost(connection, reason, delayMs);
    connection.drop(reason);
  }

  get #isFinal(): boolean {
    return this.#host.machine.state === "closing" || this.#host.options.sessionType === "Discovery";
  }

  #isLast(connection: Connection): boolean {
    return this.#host.connections.all().every((other) => other === connection || other.isDraining);
  }

  /** Lets the tasks of a connection end, for a while. */
  async #drain(connection: Connection): Promise<void> {
    const { clock } = this.#dependencies;
    const deadlineMs = clock.nowMs() + MAX_DRAIN_MS;
    while (connection.inFlight > 0 && !connection.channel.isOver && clock.nowMs() < deadlineMs) {
      await sleep(clock, DRAIN_STEP_MS);
    }
  }

  #onLost(connection: Connection, reason: AppError, delayMs: number): void {
    const { connections, context, machine } = this.#host;
    const { dispatcher } = context;
    const wasMember = connections.remove(connection);
    context.controls.failAll(connection, reason);
    const tasks = dispatcher.tasksOf(connection);
    dispatcher.takeBack(
      tasks.filter((record) => record.task.isProbe === true),
      taskLost(reason),
    );
    // The opening, or the joining, notices by itself that its channel is over.
    if (!wasMember || machine.state === "connecting" || machine.state === "closed") return;
    if (this.#isFinal) {
      if (connections.size === 0) this.#host.close(reason);
      return;
    }
    for (const record of tasks) record.isAborting = false;
    const { errorRecoveryLevel, defaultTime2Wait, defaultTime2Retain } = connection.parameters;
    const waitMs = Math.max(delayMs, defaultTime2Wait * 1000);
    // §7.7: a peer that makes format errors is not trusted with what it remembers.
    const isTrusted = reason.code !== "SESSION_PROTOCOL" && machine.state === "ready";
    const hasOthers = connections.size > 0;
    const isRetained = errorRecoveryLevel === 2 && defaultTime2Retain > 0 && !connection.isLoggedOut;
    const isRecovering = isTrusted && (hasOthers || isRetained);
    if (hasOthers) {
      const { connectionId: cid, portal } = connection;
      context.emit({ kind: "connection-lost", cid, portal, isRecovering, reason });
      this.#warn("one of several connections was lost", connection, reason);
    }
    if (isRecovering || this.#retainedUntilMs !== undefined) this.#connectionRecovery.add(connection, waitMs);
    if (isRecovering && hasOthers) {
      this.#connectionRecovery.start();
      return;
    }
    const others = connections.all();
    connections.dropAll(reason);
    for (const other of others) context.controls.failAll(other, reason);
    this.#beginRecovery(connection, reason, waitMs, isRecovering || this.#retainedUntilMs !== undefined);
  }

  #beginRecovery(connection: Connection | undefined, reason: AppError, delayMs: number, isRetained: boolean): void {
    const { context, machine } = this.#host;
    const { clock } = this.#dependencies;
    const parameters = connection?.parameters ?? this.#loggedIn?.result.parameters;
    const waitMs = Math.max(delayMs, (parameters?.defaultTime2Wait ?? 0) * 1000);
    machine.moveTo("recovering", reason.message);
    this.#warn("connection lost", connection, reason);
    if (isRetained) {
      context.dispatcher.suspend(taskLost(reason));
      this.#retainedUntilMs ??= clock.nowMs() + waitMs + (parameters?.defaultTime2Retain ?? 0) * 1000;
    } else {
      this.#forgetRetained(reason);
    }
    context.emit({ kind: "disconnected", portal: this.#portalOf(connection), reason });
    this.#portals.onLost(reason);
    this.#sessionRecovery.start(waitMs);
  }

  /** The target no longer has, or cannot be trusted with, the tasks it kept: they begin anew in a new session. */
  #abandonRetained(reason: AppError): void {
    this.#dependencies.logger.info("the session cannot be taken up again, a new one is begun", {
      reason: reason.message,
    });
    this.#forgetRetained(reason);
  }

  #forgetRetained(reason: AppError): void {
    this.#retainedUntilMs = undefined;
    this.#epoch += 1;
    this.#connectionRecovery.reset();
    this.#host.context.dispatcher.detach(taskLost(reason));
  }

  #createKeeper(): ConnectionKeeper {
    const { options, context, connections, machine } = this.#host;
    const leading: ConnectionPlan = {
      portal: options.portal,
      ...(options.localAddress === undefined ? {} : { localAddress: options.localAddress }),
      ...options.leading,
    };
    const maxConnections = (): number => this.#loggedIn?.result.parameters.maxConnections ?? 1;
    return new ConnectionKeeper(
      {
        get isReady() {
          return machine.state === "ready";
        },
        get liveConnections() {
          return connections.size;
        },
        get maxConnections() {
          return maxConnections();
        },
        isTaken: (cid) => connections.find(cid) !== undefined || this.#connectionRecovery.isPendingFor(cid),
        join: (place, signal) => this.#join(place, signal),
      },
      [leading, ...(options.additionalConnections ?? [])],
      context.timers,
      this.#dependencies,
    );
  }

  #createRecovery(): SessionRecovery {
    const { context } = this.#host;
    return new SessionRecovery(
      {
        connect: (signal) => this.#reconnect(signal),
        adopt: (loggedIn, signal) => this.#adopt(loggedIn, signal),
        resume: (loggedIn, outageMs) => this.#resume(loggedIn, outageMs),
        isRoundStart: () => this.#portals.isRoundStart,
        onAttemptFailed: (attempt, reason) => this.#onAttemptFailed(attempt, reason),
        onExhausted: (reason) => this.#host.close(reason),
        onLimit: (reason) => {
          if (this.#retainedUntilMs !== undefined) this.#abandonRetained(reason);
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
    return this.#admission.logIn({
      place: this.#keeper.leading,
      redirects: this.#portals.current,
      connectTimeoutMs: this.#portals.connectTimeoutMs(this.#host.context.timers.connectTimeoutMs),
      cmdSn: FIRST_CMD_SN,
      signal,
    });
  }

  /** Takes up the session that the target has kept, as long as it keeps it; else begins a new one. */
  async #reconnect(signal: AbortSignal): Promise<LoggedIn> {
    const { result } = this.#loggedIn ?? {};
    const lost = this.#connectionRecovery.oldest;
    if (this.#retainedUntilMs !== undefined && this.#dependencies.clock.nowMs() >= this.#retainedUntilMs) {
      this.#abandonRetained(taskLost(new SessionError("SESSION_TIMEOUT", "Time2Retain is over")));
    }
    if (this.#retainedUntilMs === undefined || result === undefined || lost === undefined) {
      return this.#logInLeading(signal);
    }
    try {
      return await this.#admission.logIn({
        place: this.#keeper.find(lost.connectionId) ?? { ...this.#keeper.leading, connectionId: lost.connectionId },
        redirects: this.#portals.current,
        connectTimeoutMs: this.#portals.connectTimeoutMs(this.#host.context.timers.connectTimeoutMs),
        cmdSn: this.#window.nextCmdSn,
        join: result,
        oldExpStatSn: lost.expStatSn,
        signal,
      });
    } catch (error) {
      // A portal that cannot be reached says nothing about the session; a target that answers no does.
      if (error instanceof AppError && error.layer === "login") this.#abandonRetained(error);
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
    const connection = this.#admission.create(loggedIn, this.#keeper.leading, this.#window, false);
    connections.add(connection);
    context.dispatcher.attach(this.#admission.route, this.#window);
    connection.start();
    return connection;
  }

  async #adopt(loggedIn: LoggedIn, signal: AbortSignal): Promise<void> {
    const { context, machine } = this.#host;
    const before = this.#loggedIn;
    machine.moveTo("verifying", "looking at what is behind the new connection");
    const connection = loggedIn.isJoined ? this.#takeUp(loggedIn) : this.#beginSession(loggedIn);
    connection.requireAlive();
    if (before !== undefined && !loggedIn.isJoined) {
      await fenceOldNexus(context, before.result, loggedIn.result, signal);
    }
    connection.requireAlive();
    context.dispatcher.setGate("probes");
    try {
      await this.#admission.verify(connection);
    } catch (error) {
      if (isRefusal(error)) {
        if (this.#retainedUntilMs !== undefined) this.#abandonRetained(error);
        context.dispatcher.failWaiting(error, error.details["lun"] as Lun);
      }
      throw error;
    }
    connection.isJoining = false;
  }

  /** The connection stands for a lost one of the same CID: the target has let go of that one's tasks (§6.3.4). */
  #takeUp(loggedIn: LoggedIn): Connection {
    const { connections } = this.#host;
    const { result } = loggedIn;
    const lost = this.#connectionRecovery.oldest;
    const connectionId = lost?.connectionId ?? 0;
    const place = this.#keeper.find(connectionId) ?? { ...this.#keeper.leading, connectionId };
    const connection = this.#admission.create(loggedIn, place, this.#window, true);
    this.#window.update(result.expCmdSn, result.maxCmdSn);
    this.#connectionRecovery.markReinstated(connectionId);
    connections.add(connection);
    connection.start();
    return connection;
  }

  async #join(place: ConnectionPlace, signal: AbortSignal): Promise<Connection> {
    const { connections, context, machine } = this.#host;
    const epoch = this.#epoch;
    const result = this.#loggedIn?.result;
    if (machine.state !== "ready" || result === undefined) throw notReady();
    const loggedIn = await this.#admission.logIn({ place, cmdSn: this.#window.nextCmdSn, join: result, signal });
    try {
      if (epoch !== this.#epoch || connections.size === 0) throw notReady();
      const connection = this.#admission.create(loggedIn, place, this.#window, true);
      this.#window.update(loggedIn.result.expCmdSn, loggedIn.result.maxCmdSn);
      connection.start();
      connection.requireAlive();
      await this.#admission.verify(connection);
      if (epoch !== this.#epoch || connections.size === 0 || signal.aborted) throw notReady();
      connection.isJoining = false;
      connections.add(connection);
      const { portal } = connection;
      this.#dependencies.logger.info("connection added", { portal: formatPortal(portal), cid: place.connectionId });
      context.emit({ kind: "connection-added", cid: place.connectionId, portal });
      context.dispatcher.pump();
      return connection;
    } catch (error) {
      loggedIn.channel.destroy(error instanceof AppError ? error : undefined);
      throw error;
    }
  }

  #resume({ portal, isJoined }: LoggedIn, outageMs: number): void {
    const { context, machine } = this.#host;
    const tsih = this.#loggedIn?.result.tsih ?? 0;
    this.#retainedUntilMs = undefined;
    if (!isJoined) {
      this.reconnects += 1;
      context.counters.sessionRecoveries += 1;
    }
    this.#portals.onSucceeded();
    machine.moveTo("ready", "");
    context.dispatcher.setRefusal(undefined);
    this.#dependencies.logger.info("session is back", {
      portal: formatPortal(portal),
      tsih,
      outageMs: Math.round(outageMs),
    });
    context.emit({ kind: "reconnected", portal, tsih, outageMs });
    context.dispatcher.setGate("open");
    this.#connectionRecovery.start();
    this.#keeper.fill();
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

  /** Before a lost connection is made again: as long as its target would have us wait. */
  #pauseMs(): number {
    return (this.#loggedIn?.result.parameters.defaultTime2Wait ?? 0) * 1000;
  }

  #portalOf(connection: Connection | undefined): PortalAddress {
    return connection?.portal ?? this.#loggedIn?.portal ?? this.#host.options.portal;
  }

  #warn(message: string, connection: Connection | undefined, reason: AppError): void {
    const portal = formatPortal(this.#portalOf(connection));
    this.#dependencies.logger.warn(message, { portal, code: reason.code, reason: reason.message });
  }
}

function taskLost(reason: AppError): SessionError {
  return new SessionError("SESSION_TASK_LOST", `the connection was lost while the command ran: ${reason.message}`, {
    retry: "same-path",
    cause: reason,
  });
}

function notReady(): SessionError {
  return new SessionError("SESSION_CONNECTION_LOST", "the session is not ready for another connection now", {
    retry: "same-path",
  });
}

function lastConnection(connectionId: number): SessionError {
  return new SessionError(
    "SESSION_CONNECTION_LAST",
    `connection ${connectionId} is the last one of its session: add another one first, or log the session out`,
  );
}

function isRefusal(error: unknown): error is SessionError {
  return error instanceof SessionError && error.code === "SESSION_PATH_REFUSED" && error.details["lun"] !== undefined;
}
