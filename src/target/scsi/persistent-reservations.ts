import type { Logger } from "../../base/logger.js";
import { ReservationType } from "../../scsi/opcodes.js";
import type { ReservationClass } from "./command.js";
import { CheckCondition, CommandStatus, Condition, Status } from "./check-condition.js";
import { nexusIdOf, type Nexus } from "./nexus.js";

const VALID_TYPES: ReadonlySet<number> = new Set(Object.values(ReservationType));

/** Registrations one unit keeps: a cluster of some hundred nodes on several paths. */
const MAX_REGISTRATIONS = 1024;

/** The key nobody has: it means "no registration". */
export const NO_KEY = "0000000000000000";

/** What survives a loss of power (APTPL): plain data, kept as it is. Keys are 16 hexadecimal digits. */
export interface ReservationState {
  readonly generation: number;
  readonly registrations: readonly {
    readonly portName: string;
    readonly initiatorName: string;
    readonly isid: string;
    readonly relativePortId: number;
    readonly key: string;
  }[];
  readonly reservation?: { readonly nexusId: string; readonly type: number };
}

/** Where reservations with APTPL live. `save` resolves when the state is on stable storage. */
export interface ReservationStore {
  load(unitId: string): ReservationState | undefined;
  save(unitId: string, state: ReservationState | undefined): Promise<void>;
}

export interface Registration {
  readonly nexus: Nexus;
  readonly key: string;
}

/** What a change means for others: which nexuses are owed a unit attention, whose tasks end. */
export interface ReservationEffect {
  readonly released: readonly string[];
  readonly reservationsPreempted: readonly string[];
  readonly registrationsPreempted: readonly string[];
}

const NO_EFFECT: ReservationEffect = { released: [], reservationsPreempted: [], registrationsPreempted: [] };

export interface ReservationRequest {
  readonly nexus: Nexus;
  readonly key: string;
  readonly serviceActionKey: string;
  readonly type: number;
}

/** The persistent reservations of one logical unit, SPC-5 §5.13, held by I_T nexuses: state and rules, no parameter data. */
export class PersistentReservations {
  readonly #unitId: string;
  readonly #store: ReservationStore | undefined;
  readonly #registrations = new Map<string, Registration>();
  #generation = 0;
  #holder: { readonly nexusId: string; readonly type: number } | undefined;
  #survivesPowerLoss = false;

  constructor(
    options: { readonly unitId: string },
    dependencies: { readonly logger: Logger; readonly store?: ReservationStore },
  ) {
    this.#unitId = options.unitId;
    this.#store = dependencies.store;
    const saved = this.#store?.load(options.unitId);
    if (saved !== undefined) this.#restore(saved);
  }

  get generation(): number {
    return this.#generation;
  }

  /** May APTPL be asked for? */
  get canSurvivePowerLoss(): boolean {
    return this.#store !== undefined;
  }

  get survivesPowerLoss(): boolean {
    return this.#survivesPowerLoss;
  }

  get registrations(): readonly Registration[] {
    return [...this.#registrations.values()];
  }

  /** Is anything registered? When not, no command can conflict. */
  get isEmpty(): boolean {
    return this.#registrations.size === 0;
  }

  /** The reservation, with the holder's key (zero for the all-registrants types). */
  get reservation(): { readonly type: number; readonly key: string; readonly nexusId: string } | undefined {
    if (this.#holder === undefined) return undefined;
    const key = isAllRegistrants(this.#holder.type)
      ? NO_KEY
      : (this.#registrations.get(this.#holder.nexusId)?.key ?? NO_KEY);
    return { type: this.#holder.type, key, nexusId: this.#holder.nexusId };
  }

  isHolder(nexusId: string): boolean {
    if (this.#holder === undefined) return false;
    if (isAllRegistrants(this.#holder.type)) return this.#registrations.has(nexusId);
    return this.#holder.nexusId === nexusId;
  }

  /** Does the reservation let `nexusId` run a command of this class? SPC-5 §5.13.1, Table 63. */
  allows(nexusId: string, reservationClass: ReservationClass): boolean {
    if (this.#holder === undefined || reservationClass === "always" || reservationClass === "status") return true;
    if (reservationClass === "own" || this.isHolder(nexusId)) return true;
    const { type } = this.#holder;
    const isRegistrantsType = type !== ReservationType.writeExclusive && type !== ReservationType.exclusiveAccess;
    if (isRegistrantsType && this.#registrations.has(nexusId)) return true;
    return reservationClass === "read" && isWriteExclusive(type);
  }

  /** REGISTER (`mustMatch`) and REGISTER AND IGNORE EXISTING KEY, SPC-5 §5.13.7. */
  register(request: ReservationRequest, options: { readonly mustMatch: boolean }): ReservationEffect {
    const nexusId = request.nexus.id;
    const existing = this.#registrations.get(nexusId);
    if (options.mustMatch && request.key !== (existing?.key ?? NO_KEY)) conflict();
    if (request.serviceActionKey === NO_KEY) {
      if (existing === undefined) return NO_EFFECT;
      this.#generation = (this.#generation + 1) >>> 0;
      return this.#unregister(nexusId);
    }
    if (existing === undefined && this.#registrations.size >= MAX_REGISTRATIONS) {
      throw new CheckCondition(Condition.insufficientRegistrationResources);
    }
    this.#registrations.set(nexusId, { nexus: request.nexus, key: request.serviceActionKey });
    this.#generation = (this.#generation + 1) >>> 0;
    return NO_EFFECT;
  }

  /** RESERVE, SPC-5 §5.13.9. */
  reserve(request: ReservationRequest): void {
    this.#requireKey(request);
    requireType(request.type);
    if (this.#holder === undefined) {
      this.#holder = { nexusId: request.nexus.id, type: request.type };
      return;
    }
    if (!this.isHolder(request.nexus.id) || this.#holder.type !== request.type) conflict();
  }

  /** RELEASE, SPC-5 §5.13.11.2. */
  release(request: ReservationRequest): ReservationEffect {
    this.#requireKey(request);
    if (!this.isHolder(request.nexus.id) || this.#holder === undefined) return NO_EFFECT;
    if (this.#holder.type !== request.type) throw new CheckCondition(Condition.invalidReleaseOfReservation);
    return this.#releaseReservation(request.nexus.id);
  }

  /** CLEAR, SPC-5 §5.13.11.6. */
  clear(request: ReservationRequest): ReservationEffect {
    this.#requireKey(request);
    const others = [...this.#registrations.keys()].filter((nexusId) => nexusId !== request.nexus.id);
    this.#registrations.clear();
    this.#holder = undefined;
    this.#generation = (this.#generation + 1) >>> 0;
    return { ...NO_EFFECT, reservationsPreempted: others };
  }

  /**
   * PREEMPT, SPC-5 §5.13.11.4. The nexuses in `registrationsPreempted` lost their registration; for PREEMPT AND
   * ABORT the caller ends their tasks.
   */
  preempt(request: ReservationRequest): ReservationEffect {
    this.#requireKey(request);
    const victimKey = request.serviceActionKey;
    const holder = this.#holder;
    const isAll = holder !== undefined && isAllRegistrants(holder.type);
    if (victimKey === NO_KEY && !isAll) {
      throw new CheckCondition(Condition.invalidFieldInParameterList);
    }
    const takesReservation =
      holder !== undefined &&
      (isAll ? victimKey === NO_KEY : this.#registrations.get(holder.nexusId)?.key === victimKey);
    if (takesReservation) requireType(request.type);
    const own = request.nexus.id;
    const removed = [...this.#registrations.values()]
      .filter(({ key, nexus }) => nexus.id !== own && (key === victimKey || victimKey === NO_KEY))
      .map(({ nexus }) => nexus.id);
    if (removed.length === 0 && !takesReservation) conflict();
    for (const nexusId of removed) this.#registrations.delete(nexusId);
    this.#generation = (this.#generation + 1) >>> 0;
    if (!takesReservation) return { ...NO_EFFECT, registrationsPreempted: removed };
    const hasNewType = holder.type !== request.type;
    this.#holder = { nexusId: own, type: request.type };
    const remaining = [...this.#registrations.keys()].filter((nexusId) => nexusId !== own);
    return { released: hasNewType ? remaining : [], reservationsPreempted: [], registrationsPreempted: removed };
  }

  /** REGISTER AND MOVE to a nexus that need not be registered yet, SPC-5 §5.13.8. */
  move(request: ReservationRequest, target: Nexus, options: { readonly unregister: boolean }): void {
    this.#requireKey(request);
    const holder = this.#holder;
    if (holder?.nexusId !== request.nexus.id || isAllRegistrants(holder.type)) conflict();
    if (request.serviceActionKey === NO_KEY || target.id === request.nexus.id) {
      throw new CheckCondition(Condition.invalidFieldInParameterList);
    }
    this.#registrations.set(target.id, { nexus: target, key: request.serviceActionKey });
    this.#holder = { nexusId: target.id, type: holder.type };
    if (options.unregister) this.#registrations.delete(request.nexus.id);
    this.#generation = (this.#generation + 1) >>> 0;
  }

  /** Saves (or drops) the state that survives a loss of power, as the last registration asked. */
  async persist(survivesPowerLoss: boolean): Promise<void> {
    const mustDrop = this.#survivesPowerLoss && !survivesPowerLoss;
    this.#survivesPowerLoss = survivesPowerLoss;
    if (this.#store === undefined || (!survivesPowerLoss && !mustDrop)) return;
    await this.#store.save(this.#unitId, survivesPowerLoss ? this.#state() : undefined);
  }

  #requireKey(request: ReservationRequest): void {
    if (this.#registrations.get(request.nexus.id)?.key !== request.key) conflict();
  }

  #unregister(nexusId: string): ReservationEffect {
    const holder = this.#holder;
    const wasHolder = this.isHolder(nexusId);
    this.#registrations.delete(nexusId);
    if (holder === undefined || !wasHolder) return NO_EFFECT;
    if (isAllRegistrants(holder.type) && this.#registrations.size > 0) return NO_EFFECT;
    return this.#releaseReservation(nexusId);
  }

  /** Ends the reservation; registrants of the registrants-only and all-registrants types are told. */
  #releaseReservation(byNexus: string): ReservationEffect {
    const type = this.#holder?.type ?? 0;
    this.#holder = undefined;
    if (type === ReservationType.writeExclusive || type === ReservationType.exclusiveAccess) return NO_EFFECT;
    return { ...NO_EFFECT, released: [...this.#registrations.keys()].filter((nexusId) => nexusId !== byNexus) };
  }

  #state(): ReservationState {
    const registrations = [...this.#registrations.values()].map(({ nexus, key }) => ({
      portName: nexus.portName,
      initiatorName: nexus.initiatorName,
      isid: nexus.isid.toString("hex"),
      relativePortId: nexus.relativePortId,
      key,
    }));
    return {
      generation: this.#generation,
      registrations,
      ...(this.#holder === undefined ? {} : { reservation: this.#holder }),
    };
  }

  #restore(state: ReservationState): void {
    this.#survivesPowerLoss = true;
    for (const { key, isid, ...nexus } of state.registrations.slice(0, MAX_REGISTRATIONS)) {
      const id = nexusIdOf(nexus.portName, nexus.relativePortId);
      this.#registrations.set(id, { key, nexus: { ...nexus, id, isid: Buffer.from(isid, "hex") } });
    }
    if (state.reservation !== undefined && VALID_TYPES.has(state.reservation.type)) this.#holder = state.reservation;
  }
}

export function isAllRegistrants(type: number): boolean {
  return (
    type === ReservationType.writeExclusiveAllRegistrants || type === ReservationType.exclusiveAccessAllRegistrants
  );
}

function isWriteExclusive(type: number): boolean {
  return (
    type === ReservationType.writeExclusive ||
    type === ReservationType.writeExclusiveRegistrantsOnly ||
    type === ReservationType.writeExclusiveAllRegistrants
  );
}

function requireType(type: number): void {
  if (!VALID_TYPES.has(type)) throw new CheckCondition(Condition.invalidFieldInCdb);
}

function conflict(): never {
  throw new CommandStatus(Status.reservationConflict);
}
