import type { Clock } from "../base/clock.js";
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

export interface DispatcherOptions {
  readonly maxTasks: number;
  readonly maxQueuedTasks: number;
  readonly taskTimeoutMs: number;
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
  #connection: Connection | undefined;
  #gate: Gate = "shut";
  #refusal: SessionError | undefined;
  #sequence = 0;
  #coarseNowMs: number;
  /** Since when tasks wait although the target has none of them. */
  #idleSinceMs: number | undefined;

  constructor(options: DispatcherOptions, dependencies: { readonly clock: Clock }) {
    this.#options = options;
    this.#clock = dependencies.clock;
    this.#table = new TaskTable(options.maxTasks);
    this.#coarseNowMs = dependencies.clock.nowMs();
  }

  get window(): CommandWindow {
    return this.#window;
  }

  get inFlight(): number {
    return this.#table.size;
  }

  get queued(): number {
    return this.#waiting.length + this.#probes.length;
  }

  /** A new session at the target: fresh numbers. The table must be empty. */
  attach(connection: Connection, window: CommandWindow): void {
    this.#connection = connection;
    this.#window = window;
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
    if (queue.length === 0 && this.#canSend(record)) {
      this.#send(record);
      return;
    }
    queue.push(record);
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
    this.#table.remove(record);
    if (result.kind === "status") this.#count(record, result.transferredBytes);
    record.task.onDone(result);
    if (this.#waiting.length > 0 || this.#probes.length > 0) this.pump();
  }

  /** Tasks at the target, oldest first; with `lun` only those of that unit. */
  active(lun?: Lun): TaskRecord[] {
    const records = this.#table.inOrder();
    return lun === undefined ? records : records.filter((record) => lunEquals(record.task.lun, lun));
  }

  /** Moves the coarse clock and gives the tasks whose time is over. */
  sweep(nowMs: number): TaskRecord[] {
    this.#coarseNowMs = nowMs;
    if (this.#gate !== "open" || this.#table.size > 0 || this.#waiting.length === 0) this.#idleSinceMs = undefined;
    else this.#idleSinceMs ??= nowMs;
    if (this.#table.size === 0) return [];
    return this.#table.inOrder().filter((record) => record.deadlineMs <= nowMs && !record.isAborting);
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
  takeBack(records: readonly TaskRecord[], lost: SessionError): void {
    const again: TaskRecord[] = [];
    const failed: TaskRecord[] = [];
    for (const record of records) {
      this.#table.remove(record);
      const { isProbe, isRetryable } = record.task;
      (isProbe === true || isRetryable === false ? failed : again).push(record);
    }
    for (const record of again) record.reset();
    this.counters.reissuedTasks += again.length;
    this.#waiting.unshift(again);
    for (const record of failed) record.task.onDone({ kind: "failed", error: lost });
    this.pump();
  }

  /** The connection is gone: all that was at the target comes back, probes fail. */
  detach(lost: SessionError): void {
    this.#gate = "shut";
    this.#connection = undefined;
    const probes = this.#probes.takeWhere(() => true);
    this.takeBack(this.#table.inOrder(), lost);
    for (const record of probes) record.task.onDone({ kind: "failed", error: lost });
  }

  /** Fails the waiting tasks (of one unit). */
  failWaiting(error: SessionError, lun?: Lun): void {
    const failed = this.#waiting.takeWhere((record) => lun === undefined || lunEquals(record.task.lun, lun));
    for (const record of failed) record.task.onDone({ kind: "failed", error });
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

  #canSend(record: TaskRecord): boolean {
    if (this.#gate === "shut" || this.#connection === undefined) return false;
    if (this.#gate === "probes" && record.task.isProbe !== true) return false;
    return this.#table.hasRoom && this.#window.isOpen;
  }

  #drain(queue: TaskQueue): void {
    for (let record = queue.peek(); record !== undefined && this.#canSend(record); record = queue.peek()) {
      queue.shift();
      this.#send(record);
    }
  }

  #send(record: TaskRecord): void {
    this.#table.add(record);
    record.cmdSn = this.#window.take();
    record.attempts += 1;
    record.deadlineMs = this.#coarseNowMs + (record.task.timeoutMs ?? this.#options.taskTimeoutMs);
    this.#connection?.sendCommand(record);
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
