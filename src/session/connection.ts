import type { AppError } from "../base/errors.js";
import type { NegotiatedParameters } from "../login/parameters.js";
import { Opcode, RESERVED_TAG, TaskAttribute } from "../wire/constants.js";
import type {
  AsyncMessagePdu,
  NopInPdu,
  Pdu,
  ReadyToTransferPdu,
  RejectPdu,
  ScsiDataInPdu,
  TargetPdu,
  TargetSequence,
} from "../wire/pdu.js";
import type { CommandWindow } from "./command-window.js";
import type { ControlExchange } from "./control-exchanges.js";
import {
  acceptReadyToTransfer,
  checkDataIn,
  planUnsolicited,
  resultOfDataIn,
  resultOfResponse,
} from "./data-transfer.js";
import { SessionError, protocolError } from "./errors.js";
import type { ChannelUser, PduChannel } from "./pdu-channel.js";
import type { ScsiResult } from "./task.js";
import type { TaskRecord } from "./task-record.js";

const NO_DATA = Buffer.alloc(0);

/** What a connection needs of the session it belongs to. */
export interface ConnectionOwner {
  findTask(initiatorTaskTag: number): TaskRecord | undefined;
  /** The task ended; the connection has forgotten it. */
  onTaskDone(record: TaskRecord, result: ScsiResult): void;
  /** The window may have grown. */
  onWindowUpdate(): void;
  onAsyncMessage(connection: Connection, pdu: AsyncMessagePdu): void;
  onReject(connection: Connection, pdu: RejectPdu): void;
  /** A control PDU other than a task's. Returns false when nobody waits for it. */
  onControlResponse(pdu: TargetPdu): boolean;
  /** The connection is gone; nothing comes from it any more. */
  onLost(connection: Connection, reason: AppError): void;
}

export interface ConnectionOptions {
  readonly channel: PduChannel;
  readonly connectionId: number;
  readonly parameters: NegotiatedParameters;
  readonly nextExpStatSn: number;
  readonly window: CommandWindow;
  readonly owner: ConnectionOwner;
}

/**
 * One connection of a session in full feature phase: StatSN in order, data placed where it belongs, Data-Out on
 * request. ErrorRecoveryLevel 0: whatever is wrong ends the connection, and the session recovers.
 */
export class Connection implements ChannelUser {
  readonly connectionId: number;
  readonly parameters: NegotiatedParameters;
  readonly channel: PduChannel;
  readonly #window: CommandWindow;
  readonly #owner: ConnectionOwner;
  #expStatSn: number;

  constructor(options: ConnectionOptions) {
    this.connectionId = options.connectionId;
    this.parameters = options.parameters;
    this.channel = options.channel;
    this.#window = options.window;
    this.#owner = options.owner;
    this.#expStatSn = options.nextExpStatSn;
  }

  /** Begins to listen. Call once the owner knows the connection: what was kept since the login arrives now. */
  start(): void {
    this.channel.setUser(this);
  }

  get expStatSn(): number {
    return this.#expStatSn;
  }

  /** Throws SESSION_CONNECTION_LOST when the connection is over already. */
  requireAlive(): void {
    if (!this.channel.isOver) return;
    throw new SessionError("SESSION_CONNECTION_LOST", "the connection was lost right after the login", {
      retry: "same-path",
    });
  }

  /** Gives the connection up; the owner hears `onLost` unless the connection is already over. */
  drop(reason: AppError): void {
    this.channel.destroy(reason);
  }

  /** Sends the command of a task that has its tag and CmdSN, with the data nobody has to ask for. */
  sendCommand(record: TaskRecord): void {
    const { task } = record;
    const out = task.dataOut;
    const plan = out === undefined ? undefined : planUnsolicited(this.parameters, out.length);
    const immediateBytes = plan?.immediateBytes ?? 0;
    const unsolicitedEnd = plan?.unsolicitedEnd ?? 0;
    this.channel.send({
      type: "scsi-command",
      isImmediate: false,
      isFinal: unsolicitedEnd === immediateBytes,
      isRead: task.dataIn !== undefined && record.expectedBytes > 0,
      isWrite: out !== undefined && record.expectedBytes > 0,
      taskAttribute: task.attribute ?? TaskAttribute.simple,
      lun: task.lun,
      initiatorTaskTag: record.initiatorTaskTag,
      expectedDataTransferLength: record.expectedBytes,
      cmdSn: record.cmdSn,
      expStatSn: this.#expStatSn,
      cdb: task.cdb,
      data: out === undefined || immediateBytes === 0 ? NO_DATA : out.subarray(0, immediateBytes),
    });
    if (out === undefined) return;
    if (unsolicitedEnd > immediateBytes) {
      this.#sendDataOut(record, out, immediateBytes, unsolicitedEnd, RESERVED_TAG);
    }
    record.sentBytes = unsolicitedEnd;
  }

  /** Sends a request that `exchange` describes; its answer goes to the owner's `onControlResponse`. */
  sendControl(exchange: ControlExchange): void {
    this.channel.send(exchange.build(this.#window.nextCmdSn, this.#expStatSn));
  }

  placeData(header: Buffer, lengthBytes: number): Buffer | undefined {
    if (((header[0] ?? 0) & 0x3f) !== Opcode.scsiDataIn) return undefined;
    const record = this.#taskOf(header.readUInt32BE(16), "Data-In");
    const offset = header.readUInt32BE(40);
    checkDataIn(record, header.readUInt32BE(36), offset, lengthBytes);
    return record.task.dataIn?.subarray(offset, offset + lengthBytes);
  }

  onPdu(pdu: Pdu, isDataDigestGood: boolean): void {
    if (!isDataDigestGood) {
      throw new SessionError("SESSION_DIGEST", `data digest error in ${pdu.type} from the target`, {
        retry: "same-path",
        details: { pdu: pdu.type },
      });
    }
    switch (pdu.type) {
      case "scsi-data-in":
        this.#onDataIn(pdu);
        return;
      case "scsi-response": {
        this.#sequence(pdu);
        const record = this.#taskOf(pdu.initiatorTaskTag, "SCSI Response");
        this.#owner.onTaskDone(record, resultOfResponse(record, pdu));
        return;
      }
      case "ready-to-transfer":
        this.#onReadyToTransfer(pdu);
        return;
      case "nop-in":
        this.#onNopIn(pdu);
        return;
      case "async-message":
        this.#sequence(pdu);
        this.#owner.onAsyncMessage(this, pdu);
        return;
      case "reject":
        this.#sequence(pdu);
        this.#owner.onReject(this, pdu);
        return;
      case "task-management-response":
      case "text-response":
      case "logout-response":
        this.#sequence(pdu);
        this.#control(pdu);
        return;
      default:
        throw protocolError("§11.2.1.2", `${pdu.type} in full feature phase from a target`);
    }
  }

  onClosed(error: AppError | undefined): void {
    this.#owner.onLost(
      this,
      error ??
        new SessionError("SESSION_CONNECTION_LOST", `the target ${this.channel.remoteAddress} closed the connection`, {
          retry: "same-path",
        }),
    );
  }

  #onDataIn(pdu: ScsiDataInPdu): void {
    if (pdu.hasStatus) this.#sequence(pdu);
    else this.#advanceWindow(pdu);
    const record = this.#taskOf(pdu.initiatorTaskTag, "Data-In");
    if (pdu.data.length === 0) checkDataIn(record, pdu.dataSn, pdu.bufferOffset, 0);
    record.receivedBytes += pdu.data.length;
    record.nextDataSn = (record.nextDataSn + 1) >>> 0;
    if (pdu.hasStatus) this.#owner.onTaskDone(record, resultOfDataIn(record, pdu));
  }

  #onReadyToTransfer(pdu: ReadyToTransferPdu): void {
    this.#advanceWindow(pdu);
    const record = this.#taskOf(pdu.initiatorTaskTag, "R2T");
    const source = acceptReadyToTransfer(record, pdu, this.parameters);
    const end = pdu.bufferOffset + pdu.desiredDataTransferLength;
    this.#sendDataOut(record, source, pdu.bufferOffset, end, pdu.targetTransferTag);
    record.sentBytes = end;
  }

  /** Data-Out from `start` to `end`; DataSN counts from 0 in each sequence (RFC 7143 §11.7.5). */
  #sendDataOut(record: TaskRecord, source: Buffer, start: number, end: number, targetTransferTag: number): void {
    const segmentBytes = this.parameters.targetMaxRecvDataSegmentLength;
    let dataSn = 0;
    for (let offset = start; offset < end; offset += segmentBytes) {
      const next = Math.min(end, offset + segmentBytes);
      this.channel.send({
        type: "scsi-data-out",
        isFinal: next === end,
        lun: record.task.lun,
        initiatorTaskTag: record.initiatorTaskTag,
        targetTransferTag,
        expStatSn: this.#expStatSn,
        dataSn,
        bufferOffset: offset,
        data: source.subarray(offset, next),
      });
      dataSn += 1;
    }
  }

  #onNopIn(pdu: NopInPdu): void {
    if (pdu.initiatorTaskTag !== RESERVED_TAG) {
      this.#sequence(pdu);
      this.#control(pdu);
      return;
    }
    // Not an answer to us: it shows the next StatSN without using it (§11.19.2).
    this.#advanceWindow(pdu);
    if (pdu.targetTransferTag === RESERVED_TAG) return;
    this.channel.send({
      type: "nop-out",
      isImmediate: true,
      lun: pdu.lun,
      initiatorTaskTag: RESERVED_TAG,
      targetTransferTag: pdu.targetTransferTag,
      cmdSn: this.#window.nextCmdSn,
      expStatSn: this.#expStatSn,
      data: NO_DATA,
    });
  }

  #control(pdu: TargetPdu & { readonly initiatorTaskTag: number }): void {
    if (this.#owner.onControlResponse(pdu)) return;
    throw protocolError("§11.2.1.8", `${pdu.type} for a task tag that is not in use`, { tag: pdu.initiatorTaskTag });
  }

  #taskOf(initiatorTaskTag: number, what: string): TaskRecord {
    const record = this.#owner.findTask(initiatorTaskTag);
    if (record !== undefined) return record;
    throw protocolError("§11.2.1.8", `${what} for a task tag that is not in use`, { tag: initiatorTaskTag });
  }

  /** A PDU that uses up a StatSN: it must be the next one (RFC 7143 §4.2.2.2). */
  #sequence(pdu: TargetSequence): void {
    if (pdu.statSn !== this.#expStatSn) {
      throw protocolError("§4.2.2.2", `StatSN ${pdu.statSn} where ${this.#expStatSn} was due`);
    }
    this.#expStatSn = (pdu.statSn + 1) >>> 0;
    this.#advanceWindow(pdu);
  }

  #advanceWindow(pdu: TargetSequence): void {
    this.#window.update(pdu.expCmdSn, pdu.maxCmdSn);
    this.#owner.onWindowUpdate();
  }
}
