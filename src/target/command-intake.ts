import { TARGET_MAX_EARLY_DATA_BYTES, TARGET_MAX_IMMEDIATE_TASKS } from "../base/limits.js";
import { serialAdd, serialDistance, serialLessOrEqual } from "../base/serial32.js";
import { RejectReason } from "../wire/constants.js";
import type {
  LogoutRequestPdu,
  NopOutPdu,
  ScsiCommandPdu,
  ScsiDataOutPdu,
  TaskManagementRequestPdu,
  TextRequestPdu,
} from "../wire/pdu.js";
import type { BufferPool } from "./buffer-pool.js";
import { CommandWindow } from "./command-window.js";
import type { ConnectionSlot } from "./connection-slot.js";
import { Condition } from "./scsi/check-condition.js";
import type { TaskRunner } from "./task-runner.js";

/** Requests that carry a CmdSN and take their turn in the window, but SCSI commands. */
export type ControlRequest = TaskManagementRequestPdu | TextRequestPdu | LogoutRequestPdu | NopOutPdu;

interface EarlyData {
  readonly pdu: ScsiDataOutPdu;
  readonly isDataDigestGood: boolean;
  readonly header: Buffer;
}

/** A request as it came. `header` is borrowed, and copied when the request has to wait. */
export interface ArrivedRequest {
  readonly slot: ConnectionSlot;
  readonly pdu: ScsiCommandPdu | ControlRequest;
  readonly isDataDigestGood: boolean;
  readonly header: Buffer;
  /** The pooled buffer that the immediate data of a command lies at the start of, if any. */
  readonly placed: Buffer | undefined;
}

interface EarlyRequest extends ArrivedRequest {
  /** Unsolicited data that came before the command's turn. */
  readonly data: EarlyData[];
  /** There was no room for all of it. */
  isDataDropped: boolean;
}

export interface CommandIntakeOptions {
  readonly queueDepth: number;
  readonly expCmdSn: number;
  /** Requests with a damaged data segment are not counted as received, so that they can be retried (RFC 7143 §7.3). */
  readonly isRetryExpected: boolean;
}

export interface CommandIntakeDependencies {
  readonly pool: BufferPool;
  readonly runner: () => TaskRunner;
  /** Takes a request that is no SCSI command, in its turn. */
  readonly control: (slot: ConnectionSlot, pdu: ControlRequest, header: Buffer) => void;
}

/** The requests of all connections of a session: delivers them in the order of their CmdSN (RFC 7143 §4.2.2.1). */
export class CommandIntake {
  readonly window: CommandWindow<EarlyRequest>;
  readonly #options: CommandIntakeOptions;
  readonly #deps: CommandIntakeDependencies;
  #earlyDataBytes = 0;

  constructor(options: CommandIntakeOptions, dependencies: CommandIntakeDependencies) {
    this.window = new CommandWindow({ depth: options.queueDepth, expCmdSn: options.expCmdSn });
    this.#options = options;
    this.#deps = dependencies;
  }

  /** Takes a request that has just arrived. */
  take(arrived: ArrivedRequest): void {
    if (arrived.pdu.isImmediate) this.#takeImmediate(arrived);
    else this.#takeSequenced(arrived);
  }

  /**
   * Keeps unsolicited data whose command waits for its turn; false when there is no such command. What is more than
   * fits is dropped, and the command finds its data incomplete.
   */
  takeData(slot: ConnectionSlot, pdu: ScsiDataOutPdu, isDataDigestGood: boolean, header: Buffer): boolean {
    const request = this.#earlyCommand(pdu.initiatorTaskTag);
    if (request === undefined || request.slot !== slot) return false;
    if (this.#earlyDataBytes + pdu.data.length > TARGET_MAX_EARLY_DATA_BYTES) {
      request.isDataDropped = true;
      return true;
    }
    this.#earlyDataBytes += pdu.data.length;
    request.data.push({ pdu, isDataDigestGood, header: Buffer.from(header) });
    return true;
  }

  /** Forgets what came early on a connection that is gone: it was never acknowledged (RFC 7143 §11.14). */
  forget(slot: ConnectionSlot): void {
    for (const [cmdSn, request] of this.window.early) {
      if (request.slot === slot) this.#drop(cmdSn, request);
    }
  }

  /** Counts a command that did not come, or has not had its turn, as received and aborted (RFC 7143 §11.6.1). */
  plug(cmdSn: number): void {
    const request = this.window.early.get(cmdSn);
    if (request !== undefined) this.#drop(cmdSn, request);
    this.window.plug(cmdSn);
    this.#deliverEarly();
  }

  /** Counts every command of the window before `cmdSn` as received; those that had not had their turn are dropped. */
  plugBefore(cmdSn: number): void {
    // Plugging opens the window further: what was granted before is the bound.
    const { expCmdSn, maxCmdSn } = this.window;
    const length = Math.min(serialDistance(expCmdSn, cmdSn), serialDistance(expCmdSn, maxCmdSn) + 1);
    for (let index = 0; index < length; index += 1) {
      const number = serialAdd(expCmdSn, index);
      if (serialLessOrEqual(this.window.expCmdSn, number)) this.plug(number);
    }
  }

  #takeImmediate(arrived: ArrivedRequest): void {
    const { pdu, slot, placed } = arrived;
    if (!arrived.isDataDigestGood && this.#options.isRetryExpected) {
      this.#refuse(arrived, RejectReason.dataDigestError);
      return;
    }
    if (pdu.type === "scsi-command" && this.#deps.runner().immediateCount >= TARGET_MAX_IMMEDIATE_TASKS) {
      if (placed !== undefined) this.#deps.pool.release(placed);
      slot.reject(RejectReason.immediateCommandReject, arrived.header);
      return;
    }
    if (this.#isTagInUse(pdu)) this.#refuse(arrived, RejectReason.taskInProgress);
    else this.#deliver(arrived);
  }

  #takeSequenced(arrived: ArrivedRequest): void {
    const { cmdSn } = arrived.pdu;
    const place = this.window.place(cmdSn);
    if (place === "outside") {
      // A retry of what was received, or more than we granted: ignored in silence (§4.2.2.1, §7.2.1).
      if (arrived.placed !== undefined) this.#deps.pool.release(arrived.placed);
      return;
    }
    if (!arrived.isDataDigestGood && this.#options.isRetryExpected) {
      this.#refuse(arrived, RejectReason.dataDigestError);
    } else if (place === "early") {
      this.window.hold(cmdSn, { ...arrived, header: Buffer.from(arrived.header), data: [], isDataDropped: false });
    } else if (this.#isTagInUse(arrived.pdu)) {
      this.#refuse(arrived, RejectReason.taskInProgress);
    } else {
      this.window.advance();
      this.#deliver(arrived);
      this.#deliverEarly();
    }
  }

  #deliverEarly(): void {
    for (let next = this.window.takeNext(); next !== undefined; next = this.window.takeNext()) {
      for (const { pdu } of next.data) this.#earlyDataBytes -= pdu.data.length;
      if (this.#isTagInUse(next.pdu)) {
        this.#refuse(next, RejectReason.taskInProgress);
        return;
      }
      this.window.advance();
      this.#deliver(next);
      for (const { pdu, isDataDigestGood, header } of next.data) {
        this.#deps.runner().placement.put(next.slot, pdu, undefined);
        this.#deps.runner().onDataOut(next.slot, pdu, isDataDigestGood, header);
      }
      // Where nothing is asked for twice, a command whose data was dropped can only fail.
      if (next.isDataDropped && !this.#options.isRetryExpected) {
        this.#deps.runner().fault(next.pdu.initiatorTaskTag, Condition.notEnoughUnsolicitedData);
      }
    }
  }

  #deliver(arrived: ArrivedRequest): void {
    const { slot, pdu, header, isDataDigestGood } = arrived;
    if (pdu.type === "scsi-command") {
      if (!isDataDigestGood) slot.reject(RejectReason.dataDigestError, header);
      this.#deps.runner().start(slot, pdu, isDataDigestGood, arrived.placed);
      return;
    }
    // These give their place in the window back at once: beginning and ending opens it by one.
    if (!pdu.isImmediate) {
      this.window.begin();
      this.window.end();
    }
    if (isDataDigestGood) this.#deps.control(slot, pdu, header);
    else slot.reject(RejectReason.dataDigestError, header);
  }

  /** §7.3: a request that is rejected does not count as received. */
  #refuse(arrived: ArrivedRequest, reason: number): void {
    if (arrived.placed !== undefined) this.#deps.pool.release(arrived.placed);
    arrived.slot.reject(reason, arrived.header);
  }

  #isTagInUse(pdu: ArrivedRequest["pdu"]): boolean {
    return pdu.type === "scsi-command" && this.#deps.runner().tasks.has(pdu.initiatorTaskTag);
  }

  #earlyCommand(initiatorTaskTag: number): EarlyRequest | undefined {
    if (this.window.early.size === 0) return undefined;
    for (const request of this.window.early.values()) {
      if (request.pdu.type === "scsi-command" && request.pdu.initiatorTaskTag === initiatorTaskTag) return request;
    }
    return undefined;
  }

  #drop(cmdSn: number, request: EarlyRequest): void {
    if (request.placed !== undefined) this.#deps.pool.release(request.placed);
    for (const { pdu } of request.data) this.#earlyDataBytes -= pdu.data.length;
    this.window.forget(cmdSn);
  }
}
