import { createDeferred } from "../base/deferred.js";
import { TARGET_MAX_IMMEDIATE_TASKS } from "../base/limits.js";
import { LUN_ZERO } from "../base/lun.js";
import type { Logger } from "../base/logger.js";
import { Negotiator } from "../login/negotiate.js";
import type { NegotiatedParameters } from "../login/parameters.js";
import { AsyncEvent, LogoutReason, RejectReason, RESERVED_TAG } from "../wire/constants.js";
import { NO_DATA } from "../wire/header.js";
import type {
  InitiatorPdu,
  LogoutRequestPdu,
  NopOutPdu,
  ScsiCommandPdu,
  TaskManagementRequestPdu,
  TextRequestPdu,
} from "../wire/pdu.js";
import type { BufferPool } from "./buffer-pool.js";
import { CommandWindow } from "./command-window.js";
import type { ConnectionUser, TargetConnection } from "./connection.js";
import { TargetError } from "./errors.js";
import type { LoginGrant } from "./login/target-login.js";
import type { DeviceServer } from "./scsi/device-server.js";
import type { LogicalUnit } from "./scsi/logical-unit.js";
import { initiatorPortName, type Nexus } from "./scsi/nexus.js";
import { manageTasks, type TaskManagementScope } from "./task-management.js";
import { TaskRunner } from "./task-runner.js";
import { TextExchange, type TextAnswers } from "./text-exchange.js";

/** PDUs that carry a CmdSN and take their turn in the window. */
type SequencedPdu = ScsiCommandPdu | TaskManagementRequestPdu | TextRequestPdu | LogoutRequestPdu | NopOutPdu;

interface Arrived {
  readonly pdu: SequencedPdu;
  readonly isDataDigestGood: boolean;
  readonly header: Buffer;
  readonly placed: Buffer | undefined;
}

export interface SessionOptions {
  readonly grant: LoginGrant;
  readonly tsih: number;
  readonly portalGroupTag: number;
  readonly queueDepth: number;
}

export interface SessionDependencies {
  readonly connection: TargetConnection;
  readonly deviceServer: DeviceServer;
  readonly pool: BufferPool;
  readonly logger: Logger;
  readonly scope: TaskManagementScope;
  /** Answers SendTargets in this session. */
  readonly sendTargets: (value: string) => TextAnswers;
}

/** A normal session in full feature phase: one nexus, one connection. */
export class TargetSession implements ConnectionUser {
  readonly tsih: number;
  readonly initiatorName: string;
  readonly isid: Buffer;
  readonly nexus: Nexus;
  readonly window: CommandWindow<Arrived>;
  readonly runner: TaskRunner;
  readonly deviceServer: DeviceServer;
  readonly #cid: number;
  readonly #deps: SessionDependencies;
  readonly #text: TextExchange;
  readonly #ended = createDeferred<undefined>();
  #parameters: NegotiatedParameters;
  #isOver = false;
  #pingTag = 0;

  constructor(options: SessionOptions, dependencies: SessionDependencies) {
    const { grant } = options;
    this.tsih = options.tsih;
    this.#cid = grant.cid;
    this.initiatorName = grant.initiatorName;
    this.isid = grant.isid;
    this.#parameters = grant.parameters;
    this.#deps = dependencies;
    this.deviceServer = dependencies.deviceServer;
    this.nexus = {
      portName: initiatorPortName(grant.initiatorName, grant.isid),
      initiatorName: grant.initiatorName,
      isid: grant.isid,
      relativePortId: options.portalGroupTag,
    };
    this.window = new CommandWindow({ depth: options.queueDepth, expCmdSn: grant.expCmdSn });
    const context = { connection: dependencies.connection, window: this.window, parameters: () => this.#parameters };
    this.runner = new TaskRunner(context, {
      deviceServer: dependencies.deviceServer,
      pool: dependencies.pool,
      nexus: this.nexus,
      reject: (reason, header) => this.#reject(reason, header),
      fail: (error) => this.#fail(error),
    });
    this.#text = new TextExchange((pairs) => this.#answerText(pairs));
  }

  get parameters(): NegotiatedParameters {
    return this.#parameters;
  }

  get connection(): TargetConnection {
    return this.#deps.connection;
  }

  /** Resolves when the session is over and nothing of its tasks runs any more. */
  get ended(): Promise<undefined> {
    return this.#ended.promise;
  }

  units(): Iterable<LogicalUnit> {
    return this.#deps.scope.units();
  }

  hasTasks(unit: LogicalUnit): boolean {
    for (const task of this.runner.tasks.values()) if (task.command?.unit === unit) return true;
    return false;
  }

  /** Ends the session's tasks on a unit without responses; resolves when none runs any more. */
  async abortTasks(unit: LogicalUnit): Promise<void> {
    const affected = [...this.runner.tasks.values()].filter((task) => task.command?.unit === unit);
    await Promise.all(affected.map((task) => this.runner.abort(task)));
  }

  placeData(header: Buffer, lengthBytes: number): Buffer | undefined {
    return this.runner.placeData(header, lengthBytes);
  }

  onPdu(pdu: InitiatorPdu, isDataDigestGood: boolean, header: Buffer): void {
    switch (pdu.type) {
      case "scsi-data-out":
        this.runner.onDataOut(pdu, isDataDigestGood, header);
        return;
      case "snack-request":
        this.#reject(RejectReason.snackReject, header);
        return;
      case "login-request":
        throw new TargetError("TARGET_PEER_PROTOCOL", "a Login Request came after the login was over");
      case "nop-out":
        if (pdu.initiatorTaskTag === RESERVED_TAG) return;
        break;
      default:
    }
    const placed = pdu.type === "scsi-command" ? this.runner.takePlaced() : undefined;
    if (pdu.isImmediate) this.#onImmediate({ pdu, isDataDigestGood, header, placed });
    else this.#onSequenced({ pdu, isDataDigestGood, header, placed });
  }

  onMalformed(header: Buffer, reason: number): boolean {
    this.#reject(reason, header);
    // §7.7: a format error ends the session; an opcode nobody knows does not make the rest unreadable.
    return reason === RejectReason.commandNotSupported;
  }

  onClosed(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    void this.runner.abortAll().then(() => this.#ended.resolve(undefined));
  }

  /** Asks the initiator to answer, to find out whether it is there (RFC 7143 §11.19). */
  ping(): void {
    this.#pingTag = this.#pingTag + 1 === RESERVED_TAG ? 1 : this.#pingTag + 1;
    const { connection } = this.#deps;
    connection.send({
      type: "nop-in",
      lun: LUN_ZERO,
      initiatorTaskTag: RESERVED_TAG,
      targetTransferTag: this.#pingTag,
      statSn: connection.statSn,
      ...this.#numbers(),
      data: NO_DATA,
    });
  }

  /** Tells the initiator that its session ends (RFC 7143 §11.9.1, event 3), then ends it. */
  async drop(reason: string): Promise<void> {
    const { connection, logger } = this.#deps;
    if (!this.#isOver) {
      logger.info("ending a session", { initiator: this.initiatorName, tsih: this.tsih, reason });
      connection.send({
        type: "async-message",
        lun: LUN_ZERO,
        asyncEvent: AsyncEvent.allConnectionsWillDrop,
        asyncVCode: 0,
        parameter1: 0,
        parameter2: this.#parameters.defaultTime2Wait,
        parameter3: 0,
        statSn: connection.takeStatSn(),
        ...this.#numbers(),
        data: NO_DATA,
      });
      connection.end();
      this.onClosed();
    }
    await this.#ended.promise;
  }

  #numbers(): { readonly expCmdSn: number; readonly maxCmdSn: number } {
    return { expCmdSn: this.window.expCmdSn, maxCmdSn: this.window.maxCmdSn };
  }

  #onImmediate(arrived: Arrived): void {
    const { pdu, placed } = arrived;
    const isBusy = pdu.type === "scsi-command" && this.runner.immediateCount >= TARGET_MAX_IMMEDIATE_TASKS;
    if (!isBusy) {
      this.#deliver(arrived);
      return;
    }
    if (placed !== undefined) this.#deps.pool.release(placed);
    this.#reject(RejectReason.immediateCommandReject, arrived.header);
  }

  #onSequenced(arrived: Arrived): void {
    const { cmdSn } = arrived.pdu;
    const place = this.window.place(cmdSn);
    if (place === "early") {
      this.window.hold(cmdSn, { ...arrived, header: Buffer.from(arrived.header) });
      return;
    }
    if (place === "outside") {
      if (arrived.placed !== undefined) this.#deps.pool.release(arrived.placed);
      return;
    }
    let next: Arrived | undefined = arrived;
    while (next !== undefined) {
      this.window.advance();
      this.#deliver(next);
      next = this.window.takeNext();
    }
  }

  #deliver(arrived: Arrived): void {
    const { pdu, header } = arrived;
    if (pdu.type === "scsi-command") {
      this.#startCommand(pdu, arrived);
      return;
    }
    // These give their place in the window back at once: beginning and ending opens it by one.
    if (!pdu.isImmediate) {
      this.window.begin();
      this.window.end();
    }
    if (!arrived.isDataDigestGood) {
      this.#reject(RejectReason.dataDigestError, header);
      return;
    }
    if (pdu.type === "nop-out") this.#onNopOut(pdu);
    else if (pdu.type === "text-request") this.#onText(pdu, header);
    else if (pdu.type === "logout-request") this.#onLogout(pdu);
    else this.#onTaskManagement(pdu).catch((error: unknown) => this.#fail(error));
  }

  #startCommand(pdu: ScsiCommandPdu, arrived: Arrived): void {
    if (!arrived.isDataDigestGood) this.#reject(RejectReason.dataDigestError, arrived.header);
    if (this.runner.tasks.has(pdu.initiatorTaskTag)) {
      if (arrived.placed !== undefined) this.#deps.pool.release(arrived.placed);
      this.#reject(RejectReason.taskInProgress, arrived.header);
      return;
    }
    this.runner.start(pdu, arrived.isDataDigestGood, arrived.placed);
  }

  #onNopOut(pdu: NopOutPdu): void {
    const { connection } = this.#deps;
    const segmentBytes = this.#parameters.initiatorMaxRecvDataSegmentLength;
    connection.send({
      type: "nop-in",
      lun: LUN_ZERO,
      initiatorTaskTag: pdu.initiatorTaskTag,
      targetTransferTag: RESERVED_TAG,
      statSn: connection.takeStatSn(),
      ...this.#numbers(),
      data: pdu.data.length <= segmentBytes ? pdu.data : pdu.data.subarray(0, segmentBytes),
    });
  }

  #onText(pdu: TextRequestPdu, header: Buffer): void {
    const { connection } = this.#deps;
    const reply = this.#text.receive(pdu, this.#parameters.initiatorMaxRecvDataSegmentLength);
    if (reply === undefined) {
      this.#reject(RejectReason.protocolError, header);
      return;
    }
    connection.send({ ...reply, statSn: connection.takeStatSn(), ...this.#numbers() });
  }

  /** SendTargets, and the keys that may be renegotiated (§13: use ALL and FFPO). */
  #answerText(pairs: [string, string][]): TextAnswers {
    const negotiator = new Negotiator({
      role: "target",
      sessionType: "Normal",
      isLeading: false,
      preferences: preferencesOf(this.#parameters),
      current: this.#parameters,
    });
    const others = pairs.filter(([key]) => key !== "SendTargets");
    const { answers } = negotiator.receive(others, "full-feature");
    this.#parameters = negotiator.result();
    const asked = pairs.find(([key]) => key === "SendTargets")?.[1];
    return asked === undefined ? answers : [...answers, ...this.#deps.sendTargets(asked)];
  }

  /** §11.14: close the session or its only connection; recovery belongs to error recovery level 2. */
  #onLogout(pdu: LogoutRequestPdu): void {
    const { connection } = this.#deps;
    const isUnknown = pdu.reason !== LogoutReason.closeSession && pdu.cid !== this.#cid;
    const isRecovery = pdu.reason === LogoutReason.recovery;
    connection.send({
      type: "logout-response",
      response: isRecovery ? 2 : isUnknown ? 1 : 0,
      initiatorTaskTag: pdu.initiatorTaskTag,
      statSn: connection.takeStatSn(),
      ...this.#numbers(),
      time2Wait: this.#parameters.defaultTime2Wait,
      time2Retain: 0,
    });
    if (isRecovery || isUnknown) return;
    connection.end();
    this.onClosed();
  }

  async #onTaskManagement(pdu: TaskManagementRequestPdu): Promise<void> {
    const { connection, scope } = this.#deps;
    const { endsSessions, ...answer } = await manageTasks(this, pdu, scope);
    connection.send({
      type: "task-management-response",
      ...answer,
      initiatorTaskTag: pdu.initiatorTaskTag,
      statSn: connection.takeStatSn(),
      ...this.#numbers(),
    });
    if (endsSessions !== true) return;
    for (const session of [...scope.sessions()]) void session.drop("target cold reset");
  }

  /** A mistake of ours: it ends this session and no other. */
  #fail(error: unknown): void {
    this.#deps.logger.error("a session failed inside the target", { initiator: this.initiatorName, error });
    this.#deps.connection.destroy();
  }

  #reject(reason: number, header: Buffer): void {
    const { connection } = this.#deps;
    connection.send({
      type: "reject",
      reason,
      dataSnOrR2tSn: 0,
      statSn: connection.takeStatSn(),
      ...this.#numbers(),
      data: Buffer.from(header),
    });
  }
}

/** What renegotiation in full feature phase may come to: what holds now. */
function preferencesOf(parameters: NegotiatedParameters): ConstructorParameters<typeof Negotiator>[0]["preferences"] {
  return {
    ...parameters,
    headerDigest: [parameters.headerDigest],
    dataDigest: [parameters.dataDigest],
    taskReporting: [parameters.taskReporting],
    maxRecvDataSegmentLength: parameters.targetMaxRecvDataSegmentLength,
  };
}
