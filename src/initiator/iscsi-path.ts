import { Backoff } from "../base/backoff.js";
import { sleep } from "../base/clock.js";
import { createDeferred, type Deferred } from "../base/deferred.js";
import { Emitter } from "../base/emitter.js";
import { AppError, CancelledError, asAppError, errorMessage } from "../base/errors.js";
import type { BlockDevice, BlockDeviceInfo } from "../block/device.js";
import { type IscsiLun, openIscsiLun } from "../block/iscsi-lun.js";
import {
  type AccessStateFacts,
  checkReady,
  readAccessStateFacts,
  readPortGroups,
  setPortGroups,
} from "../block/lun-access-states.js";
import { isAccessStateError, LunCommander } from "../block/lun-commands.js";
import type { LunProfile } from "../block/lun-inspection.js";
import type { PathPort, PathPortEvent } from "../multipath/path-port.js";
import type { TargetPortGroupChange, TargetPortGroups } from "../scsi/alua.js";
import type { SessionEvent } from "../session/session-events.js";
import type { SessionDependencies, SessionOptions } from "../session/session-options.js";
import { Session } from "../session/session.js";
import { isNetworkNotReady, NETWORK_READY_DELAY_MS } from "./network-ready.js";
import type { IscsiPathOptions, PathCompany } from "./path-company.js";
import { fencePath, type FenceWay } from "./path-fence.js";
import { type VolumeSessionStatus, volumeSessionStatus } from "./session-status.js";

const RECONNECT_INITIAL_MS = 500;
const RECONNECT_MAXIMUM_MS = 15_000;

/** Attempts after which a path that lets no command through counts as failed: some seconds. */
const STANDBY_ATTEMPTS = 4;

const NO_ACCESS_STATES: AccessStateFacts = { portGroup: undefined, canSetPortGroups: false };

/** One session to one portal from one source, with the unit behind it: a path of a volume. */
export class IscsiPath implements PathPort {
  readonly id: string;
  readonly #options: IscsiPathOptions;
  readonly #company: PathCompany;
  readonly #dependencies: SessionDependencies;
  readonly #events = new Emitter<PathPortEvent>();
  readonly #stop = new AbortController();
  readonly #firstOutcome = createDeferred<AppError | undefined>();
  #sessionOptions: SessionOptions;
  #session: Session | undefined;
  #unit: IscsiLun | undefined;
  #device: BlockDevice | undefined;
  #facts = NO_ACCESS_STATES;
  #isUp = false;
  #running: Promise<void> = Promise.resolve();
  /** Ends the login, or the pause before it, that is under way. */
  #turn: AbortController | undefined;
  /** Attempts that ended because the port let no command through. */
  #standbyAttempts = 0;
  /** Somebody waits until it is certain that an earlier process' session with our ISID is over. */
  #fenceWanted: Deferred<boolean> | undefined;

  constructor(options: IscsiPathOptions, company: PathCompany, dependencies: SessionDependencies) {
    this.id = options.id;
    this.#options = options;
    this.#company = company;
    this.#dependencies = { ...dependencies, logger: dependencies.logger.child({ path: options.id }) };
    this.#sessionOptions = {
      ...options.session,
      evacuation: { afterMs: options.linkDownTimeMs, fence: (signal) => this.#fence(signal) },
    };
  }

  /** Resolves after the first attempt to come up: with its error, or with undefined when the path is up. */
  get firstOutcome(): Promise<AppError | undefined> {
    return this.#firstOutcome.promise;
  }

  get isUp(): boolean {
    return this.#isUp;
  }

  get device(): BlockDevice {
    if (this.#device !== undefined) return this.#device;
    throw new AppError("initiator", "PATH_NOT_UP", `path ${this.id} was never up`, { retry: "other-path" });
  }

  get portGroup(): number | undefined {
    return this.#facts.portGroup;
  }

  get canSetPortGroups(): boolean {
    return this.#facts.canSetPortGroups;
  }

  /** Of the session that stands, or stood last; there is none before the first login. */
  status(): VolumeSessionStatus | undefined {
    return this.#session === undefined ? undefined : volumeSessionStatus(this.#session.status(), this.id);
  }

  /** The session, for who asks the target something else; undefined before the first login. */
  get session(): Session | undefined {
    return this.#session;
  }

  /** What the path has found its unit to be; undefined while it has not found out itself. */
  get profile(): LunProfile | undefined {
    return this.#unit?.profile;
  }

  /** Begins to connect, and never gives up until `close`. */
  start(): void {
    this.#running = this.#connectUntilUp();
  }

  /** Other credentials from the next login on. */
  renewChap(chap: NonNullable<SessionOptions["chap"]>): void {
    this.#sessionOptions = { ...this.#sessionOptions, chap };
    this.#session?.renewChap(chap);
  }

  /**
   * Makes certain that nothing of an earlier process' session with our ISID is carried out any more. Resolves with false
   * when it could not be done over any other path.
   */
  fenceFormer(): Promise<boolean> {
    if (this.#isUp) return Promise.resolve(true);
    this.#fenceWanted ??= createDeferred<boolean>();
    const { promise } = this.#fenceWanted;
    this.#turn?.abort(new CancelledError("initiator", "CONNECT_CANCELLED", "the former session is ended first"));
    return promise;
  }

  async readPortGroups(): Promise<TargetPortGroups | undefined> {
    return readPortGroups(this.commander);
  }

  async setPortGroups(changes: readonly TargetPortGroupChange[]): Promise<void> {
    await setPortGroups(this.commander, changes);
  }

  async probe(): Promise<void> {
    await checkReady(this.commander);
  }

  async recognise(): Promise<void> {
    await this.#requireUnit().recognise();
  }

  async refresh(): Promise<BlockDeviceInfo> {
    return this.#requireUnit().refresh();
  }

  handOver(): void {
    this.#session?.handOver();
  }

  onEvent(listener: (event: PathPortEvent) => void): () => void {
    return this.#events.on(listener);
  }

  async close(): Promise<void> {
    this.#stop.abort(new CancelledError("initiator", "CONNECT_CANCELLED", `path ${this.id} was closed`));
    this.#turn?.abort(this.#stop.signal.reason);
    this.#fenceWanted?.resolve(false);
    await this.#running;
    await this.#unit?.close();
    await this.#session?.logout().catch((error: unknown) => {
      this.#dependencies.logger.warn("logout failed, the connection was cut", { reason: errorMessage(error) });
    });
    this.#isUp = false;
  }

  /** A way over this path, for the others; undefined unless it is up. */
  get way(): FenceWay | undefined {
    const session = this.#session;
    if (!this.#isUp || session === undefined) return undefined;
    const { localAddress, localInterface } = this.#options.session;
    return {
      portal: session.status().portal,
      ...(localAddress === undefined ? {} : { localAddress }),
      ...(localInterface === undefined ? {} : { localInterface }),
      ping: () => session.nop(),
      resetUnit: async () => {
        await session.taskManagement({ function: "lun-reset", lun: this.#options.lun });
      },
    };
  }

  /** Has the target end what is under way on this path: after a reset it may never be answered. Does not reject. */
  async clearTasks(): Promise<void> {
    try {
      await this.#session?.taskManagement({ function: "abort-task-set", lun: this.#options.lun });
    } catch (error) {
      this.#dependencies.logger.warn("tasks could not be ended after a reset; their time will end them", {
        reason: errorMessage(error),
      });
    }
  }

  /** Commands to the unit as they are. Throws PATH_NOT_UP before the first "up". */
  get commander(): LunCommander {
    return this.#requireUnit().commander;
  }

  #requireUnit(): IscsiLun {
    if (this.#unit === undefined) throw notUp(this.id);
    return this.#unit;
  }

  async #connectUntilUp(): Promise<void> {
    const { clock, random } = this.#dependencies;
    const { signal } = this.#stop;
    const backoff = new Backoff({ initialMs: RECONNECT_INITIAL_MS, maximumMs: RECONNECT_MAXIMUM_MS }, { random });
    let retriesLeft = this.#options.networkReadyRetryCount;
    while (!signal.aborted) {
      await this.#fenceIfWanted();
      const turn = new AbortController();
      this.#turn = turn;
      try {
        await this.#connect(turn.signal);
        return;
      } catch (error) {
        const reason = asAppError(error);
        if (turn.signal.aborted) continue;
        const isEarly = retriesLeft > 0 && isNetworkNotReady(reason);
        retriesLeft -= 1;
        if (!isEarly) this.#tellFailed(reason);
        await sleep(clock, isEarly ? NETWORK_READY_DELAY_MS : backoff.next(), turn.signal).catch(() => undefined);
      } finally {
        this.#turn = undefined;
      }
    }
  }

  async #connect(signal: AbortSignal): Promise<void> {
    const session = await Session.open(this.#sessionOptions, this.#dependencies, signal);
    const onAbort = (): void => session.close();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      const unit = await this.#company.openUnit((expectedId) => this.#openUnit(session, expectedId));
      this.#facts = await readAccessStateFacts(unit.commander);
      if (signal.aborted) throw asAppError(signal.reason);
      this.#adopt(session, unit);
    } catch (error) {
      if (isAccessStateError(error)) await this.#askForAccess(session);
      // What is worth telling is why the unit could not be opened.
      await session.logout().catch(() => undefined);
      throw error;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  /**
   * Nobody knows what the unit is like, and over this path it lets nothing through. Where no other path is there after a
   * first attempt of them all, the array is asked to let this one take commands.
   */
  async #askForAccess(session: Session): Promise<void> {
    this.#standbyAttempts += 1;
    if (this.#standbyAttempts < 2 || this.#company.waysBeside(this.id).length > 0) return;
    const { lun } = this.#options;
    const commander = new LunCommander(
      { session, lun, isOneOfSeveralPaths: true, onUnitAttention: () => Promise.resolve() },
      this.#dependencies,
    );
    try {
      const { portGroup, canSetPortGroups } = await readAccessStateFacts(commander);
      if (portGroup === undefined || !canSetPortGroups) return;
      await setPortGroups(commander, [{ group: portGroup, state: "active-optimized" }]);
    } catch (error) {
      this.#dependencies.logger.warn("the port could not be made to take commands", { reason: errorMessage(error) });
    }
  }

  #openUnit(session: Session, expectedId: string): Promise<IscsiLun> {
    const { admit, expectedSizeBytes } = this.#company;
    return openIscsiLun(
      session,
      {
        lun: this.#options.lun,
        ...{ expectedId, expectedSizeBytes, isOneOfSeveralPaths: true },
        ...(admit === undefined ? {} : { admit: (commander) => admit(commander, this.id) }),
        reference: () => this.#company.reference(this.id),
        onAccessStatesChanged: (commander) => this.#tellAccessStates(commander),
      },
      this.#dependencies,
    );
  }

  #adopt(session: Session, unit: IscsiLun): void {
    this.#session = session;
    this.#unit = unit;
    this.#device = this.#company.guard(unit, this.id);
    // Behind a portal that redirects, the next login may lead to another port.
    session.addGuard({
      lun: this.#options.lun,
      verify: async () => {
        this.#facts = await readAccessStateFacts(unit.commander);
        return { kind: "accepted" };
      },
    });
    session.events.on((event) => this.#onSessionEvent(event));
    unit.onEvent((event) => {
      if (event.kind === "info-changed") this.#events.emit({ kind: "info-changed", info: event.info });
    });
    if (session.state === "ready") this.#tellUp();
  }

  #onSessionEvent(event: SessionEvent): void {
    // A refusal is told by "path-refused"; that the connection is cut for it, and the attempt has failed, says no more.
    const isTold =
      "reason" in event && event.reason instanceof AppError && event.reason.code === "SESSION_PATH_REFUSED";
    if (event.kind === "disconnected" && !isTold) {
      this.#tellDown({ kind: "down", reason: event.reason });
    } else if (event.kind === "reconnected") {
      this.#tellUp();
    } else if (event.kind === "path-refused") {
      this.#tellDown({ kind: "refused", reason: event.reason });
    } else if (event.kind === "reconnect-failed" && !isTold) {
      this.#tellDown({ kind: "down", reason: event.reason });
    } else if (event.kind === "closed" && this.#isUp) {
      this.#tellDown({ kind: "down", reason: event.reason ?? notUp(this.id) });
    }
  }

  #tellUp(): void {
    this.#isUp = true;
    this.#events.emit({ kind: "up" });
    this.#firstOutcome.resolve(undefined);
    this.#fenceWanted?.resolve(true);
  }

  #tellFailed(reason: AppError): void {
    this.#dependencies.logger.warn("a path could not be made", { code: reason.code, reason: reason.message });
    const isRefused = reason.code === "BLOCK_IDENTITY_MISMATCH" || reason.layer === "initiator";
    this.#tellDown({ kind: isRefused ? "refused" : "down", reason });
    // The array may be about to let this path, or be asked to let it, take commands.
    if (isAccessStateError(reason) && this.#standbyAttempts < STANDBY_ATTEMPTS) return;
    this.#firstOutcome.resolve(reason);
  }

  #tellDown(event: Extract<PathPortEvent, { kind: "down" | "refused" }>): void {
    this.#isUp = false;
    this.#events.emit(event);
  }

  async #tellAccessStates(commander: LunCommander): Promise<void> {
    const groups = await readPortGroups(commander);
    if (groups !== undefined) this.#events.emit({ kind: "port-groups", groups });
  }

  #fence(signal: AbortSignal): Promise<boolean> {
    return fencePath(
      {
        session: this.#sessionOptions,
        lun: this.#options.lun,
        portalGroupTag: this.#session?.status().portalGroupTag,
        ways: this.#company.waysBeside(this.id),
        onUnitReset: () => this.#company.afterUnitReset(this.id),
      },
      this.#dependencies,
      signal,
    );
  }

  async #fenceIfWanted(): Promise<void> {
    const wanted = this.#fenceWanted;
    if (wanted === undefined) return;
    const isFenced = await this.#fence(this.#stop.signal);
    this.#fenceWanted = undefined;
    wanted.resolve(isFenced);
  }
}

function notUp(id: string): AppError {
  return new AppError("initiator", "PATH_NOT_UP", `path ${id} is not up`, { retry: "other-path" });
}
