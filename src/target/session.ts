import type { Clock } from "../base/clock.js";
import { createDeferred } from "../base/deferred.js";
import type { Logger } from "../base/logger.js";
import type { NegotiatedParameters } from "../login/parameters.js";
import { AsyncEvent, RejectReason, RESERVED_TAG } from "../wire/constants.js";
import type { InitiatorPdu, LogoutRequestPdu } from "../wire/pdu.js";
import type { BufferPool } from "./buffer-pool.js";
import { CommandIntake } from "./command-intake.js";
import type { CommandWindow } from "./command-window.js";
import { ConnectionSlot, type AsyncFields, type SlotUser } from "./connection-slot.js";
import type { TargetConnection } from "./connection.js";
import { TargetError } from "./errors.js";
import { LoginRefusal, LoginStatus } from "./login/login-refusal.js";
import type { LoginGrant } from "./login/target-login.js";
import type { RecoveryTally } from "./recovery-tally.js";
import { ResponseFence } from "./response-fence.js";
import { Condition } from "./scsi/check-condition.js";
import type { DeviceServer } from "./scsi/device-server.js";
import type { LogicalUnit } from "./scsi/logical-unit.js";
import { initiatorPortName, nexusIdOf, type Nexus } from "./scsi/nexus.js";
import { SessionRequests } from "./session-requests.js";
import { SlotTable } from "./slot-table.js";
import { answerSnack } from "./snack.js";
import type { TaskManagementScope } from "./task-management.js";
import { TaskRunner } from "./task-runner.js";
import type { TargetTask } from "./task.js";
import type { TextAnswers } from "./text-exchange.js";
import { waitAtMost } from "./wait-at-most.js";

export interface SessionOptions {
  /** Of the leading login: what it agreed on holds for the session. */
  readonly grant: LoginGrant;
  readonly tsih: number;
  readonly portalGroupTag: number;
  readonly queueDepth: number;
}

export interface SessionDependencies {
  readonly clock: Clock;
  readonly deviceServer: DeviceServer;
  readonly pool: BufferPool;
  readonly logger: Logger;
  readonly scope: TaskManagementScope;
  readonly tally: RecoveryTally;
  /** Answers SendTargets on a connection. */
  readonly sendTargets: (connection: TargetConnection, value: string) => TextAnswers;
}

/** A normal session in full feature phase: one nexus, one or more connections (RFC 7143 §4.2). */
export class TargetSession implements SlotUser {
  readonly tsih: number;
  readonly portalGroupTag: number;
  readonly initiatorName: string;
  readonly isid: Buffer;
  readonly nexus: Nexus;
  /** What the leading login agreed on; digests and segment lengths are each connection's own. */
  readonly parameters: NegotiatedParameters;
  readonly intake: CommandIntake;
  readonly runner: TaskRunner;
  readonly fence: ResponseFence;
  readonly deviceServer: DeviceServer;
  readonly tally: RecoveryTally;
  readonly clock: Clock;
  readonly #deps: SessionDependencies;
  readonly #slots: SlotTable;
  readonly #requests: SessionRequests;
  readonly #over = createDeferred<undefined>();
  readonly #ended = createDeferred<undefined>();
  #isOver = false;

  constructor(options: SessionOptions, dependencies: SessionDependencies) {
    const { grant } = options;
    this.tsih = options.tsih;
    this.portalGroupTag = options.portalGroupTag;
    this.initiatorName = grant.initiatorName;
    this.isid = grant.isid;
    this.parameters = grant.parameters;
    this.#deps = dependencies;
    this.clock = dependencies.clock;
    this.tally = dependencies.tally;
    this.deviceServer = dependencies.deviceServer;
    const portName = initiatorPortName(grant.initiatorName, grant.isid);
    this.nexus = {
      id: nexusIdOf(portName, options.portalGroupTag),
      portName,
      initiatorName: grant.initiatorName,
      isid: grant.isid,
      relativePortId: options.portalGroupTag,
      iscsiProtocolLevel: grant.parameters.iscsiProtocolLevel,
    };
    this.#slots = new SlotTable({ clock: dependencies.clock, onExpired: (slot) => this.#onExpired(slot) });
    this.fence = new ResponseFence(
      { holdsFollowing: grant.parameters.taskReporting !== "RFC3720" },
      { clock: dependencies.clock, slots: () => this.#slots.open },
    );
    this.intake = new CommandIntake(
      {
        queueDepth: options.queueDepth,
        expCmdSn: grant.expCmdSn,
        isRetryExpected: grant.parameters.errorRecoveryLevel > 0,
      },
      {
        pool: dependencies.pool,
        runner: () => this.runner,
        control: (slot, pdu, header) => this.#requests.take(slot, pdu, header),
      },
    );
    this.runner = new TaskRunner({
      window: this.intake.window,
      deviceServer: dependencies.deviceServer,
      pool: dependencies.pool,
      nexus: this.nexus,
      clock: dependencies.clock,
      fence: this.fence,
      solicit: () => this.#solicit(),
      onRecoveryR2t: () => (dependencies.tally.recoveryR2ts += 1),
      fail: (error) => this.fail(error),
    });
    this.#requests = new SessionRequests({
      session: this,
      scope: dependencies.scope,
      sendTargets: dependencies.sendTargets,
    });
  }

  get window(): CommandWindow<unknown> {
    return this.intake.window;
  }

  /** Connections that are there. */
  get slots(): readonly ConnectionSlot[] {
    return this.#slots.open;
  }

  /** Connections that are gone, while they may be recovered. */
  get goneSlots(): readonly ConnectionSlot[] {
    return this.#slots.gone;
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

  /**
   * Takes a connection in: the leading one, a further one, or one in the place of a connection with the same CID, which
   * is logged out by that (RFC 7143 §6.3.4). Resolves when tasks that end by it have ended. Throws LoginRefusal.
   */
  async join(grant: LoginGrant, connection: TargetConnection): Promise<ConnectionSlot> {
    const old = this.#slots.find(grant.cid);
    if (old !== undefined) await this.#reinstate(old, grant.oldExpStatSn);
    if (this.#isOver) throw new LoginRefusal(LoginStatus.sessionDoesNotExist, "the session ended while it was joined");
    const isTaken = this.#slots.find(grant.cid) !== undefined;
    if (isTaken || this.#slots.open.length >= this.parameters.maxConnections) {
      const message = `the session has its ${this.parameters.maxConnections} connections`;
      throw new LoginRefusal(LoginStatus.tooManyConnections, message);
    }
    const slot = new ConnectionSlot({ cid: grant.cid, parameters: grant.parameters }, { connection, user: this });
    this.#slots.add(slot);
    return slot;
  }

  placeData(slot: ConnectionSlot, header: Buffer, lengthBytes: number): Buffer | undefined {
    return this.runner.placement.place(slot, header, lengthBytes);
  }

  settleData(slot: ConnectionSlot): void {
    this.runner.placement.settle(slot);
  }

  onPdu(slot: ConnectionSlot, pdu: InitiatorPdu, isDataDigestGood: boolean, header: Buffer): void {
    const placed = slot.placed;
    slot.placed = undefined;
    // §11.14: nothing counts that comes after a logout on its connection.
    if (slot.isLoggingOut) return;
    if (!isDataDigestGood) this.tally.dataDigestErrors += 1;
    switch (pdu.type) {
      case "scsi-data-out":
        if (!this.intake.takeData(slot, pdu, isDataDigestGood, header)) {
          this.runner.placement.put(slot, pdu, slot.receivedFor);
          this.runner.onDataOut(slot, pdu, isDataDigestGood, header);
        }
        return;
      case "snack-request":
        answerSnack(this, slot, pdu, header);
        return;
      case "login-request":
        throw new TargetError("TARGET_PEER_PROTOCOL", "a Login Request came after the login was over");
      case "nop-out":
        if (pdu.initiatorTaskTag !== RESERVED_TAG) break;
        return;
      default:
    }
    this.intake.take({ slot, pdu, isDataDigestGood, header, placed });
  }

  onMalformed(slot: ConnectionSlot, header: Buffer, reason: number): boolean {
    slot.reject(reason, header);
    // §7.7: a format error ends the session; an opcode nobody knows does not make the rest unreadable.
    return reason === RejectReason.commandNotSupported;
  }

  onStatusReleased(task: TargetTask): void {
    this.runner.release(task);
  }

  /** A connection is gone. Without a logout its tasks wait to be recovered, or end (RFC 7143 §7.1.4.3, §7.6). */
  onClosed(slot: ConnectionSlot): void {
    this.intake.forget(slot);
    if (this.#isOver || (slot.state !== "logged-in" && slot.state !== "joining")) return;
    if (slot.isLoggingOut) {
      this.#slots.close(slot);
      this.#endIfAbandoned();
      return;
    }
    const isRetained = this.retainSeconds > 0;
    const isLast = this.#slots.open.length === 1;
    if (!isRetained && isLast) {
      this.#end();
      return;
    }
    const { defaultTime2Wait, defaultTime2Retain } = this.parameters;
    this.#slots.fail(slot, (defaultTime2Wait + defaultTime2Retain) * 1000);
    this.#announceDrop(slot);
    if (!isRetained) void this.terminate(slot);
  }

  /** Seconds that tasks of a lost connection are kept for reassignment after the initial wait; 0 when they are not. */
  get retainSeconds(): number {
    return this.parameters.errorRecoveryLevel === 2 ? this.parameters.defaultTime2Retain : 0;
  }

  /**
   * Removes the connection with this CID (RFC 7143 §11.14): with `isForRecovery` its tasks wait for reassignment, else
   * they end. Resolves to false when there is none. A request on that connection itself is answered by the caller,
   * who then calls `leave`.
   */
  async logOut(pdu: LogoutRequestPdu, asking: ConnectionSlot, isForRecovery: boolean): Promise<boolean> {
    const slot = this.#slots.find(pdu.cid);
    if (slot === undefined || slot.state === "joining") return false;
    slot.isLoggingOut = true;
    this.intake.forget(slot);
    if (slot === asking) {
      if (!isForRecovery) await this.terminate(slot);
      return true;
    }
    slot.acknowledge(pdu.expStatSn);
    const { connection } = slot;
    if (isForRecovery) this.#retain(slot);
    else this.#slots.close(slot);
    connection.destroy();
    if (!isForRecovery) await this.terminate(slot);
    return true;
  }

  /** Ends a connection whose own logout has been answered. */
  leave(slot: ConnectionSlot, isForRecovery: boolean): void {
    slot.connection.end();
    if (this.#isOver) return;
    if (isForRecovery) this.#retain(slot);
    else this.#slots.close(slot);
    this.#endIfAbandoned();
  }

  /** Closes all connections after a logout of the session has been answered. */
  close(): void {
    for (const slot of this.#slots.open) slot.connection.end();
    this.#end();
  }

  /** Ends the tasks of a connection without responses; the initiator learns of it by a unit attention (§11.14.5). */
  async terminate(slot: ConnectionSlot): Promise<void> {
    const affected = [...this.runner.tasks.values()].filter((task) => task.slot === slot);
    for (const task of [...this.runner.concluded.values()]) if (task.slot === slot) this.runner.release(task);
    const units = new Set(affected.flatMap((task) => (task.command === undefined ? [] : [task.command.unit])));
    await Promise.all(affected.map((task) => this.runner.abort(task)));
    if (this.#isOver) return;
    for (const unit of units) unit.attentions.add(this.nexus.id, Condition.commandsClearedByProtocolEvent);
  }

  /** Waits for `promise`, but no longer than so long, and not beyond the session's end. True when it was resolved. */
  waitAtMost(promise: Promise<unknown>, timeoutMs: number): Promise<boolean> {
    return waitAtMost(promise, { timeoutMs, clock: this.clock, over: this.#over.promise });
  }

  /** Tells the initiator that its session ends (RFC 7143 §11.9.1, event 3), then ends it. */
  async drop(reason: string): Promise<void> {
    const { logger } = this.#deps;
    if (!this.#isOver) {
      logger.info("ending a session", { initiator: this.initiatorName, tsih: this.tsih, reason });
      const parameter2 = this.parameters.defaultTime2Wait;
      for (const slot of this.#slots.open) {
        slot.sendAsync({ asyncEvent: AsyncEvent.allConnectionsWillDrop, parameter2 });
        if (slot.state === "joining") slot.connection.destroy();
        else slot.connection.end();
      }
      this.#end();
    }
    await this.#ended.promise;
  }

  /** Tells the initiator that one connection will be dropped (§11.9.1, event 2), then drops it. */
  dropConnection(slot: ConnectionSlot): void {
    slot.sendAsync(this.#dropNotice(slot));
    slot.isDropAnnounced = true;
    slot.connection.end();
  }

  /** Tells the initiator that all connections will be dropped (event 3), then drops them; tasks stay as the level says. */
  dropConnections(): void {
    const notice = { ...this.#dropNotice(), asyncEvent: AsyncEvent.allConnectionsWillDrop };
    for (const slot of this.#slots.open) {
      slot.sendAsync(notice);
      slot.isDropAnnounced = true;
      slot.connection.end();
    }
  }

  /** A mistake of ours: it ends this session and no other. */
  fail(error: unknown): void {
    this.#deps.logger.error("a session failed inside the target", { initiator: this.initiatorName, error });
    for (const slot of this.#slots.open) slot.connection.destroy();
    this.#end();
  }

  async #reinstate(old: ConnectionSlot, expStatSn: number): Promise<void> {
    old.acknowledge(expStatSn);
    const isForRecovery = this.retainSeconds > 0 && old.state !== "joining";
    this.intake.forget(old);
    if (isForRecovery) this.#retain(old);
    else this.#slots.close(old);
    old.connection.destroy();
    if (!isForRecovery) await this.terminate(old);
  }

  #retain(slot: ConnectionSlot): void {
    this.tally.connectionRecoveries += 1;
    this.#slots.recover(slot, (this.parameters.defaultTime2Wait + this.retainSeconds) * 1000);
  }

  /** §7.1.4.3: the initiator may not know yet that one of its connections is gone. */
  #announceDrop(gone: ConnectionSlot): void {
    if (gone.isDropAnnounced) return;
    const other = this.#slots.open.find((slot) => slot.canSend);
    other?.sendAsync(this.#dropNotice(gone));
  }

  #dropNotice(slot?: ConnectionSlot): AsyncFields {
    return {
      asyncEvent: AsyncEvent.connectionWillDrop,
      parameter1: slot?.cid ?? 0,
      parameter2: this.parameters.defaultTime2Wait,
      parameter3: this.retainSeconds,
    };
  }

  #onExpired(slot: ConnectionSlot): void {
    void this.terminate(slot);
    this.#endIfAbandoned();
  }

  /** Above level 0 data is kept until its status is acknowledged, which an idle initiator has to be asked for. */
  #solicit(): void {
    if (this.parameters.errorRecoveryLevel === 0) return;
    for (const slot of this.#slots.open) if (slot.canSend) slot.solicitAcknowledgement();
  }

  #endIfAbandoned(): void {
    const isAbandoned = this.retainSeconds === 0 && this.#slots.open.length === 0;
    if (isAbandoned || this.#slots.isEmpty) this.#end();
  }

  #end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#slots.end();
    this.fence.end();
    this.#over.resolve(undefined);
    void this.runner.abortAll().then(() => this.#ended.resolve(undefined));
  }
}
