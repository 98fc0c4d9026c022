import type { Clock } from "../base/clock.js";
import { TARGET_MAX_DATA_BYTES_PER_CONNECTION, TARGET_MAX_RECOVERY_R2TS } from "../base/limits.js";
import { RejectReason, RESERVED_TAG } from "../wire/constants.js";
import type { ScsiCommandPdu, ScsiDataOutPdu } from "../wire/pdu.js";
import type { BufferPool } from "./buffer-pool.js";
import type { CommandWindow } from "./command-window.js";
import type { ConnectionSlot } from "./connection-slot.js";
import { sendOutcome, sendRecoverable } from "./data-in.js";
import { abandonTransfers, acceptRecoverable, isComplete } from "./data-out-recovery.js";
import { acceptDataOut, nextR2ts } from "./data-out.js";
import { DataPlacement } from "./data-placement.js";
import { DataWatch } from "./data-watch.js";
import type { ResponseFence } from "./response-fence.js";
import { Condition, Status, type SenseCode } from "./scsi/check-condition.js";
import type { ScsiCommand } from "./scsi/command.js";
import type { DeviceServer, ScsiOutcome } from "./scsi/device-server.js";
import { MAX_TRANSFER_BYTES } from "./scsi/logical-unit.js";
import type { Nexus } from "./scsi/nexus.js";
import { TaskMemory } from "./task-memory.js";
import { TaskRecovery } from "./task-recovery.js";
import { TargetTask } from "./task.js";

export interface TaskRunnerDependencies {
  readonly window: CommandWindow<unknown>;
  readonly deviceServer: DeviceServer;
  readonly pool: BufferPool;
  readonly nexus: Nexus;
  readonly clock: Clock;
  readonly fence: ResponseFence;
  /** Memory is short: the initiator shall say what has arrived, so that it need not be kept. */
  readonly solicit: () => void;
  /** A recovery R2T was sent. */
  readonly onRecoveryR2t: () => void;
  /** Reports a mistake of ours that no outcome can be made of. */
  readonly fail: (error: unknown) => void;
}

/** The SCSI tasks of one session: data transfer, execution, responses. */
export class TaskRunner {
  readonly placement: DataPlacement;
  readonly #deps: TaskRunnerDependencies;
  readonly #tasks = new Map<number, TargetTask>();
  /** Tasks whose status is not acknowledged, by task tag. */
  readonly #concluded = new Map<number, TargetTask>();
  readonly #memory: TaskMemory;
  readonly #watch: DataWatch;
  #nextTransferTag = 1;
  #immediateCount = 0;

  constructor(dependencies: TaskRunnerDependencies) {
    this.#deps = dependencies;
    this.#memory = new TaskMemory({
      maxBytes: TARGET_MAX_DATA_BYTES_PER_CONNECTION,
      run: (task) => this.#execute(task),
      onShort: dependencies.solicit,
    });
    this.placement = new DataPlacement({
      pool: dependencies.pool,
      task: (tag) => this.#tasks.get(tag),
      onSettled: (task) => {
        if (task.state === "ended") this.#giveBack(task);
      },
    });
    this.#watch = new DataWatch({
      clock: dependencies.clock,
      tasks: () => this.#tasks.values(),
      onSilent: (task) => this.#askAgain(task),
    });
  }

  /** Tasks that have not ended. */
  get tasks(): ReadonlyMap<number, TargetTask> {
    return this.#tasks;
  }

  /** Tasks that have their outcome, which the initiator may ask for again. */
  get concluded(): ReadonlyMap<number, TargetTask> {
    return this.#concluded;
  }

  get immediateCount(): number {
    return this.#immediateCount;
  }

  /** Begins a command. `placed` is the pooled buffer its immediate data lies at the start of, if any. */
  start(slot: ConnectionSlot, pdu: ScsiCommandPdu, isDataDigestGood: boolean, placed: Buffer | undefined): void {
    const task = new TargetTask(pdu, slot);
    if (slot.log !== undefined) this.#prepareRecovery(task);
    this.#tasks.set(task.initiatorTaskTag, task);
    if (task.isImmediate) this.#immediateCount += 1;
    else this.#deps.window.begin();
    const outcome = isDataDigestGood ? undefined : this.#condition(task, Condition.protocolServiceCrcError);
    const admission = outcome ?? this.#admit(task, pdu);
    if (admission !== undefined) {
      if (placed !== undefined) this.#deps.pool.release(placed);
      this.#finish(task, admission);
      return;
    }
    this.#beginTransfer(task, pdu, placed);
  }

  /** Takes a Data-Out PDU. */
  onDataOut(slot: ConnectionSlot, pdu: ScsiDataOutPdu, isDataDigestGood: boolean, header: Buffer): void {
    const task = this.#tasks.get(pdu.initiatorTaskTag);
    if (!isDataDigestGood) slot.reject(RejectReason.dataDigestError, header);
    if (task !== undefined && task.slot !== slot) {
      // §4.2.5.1: the data of a command goes over the connection of the command.
      slot.reject(RejectReason.protocolError, header);
      return;
    }
    // Data of a task that has ended is on its way still, and is dropped.
    if (task?.state !== "receiving") return;
    if (task.recovery !== undefined) {
      this.#acceptRecoverable(task, task.recovery, pdu, isDataDigestGood);
      return;
    }
    if (!isDataDigestGood) {
      this.#finish(task, this.#condition(task, Condition.protocolServiceCrcError));
      return;
    }
    const result = acceptDataOut(task, pdu);
    if (result.kind === "broken") this.#finish(task, this.#condition(task, result.condition));
    else if (task.isDraining) this.#finishDrained(task);
    else if (result.kind === "complete") this.#dataComplete(task);
    else this.requestData(task);
  }

  /** Asks for what the task lacks, as far as R2Ts may be outstanding. Ends it when that was tried too often. */
  requestData(task: TargetTask): void {
    const { slot, recovery } = task;
    if (!slot.canSend) return;
    const recoveriesBefore = recovery?.recoveryR2tCount ?? 0;
    const { expCmdSn, maxCmdSn } = this.#deps.window;
    for (const r2t of nextR2ts(task, slot.parameters, () => this.takeTransferTag())) {
      slot.connection.send({ ...r2t, statSn: slot.connection.statSn, expCmdSn, maxCmdSn });
    }
    if (recovery === undefined) return;
    if (recovery.recoveryR2tCount > recoveriesBefore) this.#deps.onRecoveryR2t();
    if (recovery.recoveryR2tCount > TARGET_MAX_RECOVERY_R2TS) {
      this.#finish(task, this.#condition(task, Condition.notEnoughUnsolicitedData));
      return;
    }
    if (task.state === "receiving") this.#watch.begin();
  }

  /** Goes on with a task that lacks nothing any more. */
  resume(task: TargetTask): void {
    if (task.state === "receiving") this.#dataComplete(task);
  }

  takeTransferTag(): number {
    const tag = this.#nextTransferTag;
    this.#nextTransferTag = tag + 1 === RESERVED_TAG ? 1 : tag + 1;
    return tag;
  }

  /** Ends a task that is not executed yet with CHECK CONDITION. */
  fault(initiatorTaskTag: number, condition: SenseCode): void {
    const task = this.#tasks.get(initiatorTaskTag);
    if (task === undefined || task.state === "executing") return;
    this.#finish(task, this.#condition(task, condition));
  }

  /** Ends a task without a response; resolves when nothing of it runs any more. */
  abort(task: TargetTask): Promise<void> {
    return new Promise((resolve) => {
      if (task.state === "concluded") this.release(task);
      task.isAborted = true;
      task.command?.abort();
      if (task.state === "ended") resolve();
      else if (task.state === "executing") {
        notifyEnded(task, resolve);
      } else {
        this.#finish(task, { status: Status.taskAborted });
        resolve();
      }
    });
  }

  /** Ends all tasks (of a session that is over); resolves when none runs any more. */
  async abortAll(): Promise<void> {
    this.#watch.end();
    for (const task of [...this.#concluded.values()]) this.release(task);
    await this.abortActive();
  }

  /** Ends all tasks that have no outcome yet. */
  async abortActive(): Promise<void> {
    await Promise.all([...this.#tasks.values()].map((task) => this.abort(task)));
  }

  /**
   * Ends a task once the data it has asked for has come; nothing more is asked for, and it is not executed (RFC 7143
   * §4.2.3.3). Resolves when it is over; `abort` ends the wait.
   */
  drain(task: TargetTask): Promise<void> {
    if (task.state !== "receiving" || !task.isDataDue || !task.slot.canSend) return this.abort(task);
    task.isDraining = true;
    return new Promise((resolve) => notifyEnded(task, resolve));
  }

  /** The status of a task has arrived, or nobody may ask for it any more: its data serves others. */
  release(task: TargetTask): void {
    if (task.state !== "concluded") return;
    task.state = "ended";
    if (this.#concluded.get(task.initiatorTaskTag) === task) this.#concluded.delete(task.initiatorTaskTag);
    this.#giveBack(task);
  }

  /** All Data-In of a concluded task has been acknowledged: only its status may be asked for. */
  releaseData(task: TargetTask): void {
    if (task.recovery !== undefined) task.recovery.isDataAcknowledged = true;
    this.#giveBack(task);
  }

  /** A new command has the tag of a concluded one: its initiator is through with that (RFC 7143 §11.2.1.8). */
  supersede(initiatorTaskTag: number): void {
    const old = this.#concluded.get(initiatorTaskTag);
    if (old === undefined) return;
    const statSn = old.recovery?.statSn;
    if (statSn !== undefined && old.slot.log?.at(statSn) !== undefined) old.slot.log.forget(statSn);
    this.release(old);
  }

  /** Sends the outcome of a concluded task over the connection it is allegiant to now. */
  sendConcluded(task: TargetTask): void {
    if (task.slot.canSend) sendRecoverable(task.slot, task, () => this.takeTransferTag());
  }

  #prepareRecovery(task: TargetTask): void {
    task.recovery = new TaskRecovery();
    task.recovery.lastDataMs = this.#deps.clock.nowMs();
    task.onDataSent = () => {
      const isOver = task.state === "ended" || task.recovery?.isDataAcknowledged === true;
      if (isOver) this.#giveBack(task);
    };
    this.supersede(task.initiatorTaskTag);
  }

  #acceptRecoverable(task: TargetTask, recovery: TaskRecovery, pdu: ScsiDataOutPdu, isDataDigestGood: boolean): void {
    const result = acceptRecoverable(task, recovery, pdu, isDataDigestGood);
    recovery.lastDataMs = this.#deps.clock.nowMs();
    if (result === "stale") return;
    if (result === "broken") this.#finish(task, this.#condition(task, Condition.notEnoughUnsolicitedData));
    else if (task.isDraining) this.#finishDrained(task);
    else if (result === "complete") this.#dataComplete(task);
    else this.requestData(task);
  }

  /** §7.1.4.1: data that was due did not come in time, and is asked for with recovery R2Ts. */
  #askAgain(task: TargetTask): void {
    const { recovery } = task;
    if (recovery === undefined) return;
    recovery.lastDataMs = this.#deps.clock.nowMs();
    abandonTransfers(task, recovery);
    if (isComplete(task, recovery)) this.#dataComplete(task);
    else this.requestData(task);
  }

  #finishDrained(task: TargetTask): void {
    if (task.isDataDue) return;
    task.isAborted = true;
    this.#finish(task, { status: Status.taskAborted });
  }

  #admit(task: TargetTask, pdu: ScsiCommandPdu): ScsiOutcome | undefined {
    const { parameters } = task.slot;
    const immediateBytes = pdu.data.length;
    const isTooMuch = immediateBytes > parameters.firstBurstLength || immediateBytes > task.expectedOutBytes;
    if (immediateBytes > 0 && (!parameters.immediateData || isTooMuch)) {
      return this.#condition(task, Condition.unexpectedUnsolicitedData);
    }
    const admission = this.#deps.deviceServer.admit({
      lun: pdu.lun,
      nexus: this.#deps.nexus,
      cdb: pdu.cdb,
      announcedOutBytes: task.expectedOutBytes,
    });
    if (admission.kind === "finished") return admission.outcome;
    task.command = admission.command;
    task.wantedOutBytes = admission.dataOutBytes;
    task.transferBytes = Math.min(admission.dataOutBytes, task.expectedOutBytes);
    return undefined;
  }

  #beginTransfer(task: TargetTask, pdu: ScsiCommandPdu, placed: Buffer | undefined): void {
    const { command } = task;
    if (command === undefined) return;
    const unsolicited = !pdu.isFinal && !task.slot.parameters.initialR2T;
    if (task.transferBytes === 0 && !unsolicited) {
      if (placed !== undefined) this.#deps.pool.release(placed);
      this.#enterTaskSet(task, pdu);
      return;
    }
    task.receivedBytes = pdu.data.length;
    task.solicitedBytes = pdu.data.length;
    task.isUnsolicitedOpen = unsolicited;
    task.unsolicitedEnd = Math.min(task.slot.parameters.firstBurstLength, task.expectedOutBytes);
    task.buffer = this.placement.writeBuffer(task, pdu, placed);
    task.state = "receiving";
    this.#enterTaskSet(task, pdu);
    if (!unsolicited && task.receivedBytes >= task.transferBytes) this.#dataComplete(task);
    else this.requestData(task);
  }

  #enterTaskSet(task: TargetTask, pdu: ScsiCommandPdu): void {
    const taskSet = task.command?.unit.taskSet;
    task.place = taskSet?.enter(pdu.taskAttribute, () => this.#tryExecute(task));
    // The place is known only now, when the task may have been enabled at once.
    this.#tryExecute(task);
  }

  #dataComplete(task: TargetTask): void {
    task.state = "queued";
    if (task.command !== undefined && task.buffer !== undefined) task.command.dataOut = task.buffer;
    this.#tryExecute(task);
  }

  /** Runs the task if its data is there, the task set lets it, and there is memory for its answer. */
  #tryExecute(task: TargetTask): void {
    if (task.state === "queued" && task.place?.isEnabled === true) this.#memory.request(task, costOf(task));
  }

  #execute(task: TargetTask): void {
    const { command } = task;
    if (command === undefined) return;
    task.state = "executing";
    this.#deps.deviceServer
      .execute(command)
      .then((outcome) => this.#finish(task, outcome))
      .catch(this.#deps.fail);
  }

  #finish(task: TargetTask, outcome: ScsiOutcome): void {
    const { command } = task;
    const isKept = task.recovery !== undefined && !task.isAborted && task.slot.state !== "closed";
    task.state = isKept ? "concluded" : "ended";
    this.#tasks.delete(task.initiatorTaskTag);
    if (task.isImmediate) this.#immediateCount -= 1;
    else this.#deps.window.end();
    if (isKept) {
      task.outcome = outcome;
      this.#concluded.set(task.initiatorTaskTag, task);
    }
    const { fence } = this.#deps;
    if (fence.isOn && !task.isAborted) {
      fence.submit(task.slot, isPreemptAndAbort(command), () => this.#answer(task, outcome));
    } else {
      this.#answer(task, outcome);
    }
    if (task.place !== undefined) command?.unit.taskSet.leave(task.place);
    task.onEnded?.();
  }

  #answer(task: TargetTask, outcome: ScsiOutcome): void {
    if (task.recovery !== undefined) {
      if (task.state === "concluded") this.sendConcluded(task);
      else this.#giveBack(task);
      if (this.#memory.isShort) this.#deps.solicit();
    } else if (task.isAborted || !task.slot.canSend) {
      this.#giveBack(task);
    } else if (outcome.dataIn === undefined) {
      sendOutcome(task.slot, task, outcome);
      this.#giveBack(task);
    } else {
      sendOutcome(task.slot, task, outcome, () => this.#giveBack(task));
    }
  }

  /** The task's data has left: its memory serves others. */
  #giveBack(task: TargetTask): void {
    if (task.isBeingPlaced || (task.recovery?.sendsInFlight ?? 0) > 0) return;
    task.command?.release();
    this.#memory.giveBack(task);
  }

  #condition(task: TargetTask, condition: SenseCode): ScsiOutcome {
    return this.#deps.deviceServer.conditionOutcome(this.#deps.deviceServer.unit(task.lun), condition);
  }
}

function notifyEnded(task: TargetTask, resolve: () => void): void {
  const others = task.onEnded;
  task.onEnded = () => {
    others?.();
    resolve();
  };
}

/** §4.2.2.3.4: the response to PERSISTENT RESERVE OUT with PREEMPT AND ABORT is fenced. */
function isPreemptAndAbort(command: ScsiCommand | undefined): boolean {
  return command?.spec.opcode === 0x5f && command.spec.serviceAction === 5;
}

/** Memory an answer may take: a transfer is no longer than the unit's limit, whatever the initiator expects. */
function costOf(task: TargetTask): number {
  return Math.min(task.expectedInBytes, MAX_TRANSFER_BYTES);
}
