import type { PortalAddress } from "../base/access.js";
import type { AppError } from "../base/errors.js";
import type { NegotiatedParameters } from "../login/parameters.js";
import { Opcode, RESERVED_TAG, TaskAttribute } from "../wire/constants.js";
import type {
  InitiatorPdu,
  NopInPdu,
  Pdu,
  ScsiDataInPdu,
  ScsiResponsePdu,
  TargetPdu,
  TargetSequence,
} from "../wire/pdu.js";
import type { CommandWindow } from "./command-window.js";
import type { PolicyCandidate } from "./connection-policy.js";
import type { ControlExchange } from "./control-exchanges.js";
import type { ConnectionOptions, ConnectionOwner } from "./connection-owner.js";
import { planUnsolicited } from "./data-transfer.js";
import { SessionError, protocolError } from "./errors.js";
import type { ChannelUser, PduChannel } from "./pdu-channel.js";
import { type DataInPlace, judgeDataIn } from "./read-transfer.js";
import { StatusSequence, isUrgent } from "./status-sequence.js";
import type { TaskRecord } from "./task-record.js";
import { TaskTransfers } from "./task-transfers.js";

const NO_DATA = Buffer.alloc(0);

/** PDUs that use up a StatSN. */
type NumberedPdu = TargetPdu & TargetSequence;

/**
 * One connection of a session in full feature phase: StatSN in order, data placed where it belongs, Data-Out on
 * request. At ErrorRecoveryLevel 0 whatever is wrong ends the connection, and the session recovers; from level 1 on lost
 * PDUs are asked for again.
 */
export class Connection implements ChannelUser, PolicyCandidate {
  readonly connectionId: number;
  readonly parameters: NegotiatedParameters;
  readonly channel: PduChannel;
  readonly portal: PortalAddress;
  readonly rank: number;
  readonly weight: number;
  readonly isStandby: boolean;
  /** Tasks that were sent over it and not answered. Counted by the dispatcher. */
  inFlight = 0;
  /** It becomes a connection of a session that has tasks already; only questions about it flow. */
  isJoining = false;
  /** On its way out: no new commands; its logout was sent, nothing may follow (§11.14); the target has ended its tasks. */
  isDraining = false;
  isLoggingOut = false;
  isLoggedOut = false;
  readonly #window: CommandWindow;
  readonly #owner: ConnectionOwner;
  readonly #sequence: StatusSequence<NumberedPdu>;
  readonly #transfers: TaskTransfers;
  readonly #isRecoverable: boolean;
  /** Of the Data-In whose data segment is being received: the task it is placed in, and where it stands there. */
  #placing: TaskRecord | undefined;
  #place: DataInPlace | undefined;

  constructor(options: ConnectionOptions) {
    this.connectionId = options.connectionId;
    this.parameters = options.parameters;
    this.channel = options.channel;
    this.portal = options.portal;
    this.rank = options.rank;
    this.weight = options.weight;
    this.isStandby = options.isStandby;
    this.#window = options.window;
    this.#owner = options.owner;
    this.#sequence = new StatusSequence(options.nextExpStatSn);
    this.#isRecoverable = options.parameters.errorRecoveryLevel > 0;
    this.#transfers = new TaskTransfers({
      parameters: options.parameters,
      sequence: this.#sequence,
      counters: options.owner.counters,
      snackTimeoutMs: options.snackTimeoutMs,
      send: (pdu) => this.#send(pdu),
      find: (tag) => {
        const record = options.owner.findTask(tag);
        return record?.connection === this ? record : undefined;
      },
      has: (record) => options.owner.findTask(record.initiatorTaskTag) === record && record.connection === this,
    });
  }

  /** Begins to listen. Call once the owner knows the connection: what was kept since the login arrives now. */
  start(): void {
    this.channel.setUser(this);
  }

  get expStatSn(): number {
    return this.#sequence.expStatSn;
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

  /** Asks again for what was lost and has not come. Called at every sweep. */
  sweep(nowMs: number): void {
    if (!this.#isRecoverable || this.channel.isOver) return;
    this.#guarded(() => this.#transfers.sweep(nowMs));
  }

  /**
   * Sends the command of a task that has its tag and CmdSN, with the data nobody has to ask for. Never as an immediate one:
   * LIO refuses those, and istgt does not answer them.
   */
  sendCommand(record: TaskRecord): void {
    const { task } = record;
    const out = task.dataOut;
    const plan = out === undefined ? undefined : planUnsolicited(this.parameters, out.length);
    const immediateBytes = plan?.immediateBytes ?? 0;
    const unsolicitedEnd = plan?.unsolicitedEnd ?? 0;
    record.segmentBytes = this.parameters.initiatorMaxRecvDataSegmentLength;
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
      expStatSn: this.expStatSn,
      cdb: task.cdb,
      data: out === undefined || immediateBytes === 0 ? NO_DATA : out.subarray(0, immediateBytes),
    });
    if (out === undefined) return;
    if (unsolicitedEnd > immediateBytes) {
      this.#transfers.sendDataOut(record, out, immediateBytes, unsolicitedEnd, RESERVED_TAG);
    }
    if (record.sentBytes < unsolicitedEnd) record.sentBytes = unsolicitedEnd;
  }

  /** Sends a request that `exchange` describes; its answer goes to the owner's `onControlResponse`. */
  sendControl(exchange: ControlExchange): void {
    this.channel.send(exchange.build(this.#window.nextCmdSn, this.expStatSn));
  }

  /** The target will not send this task's lost data or R2Ts again: goes on without (RFC 7143 §7.8, a.1 and a.2). */
  giveUpLost(record: TaskRecord): void {
    this.#transfers.giveUpLost(record);
    this.#drain();
  }

  /** The task is over, or has left this connection: its buffer is its owner's again, even in the middle of a Data-In. */
  forget(record: TaskRecord): void {
    if (this.#placing === record) {
      this.#placing = undefined;
      this.channel.divertData();
    }
    if (this.#isRecoverable) this.#transfers.forget(record);
  }

  placeData(header: Buffer, lengthBytes: number): Buffer | undefined {
    this.#place = undefined;
    this.#placing = undefined;
    if (((header[0] ?? 0) & 0x3f) !== Opcode.scsiDataIn) return undefined;
    const record = this.#find(header.readUInt32BE(16), "Data-In", this.#isRecoverable);
    if (record === undefined) return undefined;
    const offset = header.readUInt32BE(40);
    this.#place = this.#judge(record, header.readUInt32BE(36), offset, lengthBytes);
    if (this.#place === "duplicate") return undefined;
    this.#placing = record;
    return record.task.dataIn?.subarray(offset, offset + lengthBytes);
  }

  onPdu(pdu: Pdu, isDataDigestGood: boolean): void {
    if (!isDataDigestGood) {
      this.#onBadDigest(pdu);
      return;
    }
    switch (pdu.type) {
      case "scsi-data-in":
        this.#onDataIn(pdu);
        return;
      case "ready-to-transfer": {
        this.#advanceWindow(pdu);
        this.#noteStatSn(pdu.statSn);
        const record = this.#find(pdu.initiatorTaskTag, "R2T", this.#isRecoverable);
        if (record !== undefined) this.#transfers.onReadyToTransfer(record, pdu);
        return;
      }
      case "nop-in":
        this.#onNopIn(pdu);
        return;
      case "scsi-response":
      case "async-message":
      case "reject":
      case "task-management-response":
      case "text-response":
      case "logout-response":
        this.#onNumbered(pdu);
        return;
      default:
        throw protocolError("§11.2.1.2", `${pdu.type} in full feature phase from a target`);
    }
  }

  /** Which PDU it was is not known: the gap that it leaves tells (§7.9). */
  onHeaderDigestError(): void {
    this.#owner.counters.headerDigestErrors += 1;
    this.#transfers.noteDiscarded();
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
    const place = this.#place;
    this.#place = undefined;
    this.#placing = undefined;
    const record = this.#find(pdu.initiatorTaskTag, "Data-In", this.#isRecoverable);
    if (record !== undefined) {
      const verdict = place ?? this.#judge(record, pdu.dataSn, pdu.bufferOffset, pdu.data.length);
      if (verdict !== "duplicate") this.#transfers.onDataIn(record, pdu, verdict);
    }
    if (pdu.hasStatus) this.#onNumbered(pdu);
    else {
      this.#advanceWindow(pdu);
      if (record !== undefined && this.#isRecoverable) this.#drain();
    }
  }

  #judge(record: TaskRecord, dataSn: number, bufferOffset: number, lengthBytes: number): DataInPlace {
    const place = judgeDataIn(record, dataSn, bufferOffset, lengthBytes);
    if (place !== "next" && !this.#isRecoverable) {
      throw protocolError("§11.7.5", `Data-In with DataSN ${dataSn} where ${record.nextDataSn} was due`);
    }
    return place;
  }

  /** RFC 7143 §7.8: the PDU is discarded, its StatSN too, and what is needed of it is asked for again. */
  #onBadDigest(pdu: Pdu): void {
    this.#owner.counters.dataDigestErrors += 1;
    if (!this.#isRecoverable) {
      throw new SessionError("SESSION_DIGEST", `data digest error in ${pdu.type} from the target`, {
        retry: "same-path",
        details: { pdu: pdu.type },
      });
    }
    const isNumbered = pdu.type !== "nop-in" || pdu.initiatorTaskTag !== RESERVED_TAG;
    if (pdu.type === "scsi-data-in") {
      const record = this.#find(pdu.initiatorTaskTag, "Data-In", true);
      if (record !== undefined && this.#place !== "duplicate") this.#transfers.onBadDataIn(record, pdu);
      if (pdu.hasStatus) this.#noteStatSn((pdu.statSn + 1) >>> 0);
    } else if ("statSn" in pdu && isNumbered) {
      this.#noteStatSn((pdu.statSn + 1) >>> 0);
      this.#transfers.requestStatus();
    }
  }

  #onNopIn(pdu: NopInPdu): void {
    if (pdu.initiatorTaskTag !== RESERVED_TAG) {
      this.#onNumbered(pdu);
      return;
    }
    // Not an answer to us: it shows the next StatSN without using it (§11.19.2).
    this.#advanceWindow(pdu);
    this.#noteStatSn(pdu.statSn);
    if (this.#isRecoverable) this.#transfers.requestStatus();
    if (pdu.targetTransferTag === RESERVED_TAG) return;
    this.#send({
      type: "nop-out",
      isImmediate: true,
      lun: pdu.lun,
      initiatorTaskTag: RESERVED_TAG,
      targetTransferTag: pdu.targetTransferTag,
      cmdSn: this.#window.nextCmdSn,
      expStatSn: this.expStatSn,
      data: NO_DATA,
    });
  }

  /** A PDU that uses up a StatSN: acknowledged in order (RFC 7143 §4.2.2.2). */
  #onNumbered(pdu: NumberedPdu): void {
    const place = this.#sequence.place(pdu.statSn);
    if (place !== "next" && !this.#isRecoverable) {
      throw protocolError("§4.2.2.2", `StatSN ${pdu.statSn} where ${this.expStatSn} was due`);
    }
    this.#window.update(pdu.expCmdSn, pdu.maxCmdSn);
    if (!this.#isRecoverable) {
      this.#sequence.advance();
      this.#act(pdu);
    } else if (place !== "duplicate" && !this.#sequence.isDone(pdu.statSn)) {
      this.#onRecoverable(pdu, place);
    }
    this.#owner.onWindowUpdate();
  }

  /** See isUrgent: everything else has its turn. */
  #onRecoverable(pdu: NumberedPdu, place: "next" | "early"): void {
    const isDone = (isUrgent(pdu) || place === "next") && this.#transfers.isWhole(pdu);
    this.#sequence.hold(pdu, isDone);
    if (isDone) this.#act(pdu);
    if (place === "early") this.#transfers.requestStatus();
    this.#drain();
  }

  /** Acknowledges what has been worked on, and works on what waited for its turn or its data. */
  #drain(): void {
    for (let held = this.#sequence.peek(); held !== undefined; held = this.#sequence.peek()) {
      const { pdu, isDone } = held;
      if (this.channel.isOver || !this.#transfers.isWhole(pdu)) return;
      if (!isDone) {
        this.#sequence.hold(pdu, true);
        this.#act(pdu);
      }
      if (!this.#transfers.isFinished(pdu)) return;
      this.#sequence.advance();
    }
  }

  /** What a numbered PDU means; its StatSN has been counted. */
  #act(pdu: NumberedPdu): void {
    switch (pdu.type) {
      case "scsi-response":
      case "scsi-data-in":
        this.#onStatus(pdu);
        return;
      case "async-message":
        this.#owner.onAsyncMessage(this, pdu);
        return;
      case "reject":
        this.#owner.onReject(this, pdu);
        return;
      case "nop-in":
      case "task-management-response":
      case "text-response":
      case "logout-response":
        if (this.#owner.onControlResponse(pdu)) return;
        throw protocolError("§11.2.1.8", `${pdu.type} for a task tag that is not in use`, {
          tag: pdu.initiatorTaskTag,
        });
      default:
        throw protocolError("§11.2.1.2", `${pdu.type} has no StatSN`);
    }
  }

  #onStatus(pdu: ScsiResponsePdu | ScsiDataInPdu): void {
    // LIO answers every status SNACK with a SCSI Response, whatever was lost: then only the number is of use.
    const isReplacement = this.#isRecoverable && this.#owner.onControlLost(pdu.initiatorTaskTag);
    const record = this.#find(pdu.initiatorTaskTag, pdu.type, isReplacement);
    if (record !== undefined) this.#owner.onTaskDone(record, this.#transfers.resultOf(record, pdu));
  }

  /** The task of a PDU; undefined for one that is over and may still be heard of. Throws SESSION_PROTOCOL otherwise. */
  #find(initiatorTaskTag: number, what: string, mayBeOver: boolean): TaskRecord | undefined {
    const record = this.#owner.findTask(initiatorTaskTag);
    if (record?.connection === this) return record;
    if (mayBeOver || this.#owner.isAbandoned(initiatorTaskTag)) return undefined;
    throw protocolError("§11.2.1.8", `${what} for a task tag that is not in use`, { tag: initiatorTaskTag });
  }

  #noteStatSn(nextStatSn: number): void {
    if (this.#isRecoverable) this.#sequence.note(nextStatSn);
  }

  #advanceWindow(pdu: TargetSequence): void {
    this.#window.update(pdu.expCmdSn, pdu.maxCmdSn);
    this.#owner.onWindowUpdate();
  }

  /** Answers and questions about tasks: none behind a logout (RFC 7143 §11.14). */
  #send(pdu: InitiatorPdu): void {
    if (!this.isLoggingOut) this.channel.send(pdu);
  }

  #guarded(act: () => void): void {
    try {
      act();
    } catch (error) {
      if (!(error instanceof SessionError)) throw error;
      this.drop(error);
    }
  }
}
