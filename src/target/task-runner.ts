import { TARGET_MAX_DATA_BYTES_PER_CONNECTION } from "../base/limits.js";
import { Opcode, RejectReason, RESERVED_TAG } from "../wire/constants.js";
import type { ScsiCommandPdu, ScsiDataOutPdu } from "../wire/pdu.js";
import type { BufferPool } from "./buffer-pool.js";
import { sendOutcome, type ResponseContext } from "./data-in.js";
import { acceptDataOut, findPlace, nextR2ts } from "./data-out.js";
import { Condition, Status, type SenseCode } from "./scsi/check-condition.js";
import type { DeviceServer, ScsiOutcome } from "./scsi/device-server.js";
import { MAX_TRANSFER_BYTES } from "./scsi/logical-unit.js";
import type { Nexus } from "./scsi/nexus.js";
import { TargetTask } from "./task.js";

/** Up to this length the buffer of a write is allocated when its command arrives, before the CDB is looked at. */
const MAX_EAGER_WRITE_BYTES = 1_048_576;

export interface TaskRunnerDependencies {
  readonly deviceServer: DeviceServer;
  readonly pool: BufferPool;
  readonly nexus: Nexus;
  /** Answers a PDU with Reject. */
  readonly reject: (reason: number, header: Buffer) => void;
  /** Reports a mistake of ours that no outcome can be made of. */
  readonly fail: (error: unknown) => void;
}

/** The SCSI tasks of one session: data transfer, execution, responses. */
export class TaskRunner {
  readonly #context: ResponseContext;
  readonly #deps: TaskRunnerDependencies;
  readonly #tasks = new Map<number, TargetTask>();
  /** Tasks that wait until the data before them has left memory. */
  readonly #waiting: TargetTask[] = [];
  #heldBytes = 0;
  #nextTransferTag = 1;
  #immediateCount = 0;
  /** The pooled buffer that the command PDU being received was placed in. */
  #placed: Buffer | undefined;

  constructor(context: ResponseContext, dependencies: TaskRunnerDependencies) {
    this.#context = context;
    this.#deps = dependencies;
  }

  get tasks(): ReadonlyMap<number, TargetTask> {
    return this.#tasks;
  }

  get immediateCount(): number {
    return this.#immediateCount;
  }

  /** Where a data segment goes: straight into the task's buffer, or a new one as large as the whole write. */
  placeData(header: Buffer, lengthBytes: number): Buffer | undefined {
    const opcode = header.readUInt8(0) & 0x3f;
    if (opcode === Opcode.scsiDataOut) {
      const task = this.#tasks.get(header.readUInt32BE(16));
      return task === undefined
        ? undefined
        : findPlace(task, header.readUInt32BE(20), header.readUInt32BE(40), lengthBytes);
    }
    if (opcode !== Opcode.scsiCommand) return undefined;
    const expectedBytes = header.readUInt32BE(20);
    if (expectedBytes < lengthBytes || expectedBytes > MAX_EAGER_WRITE_BYTES) return undefined;
    this.#placed = this.#deps.pool.acquire(expectedBytes);
    return this.#placed;
  }

  /** The buffer `placeData` gave for the PDU that has just arrived; the caller owns it. */
  takePlaced(): Buffer | undefined {
    const placed = this.#placed;
    this.#placed = undefined;
    return placed;
  }

  /** Begins a command. `placed` is the pooled buffer its immediate data lies at the start of, if any. */
  start(pdu: ScsiCommandPdu, isDataDigestGood: boolean, placed: Buffer | undefined): void {
    const task = new TargetTask(pdu);
    this.#tasks.set(task.initiatorTaskTag, task);
    if (task.isImmediate) this.#immediateCount += 1;
    else this.#context.window.begin();
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
  onDataOut(pdu: ScsiDataOutPdu, isDataDigestGood: boolean, header: Buffer): void {
    const task = this.#tasks.get(pdu.initiatorTaskTag);
    if (!isDataDigestGood) this.#deps.reject(RejectReason.dataDigestError, header);
    // Data of a task that has ended is on its way still, and is dropped.
    if (task?.state !== "receiving") return;
    if (!isDataDigestGood) {
      this.#finish(task, this.#condition(task, Condition.protocolServiceCrcError));
      return;
    }
    const result = acceptDataOut(task, pdu);
    if (result.kind === "broken") this.#finish(task, this.#condition(task, result.condition));
    else if (result.kind === "complete") this.#dataComplete(task);
    else this.#requestData(task);
  }

  /** Ends a task without a response; resolves when nothing of it runs any more. */
  abort(task: TargetTask): Promise<void> {
    return new Promise((resolve) => {
      task.isAborted = true;
      task.command?.abort();
      if (task.state === "ended") resolve();
      else if (task.state === "executing") {
        const others = task.onEnded;
        task.onEnded = () => {
          others?.();
          resolve();
        };
      } else {
        this.#finish(task, { status: Status.taskAborted });
        resolve();
      }
    });
  }

  /** Ends all tasks (of a session that is over); resolves when none runs any more. */
  async abortAll(): Promise<void> {
    await Promise.all([...this.#tasks.values()].map((task) => this.abort(task)));
  }

  #admit(task: TargetTask, pdu: ScsiCommandPdu): ScsiOutcome | undefined {
    const parameters = this.#context.parameters();
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
    const unsolicited = !pdu.isFinal && !this.#context.parameters().initialR2T;
    if (task.transferBytes === 0 && !unsolicited) {
      if (placed !== undefined) this.#deps.pool.release(placed);
      this.#enterTaskSet(task, pdu);
      return;
    }
    task.receivedBytes = pdu.data.length;
    task.solicitedBytes = pdu.data.length;
    task.isUnsolicitedOpen = unsolicited;
    task.unsolicitedEnd = Math.min(this.#context.parameters().firstBurstLength, task.expectedOutBytes);
    task.buffer = this.#writeBuffer(task, pdu, placed);
    task.state = "receiving";
    this.#enterTaskSet(task, pdu);
    if (!unsolicited && task.receivedBytes >= task.transferBytes) this.#dataComplete(task);
    else this.#requestData(task);
  }

  /** A buffer for all the command takes that begins with the immediate data. */
  #writeBuffer(task: TargetTask, pdu: ScsiCommandPdu, placed: Buffer | undefined): Buffer {
    const length = task.transferBytes;
    if (placed !== undefined && placed.length >= length) {
      task.command?.adopt(placed);
      return placed.length === length ? placed : placed.subarray(0, length);
    }
    const buffer = task.command?.allocate(length) ?? Buffer.alloc(length);
    pdu.data.copy(buffer);
    if (placed !== undefined) this.#deps.pool.release(placed);
    return buffer;
  }

  #enterTaskSet(task: TargetTask, pdu: ScsiCommandPdu): void {
    const taskSet = task.command?.unit.taskSet;
    task.place = taskSet?.enter(pdu.taskAttribute, () => this.#tryExecute(task));
    // The place is known only now, when the task may have been enabled at once.
    this.#tryExecute(task);
  }

  #requestData(task: TargetTask): void {
    const { connection, window } = this.#context;
    const parameters = this.#context.parameters();
    for (const r2t of nextR2ts(task, parameters, () => this.#takeTransferTag())) {
      connection.send({ ...r2t, statSn: connection.statSn, expCmdSn: window.expCmdSn, maxCmdSn: window.maxCmdSn });
    }
  }

  #takeTransferTag(): number {
    const tag = this.#nextTransferTag;
    this.#nextTransferTag = tag + 1 === RESERVED_TAG ? 1 : tag + 1;
    return tag;
  }

  #dataComplete(task: TargetTask): void {
    task.state = "queued";
    if (task.command !== undefined && task.buffer !== undefined) task.command.dataOut = task.buffer;
    this.#tryExecute(task);
  }

  /** Runs the task if its data is there, the task set lets it, and there is memory for its answer. */
  #tryExecute(task: TargetTask): void {
    if (task.state !== "queued" || task.place?.isEnabled !== true) return;
    const cost = costOf(task);
    if (cost > 0 && this.#heldBytes > 0 && this.#heldBytes + cost > TARGET_MAX_DATA_BYTES_PER_CONNECTION) {
      this.#waiting.push(task);
      return;
    }
    this.#execute(task, cost);
  }

  #execute(task: TargetTask, cost: number): void {
    const { command } = task;
    if (command === undefined) return;
    task.state = "executing";
    task.budgetBytes = cost;
    this.#heldBytes += cost;
    this.#deps.deviceServer
      .execute(command)
      .then((outcome) => this.#finish(task, outcome))
      .catch(this.#deps.fail);
  }

  #finish(task: TargetTask, outcome: ScsiOutcome): void {
    const { command } = task;
    task.state = "ended";
    this.#tasks.delete(task.initiatorTaskTag);
    if (task.isImmediate) this.#immediateCount -= 1;
    else this.#context.window.end();
    const isAnswered = !task.isAborted && this.#context.connection.isOpen;
    if (isAnswered && outcome.dataIn !== undefined) {
      sendOutcome(this.#context, task, outcome, () => this.#giveBack(task));
    } else {
      if (isAnswered) sendOutcome(this.#context, task, outcome);
      this.#giveBack(task);
    }
    if (task.place !== undefined) command?.unit.taskSet.leave(task.place);
    task.onEnded?.();
  }

  /** The task's data has left: its memory serves others. */
  #giveBack(task: TargetTask): void {
    task.command?.release();
    this.#heldBytes -= task.budgetBytes;
    task.budgetBytes = 0;
    while (this.#waiting.length > 0) {
      const next = this.#waiting[0];
      if (next?.state === "queued") {
        const cost = costOf(next);
        if (this.#heldBytes > 0 && this.#heldBytes + cost > TARGET_MAX_DATA_BYTES_PER_CONNECTION) return;
        this.#waiting.shift();
        this.#execute(next, cost);
      } else {
        this.#waiting.shift();
      }
    }
  }

  #condition(task: TargetTask, condition: SenseCode): ScsiOutcome {
    return this.#deps.deviceServer.conditionOutcome(this.#deps.deviceServer.unit(task.lun), condition);
  }
}

/** Memory an answer may take: a transfer is no longer than the unit's limit, whatever the initiator expects. */
function costOf(task: TargetTask): number {
  return Math.min(task.expectedInBytes, MAX_TRANSFER_BYTES);
}
