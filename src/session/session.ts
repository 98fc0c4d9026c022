import type { ChapCredentials, PortalAddress } from "../base/access.js";
import { assert } from "../base/assert.js";
import type { Timer } from "../base/clock.js";
import type { AppError } from "../base/errors.js";
import { Emitter } from "../base/emitter.js";
import { MAX_QUEUED_TASKS_PER_SESSION, MAX_TASKS_PER_SESSION, MAX_TEXT_NEGOTIATION_BYTES } from "../base/limits.js";
import { type Lun, lunEquals } from "../base/lun.js";
import type { Logger } from "../base/logger.js";
import { Mutex } from "../base/mutex.js";
import { formatPortal } from "../base/portal.js";
import { LogoutReason, RESERVED_TAG } from "../wire/constants.js";
import { CommandRetry } from "./command-retry.js";
import type { Connection } from "./connection.js";
import type { ConnectionOwner } from "./connection-owner.js";
import type { ConnectionPolicy } from "./connection-policy.js";
import { ConnectionSet } from "./connection-set.js";
import { ControlExchanges } from "./control-exchanges.js";
import { TaskDispatcher } from "./dispatcher.js";
import { SessionError, closedError, silentError, stalledError } from "./errors.js";
import { Escalation } from "./escalation.js";
import { Keepalive, ping } from "./keepalive.js";
import { logOut } from "./logout.js";
import { handleAsyncMessage, handleReject } from "./peer-requests.js";
import type { ReinstatementGuard } from "./reinstatement-guard.js";
import type { SessionContext } from "./session-context.js";
import { type RecoveryCounters, type SessionEvent, type SessionSnapshot, noRecovery } from "./session-events.js";
import { SessionLinks } from "./session-links.js";
import {
  type ConnectionPlan,
  DEFAULT_SESSION_TIMERS,
  type SessionDependencies,
  type SessionOptions,
  type SessionTimers,
} from "./session-options.js";
import { type SessionState, SessionStateMachine } from "./session-state.js";
import { takeSnapshot } from "./snapshot.js";
import type { ScsiTask } from "./task.js";
import type { TaskRecord } from "./task-record.js";
import { type TaskManagementAnswer, type TaskManagementRequest, manageTasks, queryTask } from "./task-management.js";
import { exchangeText } from "./text-exchange.js";

const DEFAULT_MAX_TASKS = 256;

/**
 * An iSCSI session (RFC 7143) as an initiator has it: one connection or several, ErrorRecoveryLevel 0 to 2. Commands given to
 * it survive the loss of connections: they go on over others where the level allows it, else the session logs in
 * again with the same ISID and sends what was unanswered.
 */
export class Session {
  readonly events = new Emitter<SessionEvent>();
  #options: SessionOptions;
  readonly #timers: SessionTimers;
  readonly #dependencies: SessionDependencies;
  readonly #logger: Logger;
  readonly #dispatcher: TaskDispatcher;
  readonly #controls: ControlExchanges;
  readonly #counters: RecoveryCounters = noRecovery();
  readonly #connections: ConnectionSet;
  readonly #context: SessionContext;
  readonly #links: SessionLinks;
  readonly #escalation: Escalation;
  readonly #keepalive: Keepalive;
  readonly #commandRetry: CommandRetry;
  readonly #guards = new Set<ReinstatementGuard>();
  readonly #textTurn = new Mutex();
  readonly #machine = new SessionStateMachine();
  #sweepTimer: Timer | undefined;

  private constructor(options: SessionOptions, dependencies: SessionDependencies) {
    const maxTasks = options.maxTasks ?? DEFAULT_MAX_TASKS;
    assert(options.isid.length === 6, "an ISID has six bytes");
    assert(maxTasks > 0 && maxTasks <= MAX_TASKS_PER_SESSION, "maxTasks out of range");
    this.#options = options;
    this.#timers = { ...DEFAULT_SESSION_TIMERS, ...options.timers };
    this.#logger = dependencies.logger.child({ target: options.targetName ?? "(discovery)" });
    this.#dependencies = { ...dependencies, logger: this.#logger };
    const { taskTimeoutMs, taskTimeoutDeltaMs } = this.#timers;
    this.#dispatcher = new TaskDispatcher(
      { maxTasks, maxQueuedTasks: MAX_QUEUED_TASKS_PER_SESSION, taskTimeoutMs, taskTimeoutDeltaMs },
      dependencies,
    );
    this.#controls = new ControlExchanges(dependencies);
    this.#connections = new ConnectionSet(options.policy ?? "round-robin");
    this.#context = this.#createContext();
    this.#links = this.#createLinks();
    this.#escalation = new Escalation(this.#context);
    this.#keepalive = new Keepalive(this.#context);
    this.#commandRetry = new CommandRetry(this.#context);
  }

  /**
   * Logs in at `portal`; the alternate portals are for coming back, and additional connections join after it. Rejects with
   * the error of the login (LoginError, AuthError, TransportError, SessionError), or CancelledError when `signal`
   * aborts; nothing stays open then.
   */
  static async open(
    options: SessionOptions,
    dependencies: SessionDependencies,
    signal?: AbortSignal,
  ): Promise<Session> {
    const session = new Session(options, dependencies);
    try {
      await session.#links.open(signal ?? new AbortController().signal);
    } catch (error) {
      session.close();
      throw error;
    }
    session.#armSweep();
    const { portal, tsih } = session.status();
    session.#logger.info("session opened", { portal: formatPortal(portal), tsih });
    session.events.emit({ kind: "connected", portal, tsih });
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

  /** Other credentials from the next login on; the connections that stand need none. */
  renewChap(chap: ChapCredentials): void {
    this.#options = { ...this.#options, chap };
  }

  /** Portals that the target advertises: recovery tries them after the ones it was given, unless it is pinned. */
  setAdvertisedPortals(portals: readonly PortalAddress[]): void {
    this.#links.setAdvertisedPortals(portals);
  }

  /** For one of several paths (SessionOptions.evacuation): another has come up, over which waiting tasks may go. */
  handOver(): void {
    this.#links.handOver();
  }

  /** How commands are spread over the connections from now on. */
  setPolicy(policy: ConnectionPolicy): void {
    this.#connections.policy = policy;
  }

  /**
   * Adds a connection, while commands go on; resolves with its CID once it carries commands. From then on it belongs to the
   * session: when it is lost it is made again. Rejects with SESSION_CONNECTION_LIMIT past what the target admits,
   * or with the error of its login, and nothing has changed then.
   */
  addConnection(plan: ConnectionPlan): Promise<number> {
    return this.#links.add(plan);
  }

  /**
   * Closes one connection in order, while commands go on over the others. Rejects with SESSION_CONNECTION_LAST for the
   * last one, SESSION_CONNECTION_UNKNOWN, or the error of the logout.
   */
  removeConnection(connectionId: number): Promise<void> {
    return this.#links.remove(connectionId);
  }

  /**
   * Has the target end tasks, or say something of them. Ours that it ended fail with SESSION_TASK_ABORTED. Rejects with
   * SessionError (SESSION_TASK_MANAGEMENT_FAILED names the target's answer).
   */
  taskManagement(request: TaskManagementRequest): Promise<TaskManagementAnswer> {
    return manageTasks(this.#context, request);
  }

  /** Does the target have this task (RFC 7144)? False when it is not sent or has ended. Rejects with SessionError. */
  async queryTask(task: ScsiTask): Promise<boolean> {
    const record = this.#dispatcher.active().find((active) => active.task === task);
    return record !== undefined && queryTask(this.#context, record);
  }

  /** Pings the target; resolves with the round trip in milliseconds. */
  nop(): Promise<number> {
    return ping(this.#context, this.#timers.nopTimeoutMs);
  }

  /** One text negotiation; `maxBytes` bounds the answer. Rejects with SessionError or ProtocolError. */
  text(
    pairs: readonly (readonly [string, string])[],
    maxBytes = MAX_TEXT_NEGOTIATION_BYTES,
    connection?: Connection,
  ): Promise<[string, string][]> {
    return this.#textTurn.run(() => exchangeText(this.#context, pairs, { maxBytes, connection }));
  }

  /**
   * Gives all connections up and logs in again: tasks wait meanwhile, and guards look before they go on. For an owner
   * that no longer trusts what is behind the connections. Does nothing when there is none.
   */
  reconnect(reason: AppError): void {
    this.#links.drop(reason);
  }

  /**
   * Ends the session in order: waiting tasks fail with SESSION_CLOSED, those at the target end with the logout.
   * Rejects with SESSION_LOGOUT_FAILED or SESSION_TIMEOUT when the target did not agree; the session is closed all
   * the same.
   */
  async logout(): Promise<void> {
    const { state } = this.#machine;
    if (state === "closed" || state === "closing") return;
    const of = this.#connections.first;
    if ((state !== "ready" && state !== "draining") || of === undefined) {
      this.close();
      return;
    }
    this.#machine.moveTo("closing", "logging out");
    this.#dispatcher.setRefusal(closedError());
    this.#dispatcher.setGate("shut");
    this.#dispatcher.failWaiting(closedError());
    try {
      await logOut(this.#context, { reason: LogoutReason.closeSession, of });
    } finally {
      this.close();
    }
  }

  /** Ends the session now: its connections are cut, all tasks fail with SESSION_CLOSED. Can be called again. */
  close(reason?: AppError): void {
    if (this.#machine.state === "closed") return;
    this.#machine.moveTo("closed", reason?.message ?? "closed");
    const error = closedError(reason);
    this.#sweepTimer?.cancel();
    this.#dispatcher.setRefusal(error);
    this.#links.close(error);
    this.#dispatcher.detach(error);
    this.#dispatcher.failWaiting(error);
    this.events.emit({ kind: "closed", reason });
  }

  status(): SessionSnapshot {
    return takeSnapshot({
      state: this.#machine.state,
      reason: this.#machine.reason,
      options: this.#options,
      loggedIn: this.#links.loggedIn,
      reconnects: this.#links.reconnects,
      dispatcher: this.#dispatcher,
      connections: this.#connections,
      recovery: this.#counters,
    });
  }

  #createContext(): SessionContext {
    const state = (): SessionState => this.#machine.state;
    const connections = this.#connections;
    return {
      timers: this.#timers,
      dependencies: this.#dependencies,
      dispatcher: this.#dispatcher,
      controls: this.#controls,
      connections,
      counters: this.#counters,
      get state() {
        return state();
      },
      get connection() {
        return connections.first;
      },
      emit: (event) => this.events.emit(event),
      drop: (reason, announced) => this.#links.drop(reason, announced),
      dropConnection: (connection, reason, announced) => this.#links.dropConnection(connection, reason, announced),
      text: (pairs, connection) => this.text(pairs, MAX_TEXT_NEGOTIATION_BYTES, connection),
      beginLogoutOnRequest: (connection, timeLimitMs) => this.#links.beginLogoutOnRequest(connection, timeLimitMs),
      beginEscalation: (lun, connection) => this.#beginEscalation(lun, connection),
    };
  }

  #createLinks(): SessionLinks {
    const options = (): SessionOptions => this.#options;
    return new SessionLinks(
      {
        context: this.#context,
        machine: this.#machine,
        connections: this.#connections,
        guards: this.#guards,
        owner: this.#createOwner(),
        get options() {
          return options();
        },
        close: (reason) => this.close(reason),
      },
      this.#dependencies,
    );
  }

  #createOwner(): Omit<ConnectionOwner, "onLost"> {
    return {
      counters: this.#counters,
      findTask: (tag) => this.#dispatcher.find(tag),
      isAbandoned: (tag) => this.#dispatcher.isAbandoned(tag),
      onTaskDone: (record, result) => this.#dispatcher.complete(record, result),
      onWindowUpdate: () => {
        if (this.#dispatcher.queued > 0) this.#dispatcher.pump();
      },
      onAsyncMessage: (connection, pdu) => handleAsyncMessage(this.#context, connection, pdu),
      onReject: (connection, pdu) => handleReject(this.#context, connection, pdu),
      onControlResponse: (pdu) => this.#controls.deliver(pdu),
      onControlLost: (tag) =>
        tag === RESERVED_TAG ||
        this.#controls.fail(
          tag,
          new SessionError("SESSION_DIGEST", "the answer to the request was lost", { retry: "same-path" }),
        ),
    };
  }

  #beginEscalation(lun: Lun, connection: Connection): void {
    for (const record of this.#dispatcher.tasksOf(connection)) {
      if (lunEquals(record.task.lun, lun) && !record.isAborting) this.#escalation.begin(record);
    }
  }

  /** A question about a connection that is not in use yet is not worth a reset: the connection is given up. */
  #onTimeout(record: TaskRecord): void {
    const { connection } = record;
    if (connection?.isJoining !== true) this.#escalation.begin(record);
    else connection.drop(silentError());
  }

  #armSweep(): void {
    const { sweepIntervalMs } = this.#timers;
    this.#sweepTimer = this.#dependencies.clock.setTimer(sweepIntervalMs, () => {
      const nowMs = this.#dependencies.clock.nowMs();
      for (const record of this.#dispatcher.sweep(nowMs)) this.#onTimeout(record);
      if (this.#dispatcher.isStalled) this.#links.drop(stalledError());
      this.#links.check(nowMs);
      if (this.#options.sessionType !== "Discovery") {
        for (const connection of this.#links.audible) this.#keepalive.check(connection, nowMs);
        this.#commandRetry.check(nowMs);
      }
      if (this.#machine.state !== "closed") this.#armSweep();
    });
  }
}
