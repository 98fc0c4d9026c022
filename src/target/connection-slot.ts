import { createDeferred } from "../base/deferred.js";
import { TARGET_MAX_UNACKNOWLEDGED_STATUS } from "../base/limits.js";
import { LUN_ZERO, type Lun } from "../base/lun.js";
import { serialLess, serialLessOrEqual } from "../base/serial32.js";
import type { NegotiatedParameters } from "../login/parameters.js";
import { LogoutReason, RESERVED_TAG } from "../wire/constants.js";
import { NO_DATA } from "../wire/header.js";
import type { InitiatorPdu, ScsiDataInPdu, TargetPdu, TargetSequence } from "../wire/pdu.js";
import type { CommandWindow } from "./command-window.js";
import type { ConnectionUser, TargetConnection } from "./connection.js";
import { ResponseLog } from "./response-log.js";
import type { TargetTask } from "./task.js";

/**
 * What a CID is in its session (RFC 7143 §8.2, as far as tasks care): `joining` until its login has been answered,
 * `logged-in`, `cleanup-wait` when its connection is gone without a logout, `recovering` after a logout for recovery,
 * when its tasks may be reassigned, `closed`.
 */
export type SlotState = "joining" | "logged-in" | "cleanup-wait" | "recovering" | "closed";

/** A PDU without the numbers that the connection gives it. */
export type Unnumbered<P extends TargetPdu> = P extends TargetPdu ? Omit<P, keyof TargetSequence> : never;

/** Every PDU that takes a StatSN in full feature phase, but Data-In with status, which is sent in place. */
export type StatusPdu = Exclude<TargetPdu, { type: "scsi-data-in" | "ready-to-transfer" | "login-response" }>;

/** The session as its connections see it. */
export interface SlotUser {
  readonly window: CommandWindow<unknown>;
  placeData(slot: ConnectionSlot, header: Buffer, lengthBytes: number): Buffer | undefined;
  /** The PDU whose data segment was given a place has arrived, or never will. */
  settleData(slot: ConnectionSlot): void;
  onPdu(slot: ConnectionSlot, pdu: InitiatorPdu, isDataDigestGood: boolean, header: Buffer): void;
  onMalformed(slot: ConnectionSlot, header: Buffer, reason: number): boolean;
  /** The connection is gone; told once. */
  onClosed(slot: ConnectionSlot): void;
  /** The status of a task was acknowledged (or is no longer kept). Only above error recovery level 0. */
  onStatusReleased(task: TargetTask): void;
}

export interface SlotOptions {
  readonly cid: number;
  /** Session-wide values with the digests and segment lengths of this connection. */
  readonly parameters: NegotiatedParameters;
}

interface AcknowledgementWaiter {
  readonly expStatSn: number;
  readonly resolve: () => void;
}

/** One connection of a session, by its CID: numbers its responses, and knows which of them have arrived. */
export class ConnectionSlot implements ConnectionUser {
  readonly cid: number;
  readonly connection: TargetConnection;
  /** Kept responses; absent at error recovery level 0, where nothing is sent twice. */
  readonly log: ResponseLog<TargetTask> | undefined;
  /** As they stand now: text in full feature phase may change them. */
  parameters: NegotiatedParameters;
  state: SlotState = "joining";
  /** A logout of this connection has come: nothing after it counts. */
  isLoggingOut = false;
  /** The initiator was told that this connection will be dropped. */
  isDropAnnounced = false;
  /** The pooled buffer that the command PDU being received was placed in. */
  placed: Buffer | undefined;
  /** The task whose buffer the Data-Out PDU being received is written into. */
  placedTask: TargetTask | undefined;
  /** The task in whose buffer the data of the PDU at hand lies; none when its header came before the task began. */
  receivedFor: TargetTask | undefined;
  readonly #user: SlotUser;
  readonly #closed = createDeferred<undefined>();
  #expStatSn = 0;
  #pingTag = 0;
  #isPingDue = false;
  #waiters: AcknowledgementWaiter[] = [];

  constructor(options: SlotOptions, dependencies: { readonly connection: TargetConnection; readonly user: SlotUser }) {
    this.cid = options.cid;
    this.parameters = options.parameters;
    this.connection = dependencies.connection;
    this.#user = dependencies.user;
    if (options.parameters.errorRecoveryLevel === 0) return;
    this.log = new ResponseLog({
      capacity: TARGET_MAX_UNACKNOWLEDGED_STATUS,
      onReleased: (task) => this.#user.onStatusReleased(task),
    });
  }

  /** Takes the connection over once its final login response is queued. */
  begin(): void {
    if (this.state !== "joining") {
      this.connection.destroy();
      return;
    }
    this.state = "logged-in";
    this.#expStatSn = this.connection.statSn;
    if (this.connection.isOpen) this.connection.enterFullFeature(this, this.parameters);
    else this.onClosed();
  }

  /** Resolves when the connection is gone. */
  get closed(): Promise<undefined> {
    return this.#closed.promise;
  }

  get canSend(): boolean {
    return this.state === "logged-in" && this.connection.isOpen;
  }

  get window(): CommandWindow<unknown> {
    return this.#user.window;
  }

  /** The lowest StatSN that the initiator has not acknowledged. */
  get expStatSn(): number {
    return this.#expStatSn;
  }

  placeData(header: Buffer, lengthBytes: number): Buffer | undefined {
    return this.#user.placeData(this, header, lengthBytes);
  }

  onPdu(pdu: InitiatorPdu, isDataDigestGood: boolean, header: Buffer): void {
    this.receivedFor = this.placedTask;
    if (this.placedTask !== undefined) this.#user.settleData(this);
    if (pdu.expStatSn !== this.#expStatSn && !this.#speaksOfAnother(pdu)) this.acknowledge(pdu.expStatSn);
    this.#user.onPdu(this, pdu, isDataDigestGood, header);
  }

  onMalformed(header: Buffer, reason: number): boolean {
    if (this.placedTask !== undefined) this.#user.settleData(this);
    return this.#user.onMalformed(this, header, reason);
  }

  onHeaderLost(): void {
    this.ping();
  }

  onClosed(): void {
    if (this.placedTask !== undefined) this.#user.settleData(this);
    this.placed = undefined;
    this.#user.onClosed(this);
    this.#wake(true);
    this.#closed.resolve(undefined);
  }

  /** Takes an ExpStatSN. One that was never sent, or is old, says nothing (RFC 7143 §4.2.2.2). */
  acknowledge(expStatSn: number): void {
    const isNew = serialLess(this.#expStatSn, expStatSn) && serialLessOrEqual(expStatSn, this.connection.statSn);
    if (!isNew) return;
    this.#expStatSn = expStatSn;
    this.#isPingDue = false;
    this.log?.acknowledge(expStatSn);
    if (this.#waiters.length > 0) this.#wake(false);
  }

  /** Was everything before `statSn` acknowledged? */
  hasAcknowledged(statSn: number): boolean {
    return serialLessOrEqual(statSn, this.#expStatSn);
  }

  /** Resolves when everything sent so far has been acknowledged, or the connection is gone. */
  whenAcknowledged(): Promise<void> {
    const expStatSn = this.connection.statSn;
    if (!this.canSend || expStatSn === this.#expStatSn) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push({ expStatSn, resolve }));
  }

  /** Sends a PDU with the next StatSN, and keeps it where the level asks for that. Its data is the slot's from now on. */
  sendStatus(pdu: Unnumbered<StatusPdu>, task?: TargetTask, onSent?: () => void): void {
    if (!this.canSend) {
      onSent?.();
      return;
    }
    const { expCmdSn, maxCmdSn } = this.#user.window;
    const numbered = { ...pdu, statSn: this.connection.takeStatSn(), expCmdSn, maxCmdSn } as StatusPdu;
    this.log?.keep(numbered.statSn, numbered, task);
    this.connection.send(numbered, onSent);
  }

  /** Sends once more what was sent before, with the window as it is now (RFC 7143 §11.16). */
  resend(pdu: TargetPdu, onSent?: () => void): void {
    const { expCmdSn, maxCmdSn } = this.#user.window;
    const statSn = pdu.type === "ready-to-transfer" ? this.connection.statSn : pdu.statSn;
    this.connection.send({ ...pdu, statSn, expCmdSn, maxCmdSn }, onSent);
  }

  /** Sends a Data-In PDU; one with status has been given its StatSN by the caller. */
  sendDataIn(pdu: ScsiDataInPdu, task: TargetTask, onSent?: () => void): void {
    if (pdu.hasStatus) this.log?.keep(pdu.statSn, pdu, task);
    this.connection.send(pdu, onSent);
  }

  /** Answers a PDU with Reject; `header` is borrowed. */
  reject(reason: number, header: Buffer, dataSnOrR2tSn = 0): void {
    this.sendStatus({ type: "reject", reason, dataSnOrR2tSn, data: Buffer.from(header) });
  }

  /** Asks the initiator to answer, to find out whether it is there (RFC 7143 §11.19). Takes no StatSN. */
  ping(): void {
    if (!this.canSend) return;
    this.#pingTag = this.#pingTag + 1 === RESERVED_TAG ? 1 : this.#pingTag + 1;
    this.connection.send({
      type: "nop-in",
      lun: LUN_ZERO,
      initiatorTaskTag: RESERVED_TAG,
      targetTransferTag: this.#pingTag,
      statSn: this.connection.statSn,
      expCmdSn: this.#user.window.expCmdSn,
      maxCmdSn: this.#user.window.maxCmdSn,
      data: NO_DATA,
    });
  }

  /** Pings for an acknowledgement, unless one was asked for and is still awaited (RFC 7143 §4.2.2.3.3). */
  solicitAcknowledgement(): void {
    if (this.#isPingDue || this.#expStatSn === this.connection.statSn) return;
    this.#isPingDue = true;
    this.ping();
  }

  /** Sends an Asynchronous Message (RFC 7143 §11.9). */
  sendAsync(event: AsyncFields): void {
    this.sendStatus({
      type: "async-message",
      lun: LUN_ZERO,
      asyncVCode: 0,
      parameter1: 0,
      parameter2: 0,
      parameter3: 0,
      data: NO_DATA,
      ...event,
    });
  }

  /** A Logout Request for another CID carries that one's ExpStatSN (§11.14.4). */
  #speaksOfAnother(pdu: InitiatorPdu): boolean {
    return pdu.type === "logout-request" && pdu.reason !== LogoutReason.closeSession && pdu.cid !== this.cid;
  }

  #wake(isOver: boolean): void {
    const due = this.#waiters.filter(({ expStatSn }) => isOver || serialLessOrEqual(expStatSn, this.#expStatSn));
    if (due.length === 0) return;
    this.#waiters = this.#waiters.filter((waiter) => !due.includes(waiter));
    for (const { resolve } of due) resolve();
  }
}

/** What an Asynchronous Message says; what is left out is zero. */
export interface AsyncFields {
  readonly asyncEvent: number;
  readonly lun?: Lun;
  readonly asyncVCode?: number;
  readonly parameter1?: number;
  readonly parameter2?: number;
  readonly parameter3?: number;
  readonly data?: Buffer;
}
