import { sleep } from "../base/clock.js";
import { CancelledError, errorMessage } from "../base/errors.js";
import { MAX_RESERVATION_ROUNDS, RESERVATION_LEAVE_TIMEOUT_MS } from "../base/limits.js";
import { Mutex } from "../base/mutex.js";
import { isSameCluster } from "../base/reservation-key.js";
import {
  isReservationCommandUnknown,
  isReservationConflict,
  type LunReservation,
  type UnitReservations,
} from "../block/lun-reservation.js";
import { ReservationType } from "../scsi/opcodes.js";
import { NO_RESERVATION_KEY, type ReservationKey } from "../scsi/persistent-reserve.js";
import type { NexusAct } from "./path-nexus.js";
import {
  heldByLegacy,
  heldByStranger,
  keyShared,
  lost,
  ReservationError,
  unsettled,
  unsupported,
} from "./reservation-errors.js";
import {
  hasTargetForgotten,
  isHeldBy,
  isOfInitiator,
  isUndisturbed,
  requireClaimable,
  requireRegistrantsWrite,
  type ReservationHolder,
  victimsOf,
} from "./reservation-rules.js";
import { readAgain, Registrar } from "./reservation-registrar.js";
import { bestEffort, giveBackReservation, type ReservationWay } from "./reservation-leave.js";
import type {
  ReservationOptions,
  ReservationDependencies,
  ReservationStanding,
  VolumeReservationStatus,
} from "./reservation-types.js";

export type { FencingMode, ReservationOptions } from "./reservation-types.js";

/** A path, and the nexuses of the other paths of its volume: see AdmissionCompany.overOthers. */
export interface OtherNexuses {
  readonly pathId: string;
  readonly act: (act: NexusAct) => Promise<boolean>;
}

/** One attempt to admit a path. */
interface Trial {
  readonly unit: LunReservation;
  readonly pathId: string;
  /** This attempt has registered the nexus: what is to be undone when it fails. */
  hasRegistered: boolean;
}

/** How the unit stands once a path is admitted. */
interface Settled {
  readonly standing: "held" | "registered";
  readonly state: UnitReservations;
}

/**
 * Keeps a volume for this node by persistent reservations "write exclusive, registrants only" (SPC-5 §5.13), over all of
 * its paths. A unit that nobody of ours holds is claimed once; what this node had and lost is never taken back, because
 * its late writes would land on those of the node that has it.
 */
export class VolumeReservation {
  readonly #options: ReservationOptions;
  readonly #dependencies: ReservationDependencies;
  readonly #registrar: Registrar;
  /** Registrations of one path are part of what another path finds. */
  readonly #turn = new Mutex();
  /** A path was admitted, so others may rely on the volume being ours: nothing is claimed any more. */
  #hasAdmitted: boolean;
  #standing: ReservationStanding;
  #holderKey: ReservationKey = "";
  #loss: ReservationError | undefined;
  #isOver = false;
  /** See abandon. */
  #isAbandoned = false;
  /** Nodes were preempted whose tasks may still be carried out. */
  #owesAbort = false;
  /** PRGENERATION when a path was admitted last; undefined before. */
  #generation: number | undefined;

  constructor(options: ReservationOptions, dependencies: ReservationDependencies) {
    this.#options = options;
    this.#dependencies = dependencies;
    this.#registrar = new Registrar(options.key, dependencies.logger);
    this.#hasAdmitted = options.isTakeOver;
    this.#standing = options.mode === "off" ? "off" : "none";
  }

  status(): VolumeReservationStatus {
    const { mode, key } = this.#options;
    const isUnused = this.#standing === "off" || this.#standing === "unsupported";
    return { mode, state: this.#standing, key: isUnused ? "" : key, holderKey: this.#holderKey };
  }

  /**
   * Registers a path, and takes the reservation where nobody of ours has it. To be called for every path after its login
   * and once its unit is known to be the right one, before it carries requests; again after every reconnection, after the
   * unit attentions 2A/03, 2A/04 and 2A/05, and after a RESERVATION CONFLICT. Resolves when the path may be used. Rejects
   * with ReservationError when it must not be, with CancelledError after `leave`, and with BlockError or ScsiError when
   * it could not be told: the question has to be asked again.
   */
  async admit(unit: LunReservation, pathId: string): Promise<void> {
    if (this.#options.mode === "off") return;
    await this.#turn.run(async () => {
      if (this.#isOver) throw new CancelledError("initiator", "CONNECT_CANCELLED", "the volume is being detached");
      if (this.#loss !== undefined) throw this.#loss;
      if (this.#isAbandoned) return;
      const trial: Trial = { unit, pathId, hasRegistered: false };
      try {
        await this.#admit(trial);
      } catch (error) {
        const isRefusal = error instanceof ReservationError;
        // What a path in use has registered stays for its next attempt: another one may rely on it.
        if (isRefusal || !this.#hasAdmitted) await this.#undo(trial);
        if (isRefusal && error.code === "RESERVATION_LOST") this.#lose(error);
        throw error;
      }
    });
  }

  /**
   * The target keeps a registered path of ours from writing, and no other is used any more: the others' registrations end,
   * and the reservation becomes this path's. Rejects like `admit`.
   */
  async moveTo(unit: LunReservation, { pathId, act }: OtherNexuses): Promise<void> {
    const { key } = this.#options;
    await this.#turn.run(async () => {
      if (this.#isOver || this.#loss !== undefined) return;
      this.#dependencies.logger.info("the reservation moves over from a path that is lost", { path: pathId });
      await act(async (other) => {
        await other.unregister(key);
        return false;
      });
      const trial: Trial = { unit, pathId, hasRegistered: false };
      this.#adopt(trial, await this.#settle(trial, await readAgain(unit)));
    });
  }

  /**
   * The target keeps a registered path of ours from writing: with `auto`, and a volume that is not shared, the reservation
   * is ended, and the volume used without. Only the holder may do that at such a target. Resolves with false where that
   * must not be, or nobody could. Rejects when it could not be told.
   */
  async abandon(unit: LunReservation, { pathId, act }: OtherNexuses): Promise<boolean> {
    const { mode, isShared, key } = this.#options;
    return this.#turn.run(async () => {
      if (this.#standing === "unsupported") return true;
      if (mode !== "auto" || isShared || this.#loss !== undefined) return false;
      const clear: NexusAct = async (nexus) => (await nexus.clear(key)) === "done";
      if (!(await clear(unit)) && !(await act(clear))) return false;
      this.#dependencies.logger.warn("the unit keeps registered paths from writing, its reservation is given up", {
        path: pathId,
      });
      this.#isAbandoned = true;
      this.#standing = "unsupported";
      this.#holderKey = "";
      return true;
    });
  }

  /**
   * The volume is given up by this node: ends its registrations and the reservation over ways that are up, also those of
   * paths that are not, together with their tasks. Does not fail, and ends after RESERVATION_LEAVE_TIMEOUT_MS. Nothing is
   * admitted afterwards.
   */
  async leave(ways: readonly ReservationWay[]): Promise<void> {
    this.#isOver = true;
    if (this.#options.mode === "off") return;
    const { clock, logger } = this.#dependencies;
    const over = new AbortController();
    const isLate = sleep(clock, RESERVATION_LEAVE_TIMEOUT_MS, over.signal).then(
      () => logger.warn("the reservation could not be given back in time"),
      () => undefined,
    );
    const given = this.#turn.run(() => this.#giveBack(ways)).finally(() => over.abort(new Error("given back")));
    await Promise.race([given, isLate]);
  }

  async #admit(trial: Trial): Promise<void> {
    const { unit } = trial;
    try {
      const before = await unit.readState();
      if (before === undefined) {
        this.#doWithout(trial, "it does not know PERSISTENT RESERVE IN");
        return;
      }
      if (this.#generation === undefined && !(await this.#learnCapabilities(trial))) return;
      await this.#requireOwnKey(unit, before);
      const settled = this.#hasAdmitted ? await this.#rejoin(trial) : await this.#claim(trial, before);
      await this.#requireOwnKey(unit, settled.state);
      this.#adopt(trial, settled);
    } catch (error) {
      if (isReservationCommandUnknown(error)) {
        await this.#undo(trial);
        this.#doWithout(trial, errorMessage(error));
        return;
      }
      // What reads, or registers with no key, conflicts only with reservations of another kind (SPC-2 §5.5.1).
      if (isReservationConflict(error)) throw heldByLegacy();
      throw error;
    }
  }

  /** The unit has no reservations that help. Throws where they are demanded, or were in use. */
  #doWithout({ pathId }: Trial, reason: string): void {
    const wasReserved = this.#generation !== undefined;
    if (this.#options.mode === "required" || wasReserved) throw unsupported(reason);
    if (this.#standing !== "unsupported") {
      this.#dependencies.logger.warn("the unit has no persistent reservations, other nodes are not kept from writing", {
        path: pathId,
        reason,
      });
    }
    this.#standing = "unsupported";
    this.#holderKey = "";
    this.#hasAdmitted = true;
  }

  /** Resolves with false when the unit is used without reservations. */
  async #learnCapabilities(trial: Trial): Promise<boolean> {
    const capabilities = await trial.unit.readCapabilities();
    const types = capabilities?.types ?? [];
    if (types.length > 0 && !types.includes(ReservationType.writeExclusiveRegistrantsOnly)) {
      this.#doWithout(trial, `it has the reservation types ${types.join(", ")}, but not 5`);
      return false;
    }
    this.#registrar.isPersistent = capabilities?.canPersistThroughPowerLoss ?? false;
    return true;
  }

  /** Two nodes with one key could not be told apart. Looked at where the unit says who has registered what. */
  async #requireOwnKey(unit: LunReservation, { keys }: UnitReservations): Promise<void> {
    const { key, initiatorName } = this.#options;
    if (!keys.includes(key)) return;
    const status = await unit.readFullStatus();
    const other = status?.registrations.find(
      (registration) => registration.key === key && !isOfInitiator(registration.initiatorPort, initiatorName),
    );
    if (other !== undefined) throw keyShared(key, other.initiatorPort);
  }

  /** The first admission on this node: what nodes of this cluster have left is taken, unless they share the volume. */
  async #claim(trial: Trial, before: UnitReservations): Promise<Settled> {
    const { key } = this.#options;
    const { unit } = trial;
    requireClaimable(this.#options, before);
    await this.#register(trial);
    for (let round = 0; round < MAX_RESERVATION_ROUNDS; round += 1) {
      const state = await readAgain(unit);
      // Another node that claims it as well came after us.
      if (!state.keys.includes(key)) throw lost(key, state);
      requireClaimable(this.#options, state);
      const victims = victimsOf(this.#options, state);
      if (victims.length > 0) {
        this.#dependencies.logger.warn("the volume is taken from another node", { path: trial.pathId, keys: victims });
        // A conflict means that a victim is gone already, or that we are: the next look tells.
        for (const victim of victims) await this.#preempt(unit, victim);
      } else if (state.holder === undefined) {
        await unit.reserve(key);
      } else {
        await this.#endVictimsTasks(unit);
        return { standing: this.#standingUnder(state.holder), state };
      }
    }
    throw unsettled();
  }

  async #preempt(unit: LunReservation, victim: ReservationKey): Promise<void> {
    const { key } = this.#options;
    try {
      await unit.preemptAndAbort(key, victim);
    } catch (error) {
      if (!isReservationCommandUnknown(error)) throw error;
      // tgt knows PREEMPT alone, which leaves writes on their way that it has let in before.
      this.#owesAbort = true;
      await unit.preempt(key, victim);
    }
  }

  async #endVictimsTasks(unit: LunReservation): Promise<void> {
    if (!this.#owesAbort) return;
    if (!(await unit.endTasks())) {
      this.#dependencies.logger.warn("writes of the preempted node that are under way cannot be ended");
    }
    this.#owesAbort = false;
  }

  /** A further path, a reconnected one, or one of the process after ours: only what is still ours is gone on with. */
  async #rejoin(trial: Trial): Promise<Settled> {
    const { key } = this.#options;
    const { unit } = trial;
    for (let round = 0; round < MAX_RESERVATION_ROUNDS; round += 1) {
      const isRegistered = (await this.#registrar.register(unit, key)) === "done";
      const found = await readAgain(unit);
      if (isRegistered && found.keys.includes(key)) return this.#settle(trial, found);
      const isForgotten = !found.keys.includes(key);
      if (isForgotten && !hasTargetForgotten(this.#options, found, this.#generation)) throw lost(key, found);
      await this.#register(trial);
      const after = await readAgain(unit);
      if (isForgotten || isUndisturbed(this.#options, found, after)) return this.#settle(trial, after);
      // We may have been preempted between the two looks, and have come back as if that had not been.
      await this.#undo(trial);
    }
    throw unsettled();
  }

  /** This nexus is registered: reserves where nobody does, and says who does. */
  async #settle({ unit }: Trial, found: UnitReservations): Promise<Settled> {
    const { key, isShared } = this.#options;
    let state = found;
    for (let round = 0; round < MAX_RESERVATION_ROUNDS; round += 1) {
      const { holder } = state;
      if (!state.keys.includes(key)) throw lost(key, state);
      if (holder !== undefined) {
        const isOurs = isHeldBy(this.#options, holder);
        if (!isOurs && !isShared) throw lost(key, state);
        if (!isOurs && !isSameCluster(holder.key, key)) throw heldByStranger(holder.key, state);
        requireRegistrantsWrite(holder);
        return { standing: this.#standingUnder(holder), state };
      }
      await unit.reserve(key);
      state = await readAgain(unit);
    }
    throw unsettled();
  }

  #standingUnder(holder: ReservationHolder): Settled["standing"] {
    return isHeldBy(this.#options, holder) ? "held" : "registered";
  }

  /** Registers a nexus that has no registration, or one with a key that is not valid any more. */
  async #register(trial: Trial): Promise<void> {
    // Also when no answer comes: the target may have done it.
    trial.hasRegistered = true;
    if ((await this.#registrar.register(trial.unit, NO_RESERVATION_KEY)) === "done") return;
    if ((await this.#registrar.register(trial.unit)) === "conflict") throw heldByLegacy();
  }

  #adopt({ pathId }: Trial, { standing, state }: Settled): void {
    const holderKey = state.holder?.key ?? "";
    if (this.#standing !== standing || this.#holderKey !== holderKey) {
      this.#dependencies.logger.info("the volume is reserved", { path: pathId, state: standing, holderKey });
    }
    this.#hasAdmitted = true;
    this.#generation = state.generation;
    this.#standing = standing;
    this.#holderKey = holderKey;
  }

  #lose(error: ReservationError): void {
    const { holderKey } = error.details;
    this.#loss = error;
    this.#standing = "lost";
    this.#holderKey = typeof holderKey === "string" ? holderKey : "";
    this.#dependencies.logger.error("the volume was taken by another node, nothing is written any more", {
      holderKey: this.#holderKey,
      reason: error.message,
    });
  }

  async #undo(trial: Trial): Promise<void> {
    if (!trial.hasRegistered) return;
    trial.hasRegistered = false;
    const { unit, pathId } = trial;
    await bestEffort(this.#dependencies.logger, pathId, () => unit.unregister(this.#options.key));
  }

  async #giveBack(ways: readonly ReservationWay[]): Promise<void> {
    const isLost = this.#standing === "lost";
    if (!isLost && this.#standing !== "held" && this.#standing !== "registered") return;
    if (ways.length === 0) return;
    await giveBackReservation(ways, { ...this.#options, isLost }, this.#dependencies.logger);
    if (isLost) return;
    this.#standing = "none";
    this.#holderKey = "";
  }
}
