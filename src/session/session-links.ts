import { sleep } from "../base/clock.js";
import type { PortalAddress } from "../base/access.js";
import { AppError } from "../base/errors.js";
import { formatPortal } from "../base/portal.js";
import { LogoutReason } from "../wire/constants.js";
import type { Connection } from "./connection.js";
import type { ConnectionOwner } from "./connection-owner.js";
import { ConnectionAdmission } from "./connection-admission.js";
import { ConnectionKeeper, type ConnectionPlace } from "./connection-keeper.js";
import { ConnectionRecovery } from "./connection-recovery.js";
import type { ConnectionSet } from "./connection-set.js";
import { SessionError, taskLost } from "./errors.js";
import { logOut, logOutOnRequest, quiesce } from "./logout.js";
import type { ReinstatementGuard } from "./reinstatement-guard.js";
import type { AnnouncedTimes, SessionContext } from "./session-context.js";
import type { LoggedIn } from "./session-login.js";
import type { ConnectionPlan, SessionDependencies, SessionOptions } from "./session-options.js";
import { SessionReturn } from "./session-return.js";
import type { SessionStateMachine } from "./session-state.js";

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
  readonly #keeper: ConnectionKeeper;
  readonly #connectionRecovery: ConnectionRecovery;
  readonly #admission: ConnectionAdmission;
  readonly #return: SessionReturn;
  /** CIDs of connections that were let in and lost before they carried a command, with the end of their Time2Wait. */
  readonly #lostEarly = new Map<number, number>();

  constructor(host: SessionLinksHost, dependencies: SessionDependencies) {
    const { context } = host;
    this.#host = host;
    this.#dependencies = dependencies;
    this.#admission = new ConnectionAdmission(
      {
        context,
        connections: host.connections,
        get options() {
          return host.options;
        },
        guards: host.guards,
        owner: { ...host.owner, onLost: (connection, reason) => this.#onLost(connection, reason) },
      },
      dependencies,
    );
    this.#keeper = this.#createKeeper();
    this.#connectionRecovery = new ConnectionRecovery({
      context,
      giveUp: (reason) => this.drop(reason),
      onRecovered: () => this.#keeper.fill(),
    });
    const parts = {
      admission: this.#admission,
      keeper: this.#keeper,
      connectionRecovery: this.#connectionRecovery,
    };
    this.#return = new SessionReturn(host, parts, dependencies);
  }

  /** The latest login that made, or brought back, the session. */
  get loggedIn(): LoggedIn {
    return this.#return.loggedIn;
  }

  /** Times the session began anew. */
  get reconnects(): number {
    return this.#return.reconnects;
  }

  setAdvertisedPortals(portals: readonly PortalAddress[]): void {
    this.#return.setAdvertisedPortals(portals);
  }

  /** Tasks that wait for the session may go another way now. */
  handOver(): void {
    this.#return.handOver();
  }

  /** The first login. Rejects with its error. */
  open(signal: AbortSignal): Promise<void> {
    return this.#return.open(signal);
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
    if (!connections.has(connection)) {
      this.#keeper.forget(connectionId);
      return;
    }
    const release = await quiesce(context);
    try {
      // Others may have gone meanwhile.
      if (this.#isLast(connection)) throw lastConnection(connectionId);
      this.#keeper.forget(connectionId);
      await logOut(context, { reason: LogoutReason.closeConnection, of: connection });
    } catch (error) {
      if (connection.isLoggingOut) this.dropConnection(connection, closed(error));
      else connections.setDraining(connection, false);
      throw error;
    } finally {
      release();
    }
    const { portal } = connection;
    connection.isLoggedOut = true;
    if (connections.has(connection)) this.#retire(connection);
    context.emit({ kind: "connection-removed", cid: connectionId, portal });
    // Another place may have waited for the room.
    this.#keeper.fill();
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

  /** All that answer, also one that is being looked at before it carries commands. */
  get audible(): readonly Connection[] {
    const { questioned } = this.#admission;
    const all = this.#host.connections.all();
    return questioned === undefined || all.includes(questioned) ? all : [...all, questioned];
  }

  /** Called at every sweep. */
  check(nowMs: number): void {
    for (const connection of this.audible) connection.sweep(nowMs);
    if (this.#host.machine.state === "ready") this.#connectionRecovery.check(nowMs);
  }

  /** Ends all of it. */
  close(error: AppError): void {
    this.#return.stop(error);
    this.#keeper.stop(error);
    this.#connectionRecovery.reset();
    this.#dropAll(error);
  }

  /** Gives all connections up; the session begins anew. */
  drop(reason: AppError, announced?: AnnouncedTimes): void {
    const { connections, machine } = this.#host;
    const [first] = connections.all();
    if (first === undefined) {
      if (this.#return.isRetained) this.#return.abandonRetained(reason);
      return;
    }
    this.#dropAll(reason);
    if (machine.state === "connecting") return;
    if (this.#isFinal) this.#host.close(reason);
    else this.#return.begin({ connection: first, reason, waitMs: waitMsOf(first, announced), retainMs: 0 });
  }

  dropConnection(connection: Connection, reason: AppError, announced?: AnnouncedTimes): void {
    this.#onLost(connection, reason, announced);
    connection.drop(reason);
  }

  /** Ends all connections, and the requests that wait for them. */
  #dropAll(reason: AppError): void {
    const { connections, context } = this.#host;
    const all = connections.all();
    connections.dropAll(reason);
    for (const connection of all) context.controls.failAll(connection, reason);
  }

  get #isFinal(): boolean {
    return this.#host.machine.state === "closing" || this.#host.options.sessionType === "Discovery";
  }

  #isLast(connection: Connection): boolean {
    return this.#host.connections.all().every((other) => other === connection || other.isDraining);
  }

  /** Takes out a connection that is logged out; what it had not finished goes on elsewhere. */
  #retire(connection: Connection): void {
    const { connections, context } = this.#host;
    const error = closed(undefined);
    connections.remove(connection);
    context.controls.failAll(connection, error);
    if (connections.size === 0) {
      // The others were lost while the target closed this one.
      this.#return.begin({ connection, reason: error, waitMs: waitMsOf(connection, undefined), retainMs: 0 });
    } else if (context.dispatcher.tasksOf(connection).length > 0) {
      this.#connectionRecovery.add(connection, { waitMs: 0, isKept: false });
      this.#connectionRecovery.start();
    }
    connection.drop(error);
  }

  /** Lets the tasks of a connection end, for a while. */
  async #drain(connection: Connection): Promise<void> {
    const { clock } = this.#dependencies;
    const deadlineMs = clock.nowMs() + MAX_DRAIN_MS;
    while (connection.inFlight > 0 && !connection.channel.isOver && clock.nowMs() < deadlineMs) {
      await sleep(clock, DRAIN_STEP_MS);
    }
  }

  #onLost(connection: Connection, reason: AppError, announced?: AnnouncedTimes): void {
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
    const { errorRecoveryLevel, defaultTime2Retain } = connection.parameters;
    const waitMs = waitMsOf(connection, announced);
    const retainMs = announced?.retainMs ?? defaultTime2Retain * 1000;
    // §7.7: a peer that makes format errors is not trusted with what it remembers.
    const isTrusted = reason.code !== "SESSION_PROTOCOL" && machine.state === "ready";
    const hasOthers = connections.size > 0;
    const isRetained = errorRecoveryLevel === 2 && retainMs > 0 && !connection.isLoggedOut;
    const isRecovering = isTrusted && (hasOthers || isRetained);
    if (hasOthers) {
      const { connectionId: cid, portal } = connection;
      context.emit({ kind: "connection-lost", cid, portal, isRecovering, reason });
      this.#dependencies.logger.warn("one of several connections was lost", {
        cid,
        portal: formatPortal(portal),
        code: reason.code,
        reason: reason.message,
      });
    }
    if (isRecovering || this.#return.isRetained)
      this.#connectionRecovery.add(connection, { waitMs, isKept: isRetained });
    if (isRecovering && hasOthers) {
      this.#connectionRecovery.start();
      return;
    }
    this.#dropAll(reason);
    const isKept = isRecovering || this.#return.isRetained;
    this.#return.begin({ connection, reason, waitMs, retainMs: isKept ? Math.max(1, retainMs) : 0 });
  }

  #createKeeper(): ConnectionKeeper {
    const { options, context, connections, machine } = this.#host;
    const leading: ConnectionPlan = {
      portal: options.portal,
      ...(options.localAddress === undefined ? {} : { localAddress: options.localAddress }),
      ...(options.localInterface === undefined ? {} : { localInterface: options.localInterface }),
      ...options.leading,
    };
    const maxConnections = (): number => this.#return.loggedIn.result.parameters.maxConnections;
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
        pauseMs: (connectionId) => (this.#lostEarly.get(connectionId) ?? 0) - this.#dependencies.clock.nowMs(),
      },
      [leading, ...(options.additionalConnections ?? [])],
      context.timers,
      this.#dependencies,
    );
  }

  async #join(place: ConnectionPlace, signal: AbortSignal): Promise<Connection> {
    const { connections, context, machine } = this.#host;
    const epoch = this.#return.epoch;
    if (machine.state !== "ready") throw notReady();
    this.#lostEarly.delete(place.connectionId);
    const loggedIn = await this.#admission.logIn({
      place,
      cmdSn: this.#return.window.nextCmdSn,
      join: this.#return.loggedIn.result,
      signal,
    });
    try {
      if (epoch !== this.#return.epoch || connections.size === 0) throw notReady();
      const connection = this.#admission.create(loggedIn, place, this.#return.window, true);
      this.#return.window.update(loggedIn.result.expCmdSn, loggedIn.result.maxCmdSn);
      connection.start();
      connection.requireAlive();
      await this.#admission.verify(connection);
      if (epoch !== this.#return.epoch || connections.size === 0 || signal.aborted) throw notReady();
      connection.isJoining = false;
      connections.add(connection);
      const { portal } = connection;
      this.#dependencies.logger.info("connection added", { portal: formatPortal(portal), cid: place.connectionId });
      context.emit({ kind: "connection-added", cid: place.connectionId, portal });
      context.dispatcher.pump();
      return connection;
    } catch (error) {
      loggedIn.channel.destroy(error instanceof AppError ? error : undefined);
      const waitMs = loggedIn.result.parameters.defaultTime2Wait * 1000;
      this.#lostEarly.set(place.connectionId, this.#dependencies.clock.nowMs() + waitMs);
      throw error;
    }
  }
}

/** What the target announced, else what was negotiated (§7.5). */
function waitMsOf(connection: Connection, announced: AnnouncedTimes | undefined): number {
  return announced?.waitMs ?? connection.parameters.defaultTime2Wait * 1000;
}

function closed(cause: unknown): SessionError {
  return new SessionError("SESSION_CONNECTION_LOST", "the connection was removed from its session", {
    retry: "same-path",
    cause,
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
