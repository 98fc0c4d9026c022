import type { Clock } from "../base/clock.js";
import { MAX_ABANDONED_TASKS } from "../base/limits.js";
import { type Lun, lunEquals } from "../base/lun.js";
import { CommandWindow } from "./command-window.js";
import type { Connection } from "./connection.js";
import { SessionError } from "./errors.js";
import type { ScsiResult, ScsiTask } from "./task.js";
import { TaskQueue } from "./task-queue.js";
import { TaskRecord } from "./task-record.js";
import { TaskTable } from "./task-table.js";

/**
 * `open`: tasks go out; `probes`: only those of the guards; `shut`: all wait, and probes fail because the connection
 * they would ask about is gone.
 */
export type Gate = "open" | "probes" | "shut";

export interface TaskCounters {
  readOperations: number;
  writeOperations: number;
  otherOperations: number;
  readBytes: number;
  writtenBytes: number;
  /** Tasks that were sent a second time after the path was lost. */
  reissuedTasks: number;
}

/** For questions, while tasks that wait for the answer have all other slots. */
const PROBE_SLOTS = 8;

/** Chooses the connection of the next command; undefined when none can take it. */
export type Router = (record: TaskRecord) => Connection | undefined;

export interface TakeBackOptions {
  /** Their answers may still come over another connection than the one that tells of their end. */
  readonly mayBeAnswered?: boolean;
  /** The target never saw them: even what must not happen twice may be sent. */
  readonly isUnseen?: boolean;
}

export interface DispatcherOptions {
  readonly maxTasks: number;
  readonly maxQueuedTasks: number;
  readonly taskTimeoutMs: number;
  /** Added to the time of every task. */
  readonly taskTimeoutDeltaMs: number;
}

/**
 * Which task goes out when: order, window, slots. Holds every task from `execute` until its `onDone`.
 * Knows nothing of bytes; the connection does the talking.
 */
export class TaskDispatcher {
  readonly counters: TaskCounters = {
    readOperations: 0,
    writeOperations: 0,
    otherOperations: 0,
    readBytes: 0,
    writtenBytes: 0,
    reissuedTasks: 0,
  };
  readonly #options: DispatcherOptions;
  readonly #clock: Clock;
  readonly #table: TaskTable;
  readonly #waiting = new TaskQueue();
  readonly #probes = new TaskQueue();
  #window = new CommandWindow(1);
  #route: Router = () => undefined;
  /** Tags of tasks that ended without their answer, oldest first. */
  readonly #abandoned = new Set<number>();
  #gate: Gate = "shut";
  #refusal: SessionError | undefined;
  #isPaused = false;
  #sequence = 0;
  #coarseNowMs: number;
  /** Since when tasks wait although the target has none of them. */
  #idleSinceMs: number | undefined;

  constructor(options: DispatcherOptions, dependencies: { readonly clock: Clock }) {
    this.#options = options;
    this.#clock = dependencies.clock;
    this.#table = new TaskTable(options.maxTasks + PROBE_SLOTS);
    this.#coarseNowMs = dependencies.clock.nowMs();
  }

  get window(): CommandWindow {
    return this.#window;
  }

  get inFlight(): number {
    return this.#table.size;
  }

  /** Tasks of the session's users that are not at the target. */
  get waiting(): number {
    return this.#waiting.length;
  }

  get queued(): number {
    return this.#waiting.length + this.#probes.length;
  }

  /** A new session at the target: fresh numbers. The table must be empty. */
  attach(route: Router, window: CommandWindow): void {
    this.#route = route;
    this.#window = window;
    this.#abandoned.clear();
  }

  /** Holds new commands back for a moment, and lets them go; see quiesce. */
  setPaused(isPaused: boolean): void {
    this.#isPaused = isPaused;
    if (!isPaused) this.pump();
  }

  setGate(gate: Gate): void {
    this.#gate = gate;
    if (gate !== "shut") this.pump();
  }

  /** From now on every task fails at once with this error; `undefined` ends it. */
  setRefusal(error: SessionError | undefined): void {
    this.#refusal = error;
  }

  execute(task: ScsiTask): void {
    const refusal = this.#refusalOf(task);
    if (refusal !== undefined) {
      this.#clock.defer(() => task.onDone({ kind: "failed", error: refusal }));
      return;
    }
    const record = new TaskRecord(task, this.#sequence);
    this.#sequence += 1;
    const queue = task.isProbe === true ? this.#probes : this.#waiting;
    if (queue.length > 0 || !this.#trySend(record)) queue.push(record);
  }

  /** Sends what may go out now. */
  pump(): void {
    this.#drain(this.#probes);
    this.#drain(this.#waiting);
  }

  find(initiatorTaskTag: number): TaskRecord | undefined {
    return this.#table.find(initiatorTaskTag);
  }

  /** Is this very task at the target still? */
  has(record: TaskRecord): boolean {
    return this.#table.find(record.initiatorTaskTag) === record;
  }

  /** Ends a task that is at the target. */
  complete(record: TaskRecord, result: ScsiResult): void {
    this.#release(record);
    if (result.kind === "status") this.#count(record, result.transferredBytes);
    record.task.onDone(result);
    if (this.#waiting.length > 0 || this.#probes.length > 0) this.pump();
  }

  /** Ends a task whose answer may still come over another connection: it is expected, and dropped, from now on. */
  abandon(record: TaskRecord, result: ScsiResult): void {
    this.#rememberAbandoned(record);
    this.complete(record, result);
  }

  isAbandoned(initiatorTaskTag: number): boolean {
    return this.#abandoned.size > 0 && this.#abandoned.has(initiatorTaskTag);
  }

  /** The task whose command the target has not acknowledged although it is the next one (ExpCmdSN). */
  get due(): TaskRecord | undefined {
    const { expCmdSn, nextCmdSn } = this.#window;
    if (expCmdSn === nextCmdSn) return undefined;
    return this.#table.inOrder().find((record) => record.cmdSn === expCmdSn);
  }

  /** The number the target waits for when no task of ours has it any more. */
  get orphanCmdSn(): number | undefined {
    const { expCmdSn, nextCmdSn } = this.#window;
    return expCmdSn !== nextCmdSn && this.due === undefined ? expCmdSn : undefined;
  }

  /** Tasks that belong to a connection, oldest first. */
  tasksOf(connection: Connection): TaskRecord[] {
    return this.#table.inOrder().filter((record) => record.connection === connection);
  }

  /** Counts a task as another connection's. */
  transfer(record: TaskRecord, connection: Connection): void {
    this.#leave(record);
    record.connection = connection;
    connection.inFlight += 1;
  }

  /** Moves a task that stays at the target to another connection (RFC 7143 §7.2.2). */
  reassign(record: TaskRecord, connection: Connection): void {
    this.transfer(record, connection);
    record.isReassigned = true;
    record.isAborting = false;
    record.snackTag = 0;
    record.early = undefined;
    record.earlyR2ts = undefined;
    record.requestedDataSn = record.nextDataSn;
    record.wantedAcknowledgment = undefined;
    record.segmentBytes = connection.parameters.initiatorMaxRecvDataSegmentLength;
    record.sentMs = this.#coarseNowMs;
    record.deadlineMs = this.#coarseNowMs + this.#timeoutOf(record);
  }

  /**
   * Sends a command again with its tag and CmdSN, to fill a gap (§7.2.1): over its own connection, or over another
   * after that one was logged out.
   */
  retry(record: TaskRecord, connection: Connection): void {
    if (record.connection !== connection) this.transfer(record, connection);
    record.retries += 1;
    record.sentMs = this.#coarseNowMs;
    record.sentBytes = 0;
    connection.sendCommand(record);
  }

  /** Tasks at the target, oldest first; with `lun` only those of that unit. */
  active(lun?: Lun): TaskRecord[] {
    const records = this.#table.inOrder();
    return lun === undefined ? records : records.filter((record) => lunEquals(record.task.lun, lun));
  }

  /** Moves the coarse clock and gives the tasks whose time is over. */
  sweep(nowMs: number): TaskRecord[] {
    this.#coarseNowMs = nowMs;
    const queue = this.#gate === "open" ? this.#waiting : this.#probes;
    const isIdle = this.#gate !== "shut" && this.#table.size === 0 && queue.length > 0;
    if (!isIdle) this.#idleSinceMs = undefined;
    else this.#idleSinceMs ??= nowMs;
    if (this.#table.size === 0) return [];
    return this.#table
      .inOrder()
      .filter(
        (record) => record.deadlineMs <= nowMs && !record.isAborting && record.connection?.channel.isOver === false,
      );
  }

  /** The window has stayed shut for as long as a task may take, with no task that could still open it. */
  get isStalled(): boolean {
    if (this.#idleSinceMs === undefined) return false;
    return this.#coarseNowMs - this.#idleSinceMs >= this.#options.taskTimeoutMs;
  }

  /**
   * The target no longer has these tasks and will not answer them. Those that may be repeated go back to the head of
   * the queue in their old order; the others fail with `lost`.
   */
  takeBack(records: readonly TaskRecord[], lost: SessionError, options: TakeBackOptions = {}): void {
    const again: TaskRecord[] = [];
    const failed: TaskRecord[] = [];
    for (const record of records) {
      if (options.mayBeAnswered === true) this.#rememberAbandoned(record);
      this.#release(record);
      const { isProbe, isRetryable } = record.task;
      const isOnce = isRetryable === false && options.isUnseen !== true;
      (isProbe === true || isOnce ? failed : again).push(record);
    }
    for (const record of again) record.reset();
    this.counters.reissuedTasks += again.length;
    this.#waiting.unshift(again);
    for (const record of failed) record.task.onDone({ kind: "failed", error: lost });
    this.pump();
  }

  /** The session at the target is gone: all that was there comes back, probes fail. */
  detach(lost: SessionError): void {
    this.suspend(lost);
    this.takeBack(this.#table.inOrder(), lost);
  }

  /** There is no connection: tasks stay where they are, probes that wait fail. */
  suspend(lost: SessionError): void {
    this.#gate = "shut";
    for (const record of this.#probes.takeWhere(() => true)) record.task.onDone({ kind: "failed", error: lost });
  }

  /** Fails the waiting tasks (of one unit). */
  failWaiting(error: SessionError, lun?: Lun): void {
    this.evacuate(error, (record) => lun === undefined || lunEquals(record.task.lun, lun));
  }

  /** Fails the waiting tasks that `isGiven` picks, and gives their number. */
  evacuate(error: SessionError, isGiven: (record: TaskRecord) => boolean): number {
    const given = this.#waiting.takeWhere(isGiven);
    for (const record of given) record.task.onDone({ kind: "failed", error });
    return given.length;
  }

  /** Units that have writes which were sent once and whose fate is unknown. */
  unitsWithUnansweredWrites(): Lun[] {
    const units: Lun[] = [];
    const unanswered = this.#waiting.takeWhere(() => true);
    this.#waiting.unshift(unanswered);
    for (const { attempts, task } of unanswered) {
      if (attempts === 0 || task.dataIn !== undefined) continue;
      if (!units.some((lun) => lunEquals(lun, task.lun))) units.push(task.lun);
    }
    return units;
  }

  #refusalOf(task: ScsiTask): SessionError | undefined {
    // A refusal does not keep the guards from looking: only they can end it.
    const mayProbe = task.isProbe === true && this.#gate !== "shut";
    if (this.#refusal !== undefined && !mayProbe) return this.#refusal;
    if (task.isProbe === true && this.#gate === "shut") {
      return new SessionError("SESSION_CONNECTION_LOST", "there is no connection to the target now", {
        retry: "same-path",
      });
    }
    if (this.#waiting.length < this.#options.maxQueuedTasks) return undefined;
    return new SessionError(
      "SESSION_QUEUE_FULL",
      `${this.#waiting.length} commands are waiting for the target already`,
      {
        retry: "same-path",
      },
    );
  }

  #drain(queue: TaskQueue): void {
    for (let record = queue.peek(); record !== undefined; record = queue.peek()) {
      if (!this.#trySend(record)) return;
      queue.shift();
    }
  }

  /** Puts the task on a connection when there is one, a slot and, unless it is immediate, room in the window. */
  #trySend(record: TaskRecord): boolean {
    const isProbe = record.task.isProbe === true;
    if (this.#gate === "shut" || (this.#gate === "probes" && !isProbe) || this.#isPaused) return false;
    const hasSlot = isProbe ? this.#table.hasRoom : this.#table.size < this.#options.maxTasks;
    if (!hasSlot || !this.#window.isOpen) return false;
    const connection = this.#route(record);
    if (connection === undefined) return false;
    this.#table.add(record);
    record.connection = connection;
    connection.inFlight += 1;
    record.cmdSn = this.#window.take();
    record.attempts += 1;
    record.sentMs = this.#coarseNowMs;
    record.deadlineMs = this.#coarseNowMs + this.#timeoutOf(record);
    connection.sendCommand(record);
    return true;
  }

  #timeoutOf(record: TaskRecord): number {
    return (record.task.timeoutMs ?? this.#options.taskTimeoutMs) + this.#options.taskTimeoutDeltaMs;
  }

  #release(record: TaskRecord): void {
    this.#table.remove(record);
    this.#leave(record);
  }

  #leave(record: TaskRecord): void {
    const { connection } = record;
    if (connection === undefined) return;
    connection.inFlight -= 1;
    connection.forget(record);
  }

  #rememberAbandoned(record: TaskRecord): void {
    this.#abandoned.add(record.initiatorTaskTag);
    if (this.#abandoned.size <= MAX_ABANDONED_TASKS) return;
    for (const oldest of this.#abandoned) {
      this.#abandoned.delete(oldest);
      return;
    }
  }

  #count(record: TaskRecord, transferredBytes: number): void {
    const { dataIn, dataOut } = record.task;
    if (dataIn !== undefined) {
      this.counters.readOperations += 1;
      this.counters.readBytes += transferredBytes;
    } else if (dataOut !== undefined) {
      this.counters.writeOperations += 1;
      this.counters.writtenBytes += transferredBytes;
    } else {
      this.counters.otherOperations += 1;
    }
  }
}
