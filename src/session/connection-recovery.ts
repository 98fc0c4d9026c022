import { sleep } from "../base/clock.js";
import { asAppError } from "../base/errors.js";
import { LogoutReason, TaskManagementFunction, TaskManagementResponseCode } from "../wire/constants.js";
import type { LogoutResponsePdu, TaskManagementRequestPdu } from "../wire/pdu.js";
import { plugCommandGap } from "./command-retry.js";
import type { Connection } from "./connection.js";
import { SessionError } from "./errors.js";
import { logOut, quiesce } from "./logout.js";
import type { RequestNumbers, SessionContext } from "./session-context.js";
import { requestFunction } from "./task-management.js";
import type { TaskRecord } from "./task-record.js";

export interface ConnectionRecoveryHost {
  readonly context: SessionContext;
  /** Connection recovery does not work: the session must begin anew. */
  giveUp(reason: SessionError): void;
  /** The tasks of a lost connection have found another; its place is free again. */
  onRecovered(connection: Connection): void;
}

interface Lost {
  readonly connection: Connection;
  /** Time2Wait is over then; nothing about this connection is said before (RFC 7143 §7.5). */
  readonly notBeforeMs: number;
  /** Its tasks can be reassigned (ErrorRecoveryLevel 2). */
  readonly isKept: boolean;
  /** The target knows that the connection is gone, and has let go of its tasks. */
  isLoggedOut: boolean;
}

/** Logout response (§11.15.1). */
const CONNECTION_NOT_FOUND = 1;

/** Requests under way at one time, well within what a target takes as immediate. */
const REASSIGNS_AT_A_TIME = 16;

/**
 * Connection recovery (RFC 7143 §7.1.4.3, §7.2.2): what was under way on a lost connection goes on over others of the
 * session. At ErrorRecoveryLevel 2 the lost connection is logged out for recovery and its tasks are reassigned, so no
 * command is carried out twice; below that it is logged out for good, which ends its tasks at the target, and they
 * are sent as new commands. Whatever does not work ends in session recovery.
 */
export class ConnectionRecovery {
  readonly #host: ConnectionRecoveryHost;
  #lost: Lost[] = [];
  #stop = new AbortController();
  #isRunning = false;
  /** Connections lost so far: tells a failure of ours from one that another loss explains. */
  #losses = 0;

  constructor(host: ConnectionRecoveryHost) {
    this.#host = host;
  }

  /** Do tasks wait for a connection here? */
  get isPending(): boolean {
    return this.#lost.length > 0;
  }

  /** The connection that a login may stand for when there is no other: the oldest that was lost. */
  get oldest(): Connection | undefined {
    return this.#lost[0]?.connection;
  }

  /** Until when nothing may be tried for the connections that wait here; 0 when none does. */
  get notBeforeMs(): number {
    return Math.max(0, ...this.#lost.map((lost) => lost.notBeforeMs));
  }

  isPendingFor(connectionId: number): boolean {
    return this.#lost.some(({ connection }) => connection.connectionId === connectionId);
  }

  /** A connection was lost. `waitMs`: what its target wants us to wait; `isKept`: it keeps the tasks meanwhile. */
  add(connection: Connection, { waitMs, isKept }: { readonly waitMs: number; readonly isKept: boolean }): void {
    const { clock } = this.#host.context.dependencies;
    const notBeforeMs = clock.nowMs() + waitMs;
    this.#losses += 1;
    const known = this.#lost.find((lost) => lost.connection.connectionId === connection.connectionId);
    this.#lost = [
      ...this.#lost.filter((lost) => lost !== known),
      { connection, notBeforeMs, isKept, isLoggedOut: connection.isLoggedOut },
    ];
    // A connection that stood for a lost one had taken over its place, and maybe not yet its tasks.
    if (known !== undefined) this.#adoptTasks(known.connection, connection);
  }

  /** A login with the same CID has ended the lost connection at the target (§6.3.4). */
  markReinstated(connectionId: number): void {
    for (const lost of this.#lost) if (lost.connection.connectionId === connectionId) lost.isLoggedOut = true;
  }

  /** Forgets everything: the session begins anew. */
  reset(): void {
    this.#stop.abort(new SessionError("SESSION_CLOSED", "connection recovery was given up"));
    this.#stop = new AbortController();
    this.#lost = [];
    this.#isRunning = false;
  }

  /** Goes to work, when there is a connection to work with and something to do. */
  start(): void {
    if (this.#isRunning || this.#lost.length === 0) return;
    this.#isRunning = true;
    void this.#run(this.#stop.signal);
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { context } = this.#host;
    while (!signal.aborted) {
      const lost = this.#lost[0];
      if (lost === undefined || context.connections.size === 0) break;
      const losses = this.#losses;
      try {
        await this.#recover(lost, signal);
      } catch (error) {
        if (isOver(signal)) return;
        const { message } = asAppError(error);
        // The connection we worked with may have gone too: then another one goes on, or a new login.
        if (this.#losses !== losses) continue;
        this.#host.giveUp(
          new SessionError("SESSION_CONNECTION_LOST", `connection recovery failed: ${message}`, {
            retry: "same-path",
            cause: error,
          }),
        );
        return;
      }
    }
    if (!signal.aborted) this.#isRunning = false;
  }

  async #recover(lost: Lost, signal: AbortSignal): Promise<void> {
    const { context } = this.#host;
    const { clock, logger } = context.dependencies;
    const { connection } = lost;
    await sleep(clock, Math.max(0, lost.notBeforeMs - clock.nowMs()), signal);
    if (context.connections.size === 0) return;
    await this.#logOutLost(lost, signal);
    signal.throwIfAborted();
    const moved = await this.#moveTasks(connection, lost.isKept, signal);
    if (moved === undefined) return;
    this.#lost = this.#lost.filter((other) => other !== lost);
    context.counters.connectionRecoveries += 1;
    logger.info("connection recovered", { cid: connection.connectionId, tasks: moved });
    context.emit({ kind: "connection-recovered", cid: connection.connectionId, reassignedTasks: moved });
    this.#host.onRecovered(connection);
  }

  async #logOutLost(lost: Lost, signal: AbortSignal): Promise<void> {
    const { context } = this.#host;
    const over = context.connections.first;
    if (lost.isLoggedOut || over === undefined) return;
    const reason = lost.isKept ? LogoutReason.recovery : LogoutReason.closeConnection;
    const release = lost.isKept ? undefined : await quiesce(context);
    const answer = await this.#logOut(lost.connection, over, reason).finally(() => release?.());
    lost.isLoggedOut = true;
    const { clock } = context.dependencies;
    if (answer !== undefined && answer.time2Wait > 0) await sleep(clock, answer.time2Wait * 1000, signal);
  }

  /**
   * Makes way for questions over the only connection there is: the others that were lost are logged out, and the
   * numbers of commands that the target never saw are used up, so that nothing holds the questions up. Those commands
   * begin anew later; a target has dropped what it held of them with the logout. Rejects with AppError.
   */
  async clear(connection: Connection, signal: AbortSignal): Promise<void> {
    const { context } = this.#host;
    const { dispatcher } = context;
    for (const lost of [...this.#lost]) await this.#logOutLost(lost, signal);
    connection.requireAlive();
    const { window } = dispatcher;
    for (let cmdSn = window.expCmdSn; cmdSn !== window.nextCmdSn; cmdSn = (cmdSn + 1) >>> 0) {
      plugCommandGap(context, connection, cmdSn);
    }
    const unseen = dispatcher.active().filter((record) => !window.isAcknowledged(record.cmdSn));
    dispatcher.takeBack(unseen, lostError(), { isUnseen: true });
  }

  /** A target that has forgotten an idle connection has nothing of ours: undefined then. */
  async #logOut(of: Connection, over: Connection, reason: number): Promise<LogoutResponsePdu | undefined> {
    const { context } = this.#host;
    try {
      return await logOut(context, { reason, of, over });
    } catch (error) {
      const isUnknown = error instanceof SessionError && error.details["response"] === CONNECTION_NOT_FOUND;
      if (isUnknown && context.dispatcher.tasksOf(of).length === 0) return undefined;
      throw error;
    }
  }

  /** Returns how many tasks were reassigned; undefined when there is no connection to move them to. */
  async #moveTasks(lost: Connection, isKept: boolean, signal: AbortSignal): Promise<number | undefined> {
    const { dispatcher, connections, counters } = this.#host.context;
    const ended: TaskRecord[] = [];
    const kept: TaskRecord[] = [];
    for (const record of dispatcher.tasksOf(lost)) {
      if (connections.size === 0) return undefined;
      if (!dispatcher.window.isAcknowledged(record.cmdSn)) this.#sendAgain(record);
      else if (isKept) kept.push(record);
      else ended.push(record);
    }
    if (ended.length > 0) dispatcher.takeBack(ended, lostError());
    let next = 0;
    const work = async (): Promise<void> => {
      for (let record = kept[next]; record !== undefined; record = kept[next]) {
        next += 1;
        signal.throwIfAborted();
        if (dispatcher.has(record) && record.connection === lost) await this.#reassign(record);
      }
    };
    await Promise.all(Array.from({ length: REASSIGNS_AT_A_TIME }, work));
    counters.taskReassigns += kept.length;
    return kept.length;
  }

  /** The target never saw the command: it fills its gap over another connection (§7.2.1). */
  #sendAgain(record: TaskRecord): void {
    const { dispatcher, connections, counters } = this.#host.context;
    const connection = connections.choose();
    if (connection === undefined) return;
    record.reset();
    counters.commandRetries += 1;
    dispatcher.retry(record, connection);
  }

  async #reassign(record: TaskRecord): Promise<void> {
    const { context } = this.#host;
    const { dispatcher, connections, timers } = context;
    const connection = connections.choose();
    if (connection === undefined) throw noConnection();
    // Before the answer: what follows it may arrive in the same breath.
    dispatcher.reassign(record, connection);
    const options = { what: "TASK REASSIGN", timeoutMs: timers.abortTimeoutMs, connection };
    const answer = await requestFunction(context, options, (numbers) => reassignPdu(record, numbers));
    const { functionComplete, taskDoesNotExist, functionRejected } = TaskManagementResponseCode;
    if (answer.response === taskDoesNotExist) {
      if (dispatcher.has(record)) dispatcher.takeBack([record], lostError());
      return;
    }
    // LIO says "rejected" when it has moved the task and "complete" when it has none: what it does decides (see check).
    if (answer.response === functionComplete || answer.response === functionRejected) return;
    throw new SessionError("SESSION_TASK_MANAGEMENT_FAILED", `TASK REASSIGN was answered with ${answer.response}`, {
      details: { response: answer.response },
    });
  }

  #adoptTasks(from: Connection, to: Connection): void {
    const { dispatcher } = this.#host.context;
    for (const record of dispatcher.tasksOf(from)) dispatcher.transfer(record, to);
  }

  /** A task that was moved and of which nothing is heard means that the target has not moved it. Called at every sweep. */
  check(nowMs: number): void {
    const { dispatcher, timers } = this.#host.context;
    const isSilent = dispatcher
      .active()
      .some(
        ({ isReassigned, connection, sentMs }) =>
          isReassigned && connection?.channel.isOver === false && nowMs - sentMs >= timers.reassignTimeoutMs,
      );
    if (!isSilent) return;
    const message = `the target does not go on with a task that was moved ${timers.reassignTimeoutMs} ms ago`;
    this.#host.giveUp(new SessionError("SESSION_TIMEOUT", message, { retry: "same-path" }));
  }
}

/** ExpDataSN acknowledges the Data-In or R2Ts before it; 0 leaves the reference as it is (RFC 7143 §11.5.6, §7.2.2). */
function reassignPdu(record: TaskRecord, { tag, cmdSn, expStatSn }: RequestNumbers): TaskManagementRequestPdu {
  const expDataSn = record.task.dataOut === undefined ? record.nextDataSn : record.nextR2tSn;
  record.acknowledgedDataSn = record.nextDataSn;
  record.acknowledgedBytes = record.receivedBytes;
  return {
    type: "task-management-request",
    isImmediate: true,
    function: TaskManagementFunction.taskReassign,
    lun: record.task.lun,
    initiatorTaskTag: tag,
    referencedTaskTag: record.initiatorTaskTag,
    cmdSn,
    expStatSn,
    refCmdSn: 0,
    expDataSn,
  };
}

function lostError(): SessionError {
  return new SessionError(
    "SESSION_TASK_LOST",
    "the connection was lost while the command ran, and with it the command",
    {
      retry: "same-path",
    },
  );
}

function noConnection(): SessionError {
  return new SessionError("SESSION_CONNECTION_LOST", "there is no connection to the target now", {
    retry: "same-path",
  });
}

/** Asked anew after a wait. */
function isOver(signal: AbortSignal): boolean {
  return signal.aborted;
}
