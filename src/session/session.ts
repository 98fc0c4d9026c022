import { assert } from "../base/assert.js";
import type { Timer } from "../base/clock.js";
import { type AppError, CancelledError } from "../base/errors.js";
import { Emitter } from "../base/emitter.js";
import { MAX_QUEUED_TASKS_PER_SESSION, MAX_TASKS_PER_SESSION, MAX_TEXT_NEGOTIATION_BYTES } from "../base/limits.js";
import type { Lun } from "../base/lun.js";
import type { Logger } from "../base/logger.js";
import { Mutex } from "../base/mutex.js";
import { formatPortal } from "../base/portal.js";
import { CommandWindow } from "./command-window.js";
import { Connection, type ConnectionOwner } from "./connection.js";
import { ControlExchanges } from "./control-exchanges.js";
import { TaskDispatcher } from "./dispatcher.js";
import { SessionError, closedError, stalledError } from "./errors.js";
import { Escalation } from "./escalation.js";
import { fenceOldNexus } from "./fence.js";
import { Keepalive, ping } from "./keepalive.js";
import { logOut, logOutOnRequest } from "./logout.js";
import { handleAsyncMessage, handleReject } from "./peer-requests.js";
import { PortalCycle } from "./portal-cycle.js";
import type { ReinstatementGuard } from "./reinstatement-guard.js";
import type { SessionContext } from "./session-context.js";
import type { SessionEvent, SessionSnapshot } from "./session-events.js";
import { type SessionState, SessionStateMachine } from "./session-state.js";
import { type LoggedIn, logIn } from "./session-login.js";
import {
  DEFAULT_SESSION_TIMERS,
  type SessionDependencies,
  type SessionOptions,
  type SessionTimers,
} from "./session-options.js";
import { SessionRecovery } from "./session-recovery.js";
import { takeSnapshot } from "./snapshot.js";
import type { ScsiTask } from "./task.js";
import { type TaskManagementRequest, manageTasks } from "./task-management.js";
import { exchangeText } from "./text-exchange.js";

const DEFAULT_MAX_TASKS = 256;
const LEADING_CONNECTION_ID = 0;
const FIRST_CMD_SN = 1;

/**
 * An iSCSI session (RFC 7143) as an initiator has it: one connection now, ErrorRecoveryLevel 0. Commands given to it
 * survive the loss of the connection: the session logs in again with the same ISID and sends what was unanswered.
 */
export class Session {
  readonly events = new Emitter<SessionEvent>();
  #options: SessionOptions;
  readonly #timers: SessionTimers;
  readonly #dependencies: SessionDependencies;
  readonly #logger: Logger;
  readonly #dispatcher: TaskDispatcher;
  readonly #controls: ControlExchanges;
  readonly #context: SessionContext;
  readonly #owner: ConnectionOwner;
  readonly #portals: PortalCycle;
  readonly #recovery: SessionRecovery;
  readonly #escalation: Escalation;
  readonly #keepalive: Keepalive;
  readonly #guards = new Set<ReinstatementGuard>();
  readonly #textTurn = new Mutex();
  readonly #machine = new SessionStateMachine();
  #loggedIn: LoggedIn | undefined;
  #connection: Connection | undefined;
  #reconnects = 0;
  #sweepTimer: Timer | undefined;

  private constructor(options: SessionOptions, dependencies: SessionDependencies) {
    const maxTasks = options.maxTasks ?? DEFAULT_MAX_TASKS;
    assert(options.isid.length === 6, "an ISID has six bytes");
    assert(maxTasks > 0 && maxTasks <= MAX_TASKS_PER_SESSION, "maxTasks out of range");
    this.#options = options;
    this.#timers = { ...DEFAULT_SESSION_TIMERS, ...options.timers };
    this.#dependencies = dependencies;
    this.#logger = dependencies.logger.child({ target: options.targetName ?? "(discovery)" });
    this.#dispatcher = new TaskDispatcher(
      { maxTasks, maxQueuedTasks: MAX_QUEUED_TASKS_PER_SESSION, taskTimeoutMs: this.#timers.taskTimeoutMs },
      dependencies,
    );
    this.#controls = new ControlExchanges(dependencies);
    this.#context = this.#createContext();
    this.#owner = this.#createOwner();
    this.#portals = new PortalCycle(options.portal, options.alternatePortals ?? []);
    this.#recovery = this.#createRecovery();
    this.#escalation = new Escalation(this.#context);
    this.#keepalive = new Keepalive(this.#context);
  }

  /**
   * Logs in at `portal`; the alternate portals are for coming back. Rejects with the error of the login (LoginError, AuthError,
   * TransportError, SessionError), or CancelledError when `signal` aborts; nothing stays open then.
   */
  static async open(
    options: SessionOptions,
    dependencies: SessionDependencies,
    signal?: AbortSignal,
  ): Promise<Session> {
    const session = new Session(options, dependencies);
    try {
      await session.#connectFirst(signal ?? new AbortController().signal);
    } catch (error) {
      session.close();
      throw error;
    }
    return session;
  }

  get state(): SessionState {
    return this.#machine.state;
  }

  /** Takes a command; see ScsiTask for its end. Never throws, never calls back before it returns. */
  execute(task: ScsiTask): void {
    this.#dispatcher.execute(task);
  }

  /** Adds a guard; the returned function removes it. */
  addGuard(guard: ReinstatementGuard): () => void {
    this.#guards.add(guard);
    return () => this.#guards.delete(guard);
  }

  /** Other credentials from the next login on; the connection that stands needs none. */
  renewChap(chap: NonNullable<SessionOptions["chap"]>): void {
    this.#options = { ...this.#options, chap };
  }

  /**
   * Has the target end tasks. Ours that it ended fail with SESSION_TASK_ABORTED. Rejects with SessionError
   * (SESSION_TASK_MANAGEMENT_FAILED names the target's answer).
   */
  taskManagement(request: TaskManagementRequest): Promise<void> {
    return manageTasks(this.#context, request);
  }

  /** Pings the target; resolves with the round trip in milliseconds. */
  nop(): Promise<number> {
    return ping(this.#context, this.#timers.nopTimeoutMs);
  }

  /** One text negotiation; `maxBytes` bounds the answer. Rejects with SessionError or ProtocolError. */
  text(
    pairs: readonly (readonly [string, string])[],
    maxBytes = MAX_TEXT_NEGOTIATION_BYTES,
  ): Promise<[string, string][]> {
    return this.#textTurn.run(() => exchangeText(this.#context, pairs, maxBytes));
  }

  /**
   * Gives the connection up and logs in again: tasks wait meanwhile, and guards look before they go on. For an owner
   * that no longer trusts what is behind the connection. Does nothing when there is none.
   */
  reconnect(reason: AppError): void {
    this.#drop(reason, 0);
  }

  /**
   * Ends the session in order: waiting tasks fail with SESSION_CLOSED, those at the target end with the logout.
   * Rejects with SESSION_LOGOUT_FAILED or SESSION_TIMEOUT when the target did not agree; the session is closed all
   * the same.
   */
  async logout(): Promise<void> {
    const { state } = this.#machine;
    if (state === "closed" || state === "closing") return;
    if (state !== "ready" && state !== "draining") {
      this.close();
      return;
    }
    this.#machine.moveTo("closing", "logging out");
    this.#dispatcher.setRefusal(closedError());
    this.#dispatcher.setGate("shut");
    this.#dispatcher.failWaiting(closedError());
    try {
      await logOut(this.#context);
    } finally {
      this.close();
    }
  }

  /** Ends the session now: the connection is cut, all tasks fail with SESSION_CLOSED. Can be called again. */
  close(reason?: AppError): void {
    if (this.#machine.state === "closed") return;
    this.#machine.moveTo("closed", reason?.message ?? "closed");
    const error = closedError(reason);
    this.#sweepTimer?.cancel();
    this.#recovery.stop(error);
    this.#dispatcher.setRefusal(error);
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.drop(error);
    if (connection !== undefined) this.#controls.failAll(connection, error);
    this.#dispatcher.detach(error);
    this.#dispatcher.failWaiting(error);
    this.events.emit({ kind: "closed", reason });
  }

  status(): SessionSnapshot {
    return takeSnapshot({
      state: this.#machine.state,
      reason: this.#machine.reason,
      options: this.#options,
      loggedIn: this.#loggedIn,
      reconnects: this.#reconnects,
      dispatcher: this.#dispatcher,
    });
  }

  async #connectFirst(signal: AbortSignal): Promise<void> {
    const loggedIn = await this.#login(signal);
    if (signal.aborted) {
      loggedIn.channel.destroy();
      throw new CancelledError("session", "SESSION_CANCELLED", "opening the session was cancelled");
    }
    this.#take(loggedIn).requireAlive();
    this.#machine.moveTo("ready", "");
    this.#armSweep();
    this.#dispatcher.setGate("open");
    const { portal, tsih } = this.status();
    this.#logger.info("session opened", { portal: formatPortal(portal), tsih });
    this.events.emit({ kind: "connected", portal, tsih });
  }

  #login(signal: AbortSignal): Promise<LoggedIn> {
    return logIn(
      {
        options: this.#options,
        timers: this.#timers,
        redirects: this.#portals.current,
        cmdSn: FIRST_CMD_SN,
        connectionId: LEADING_CONNECTION_ID,
        signal,
      },
      this.#dependencies,
    );
  }

  /** The connection becomes the session's; nothing flows over it yet. */
  #take(loggedIn: LoggedIn): Connection {
    const { result, channel } = loggedIn;
    const window = new CommandWindow(result.cmdSn);
    window.update(result.expCmdSn, result.maxCmdSn);
    const connection = new Connection({
      channel,
      connectionId: LEADING_CONNECTION_ID,
      parameters: result.parameters,
      nextExpStatSn: result.nextExpStatSn,
      window,
      owner: this.#owner,
    });
    this.#loggedIn = loggedIn;
    this.#connection = connection;
    this.#dispatcher.attach(connection, window);
    connection.start();
    return connection;
  }

  async #adopt(loggedIn: LoggedIn, signal: AbortSignal): Promise<void> {
    const before = this.#loggedIn;
    this.#machine.moveTo("verifying", "looking at what is behind the new connection");
    const connection = this.#take(loggedIn);
    connection.requireAlive();
    if (before !== undefined) await fenceOldNexus(this.#context, before.result, loggedIn.result, signal);
    connection.requireAlive();
    this.#dispatcher.setGate("probes");
    for (const guard of [...this.#guards]) {
      const verdict = await guard.verify();
      if (verdict.kind === "refused") throw this.#refuse(guard.lun, verdict.reason, loggedIn);
    }
    connection.requireAlive();
  }

  #refuse(lun: Lun, reason: AppError, { portal }: LoggedIn): SessionError {
    const error = new SessionError("SESSION_PATH_REFUSED", `${formatPortal(portal)}: ${reason.message}`, {
      retry: "other-path",
      cause: reason,
    });
    this.events.emit({ kind: "path-refused", portal, reason });
    this.#dispatcher.failWaiting(error, lun);
    return error;
  }

  #resume({ portal, result: { tsih } }: LoggedIn, outageMs: number): void {
    this.#reconnects += 1;
    this.#machine.moveTo("ready", "");
    this.#dispatcher.setRefusal(undefined);
    this.#logger.info("session is back", { portal: formatPortal(portal), tsih, outageMs: Math.round(outageMs) });
    this.events.emit({ kind: "reconnected", portal, tsih, outageMs });
    this.#dispatcher.setGate("open");
  }

  #onLost(connection: Connection, reason: AppError, delayMs: number): void {
    if (connection !== this.#connection) return;
    this.#connection = undefined;
    this.#controls.failAll(connection, reason);
    // The opening itself notices that its channel is over.
    if (this.#machine.state === "connecting") return;
    if (this.#machine.state === "closing" || this.#options.sessionType === "Discovery") {
      this.close(reason);
      return;
    }
    const portal = this.#loggedIn?.portal ?? this.#options.portal;
    const wait = connection.parameters.defaultTime2Wait * 1000;
    this.#machine.moveTo("recovering", reason.message);
    this.#logger.warn("connection lost", { portal: formatPortal(portal), code: reason.code, reason: reason.message });
    this.#dispatcher.detach(
      new SessionError("SESSION_TASK_LOST", `the connection was lost while the command ran: ${reason.message}`, {
        retry: "same-path",
        cause: reason,
      }),
    );
    this.events.emit({ kind: "disconnected", portal, reason });
    this.#recovery.start(Math.max(delayMs, wait));
  }

  #drop(reason: AppError, delayMs: number): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    this.#onLost(connection, reason, delayMs);
    connection.drop(reason);
  }

  #createContext(): SessionContext {
    const state = (): SessionState => this.#machine.state;
    const connection = (): Connection | undefined => this.#connection;
    return {
      timers: this.#timers,
      dependencies: { ...this.#dependencies, logger: this.#logger },
      dispatcher: this.#dispatcher,
      controls: this.#controls,
      get state() {
        return state();
      },
      get connection() {
        return connection();
      },
      emit: (event) => this.events.emit(event),
      drop: (reason, delayMs) => this.#drop(reason, delayMs ?? 0),
      text: (pairs) => this.text(pairs),
      beginLogoutOnRequest: (timeLimitMs) => this.#beginLogoutOnRequest(timeLimitMs),
    };
  }

  #createOwner(): ConnectionOwner {
    return {
      findTask: (tag) => this.#dispatcher.find(tag),
      onTaskDone: (record, result) => this.#dispatcher.complete(record, result),
      onWindowUpdate: () => {
        if (this.#dispatcher.queued > 0) this.#dispatcher.pump();
      },
      onAsyncMessage: (connection, pdu) => handleAsyncMessage(this.#context, connection, pdu),
      onReject: (connection, pdu) => handleReject(this.#context, connection, pdu),
      onControlResponse: (pdu) => this.#controls.deliver(pdu),
      onLost: (connection, reason) => this.#onLost(connection, reason, 0),
    };
  }

  #createRecovery(): SessionRecovery {
    return new SessionRecovery(
      {
        connect: (signal) => this.#login(signal),
        adopt: (loggedIn, signal) => this.#adopt(loggedIn, signal),
        resume: (loggedIn, outageMs) => this.#resume(loggedIn, outageMs),
        onAttemptFailed: (attempt, reason) => this.#onAttemptFailed(attempt, reason),
        onLimit: (reason) => {
          this.events.emit({ kind: "unavailable", reason });
          this.#dispatcher.setRefusal(reason);
          this.#dispatcher.failWaiting(reason);
        },
      },
      this.#timers,
      this.#dependencies,
    );
  }

  #onAttemptFailed(attempt: number, reason: AppError): void {
    const portal = this.#portals.current.begin();
    this.#portals.advance();
    this.#machine.explain(reason.message);
    this.#logger.warn("reconnecting failed", { portal: formatPortal(portal), attempt, reason: reason.message });
    this.events.emit({ kind: "reconnect-failed", portal, attempt, reason });
  }

  #beginLogoutOnRequest(timeLimitMs: number): void {
    if (this.#machine.state !== "ready") return;
    this.#machine.moveTo("draining", "the target asked us to log out");
    this.#dispatcher.setGate("shut");
    void logOutOnRequest(this.#context, timeLimitMs);
  }

  #armSweep(): void {
    const { sweepIntervalMs } = this.#timers;
    this.#sweepTimer = this.#dependencies.clock.setTimer(sweepIntervalMs, () => {
      const nowMs = this.#dependencies.clock.nowMs();
      for (const record of this.#dispatcher.sweep(nowMs)) this.#escalation.begin(record);
      if (this.#dispatcher.isStalled) this.#drop(stalledError(), 0);
      if (this.#options.sessionType !== "Discovery") this.#keepalive.check(nowMs);
      if (this.#machine.state !== "closed") this.#armSweep();
    });
  }
}
