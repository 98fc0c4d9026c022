import { MAX_RESERVATION_LIST_BYTES, MAX_RESERVATION_ROUNDS, RESERVATION_LIST_BYTES } from "../base/limits.js";
import { persistentReserveIn, persistentReserveOut } from "../scsi/cdb.js";
import { ScsiError } from "../scsi/errors.js";
import { PersistentReserveInAction, PersistentReserveOutAction, ReservationType } from "../scsi/opcodes.js";
import {
  decodeReservation,
  decodeReservationCapabilities,
  decodeReservationFullStatus,
  decodeReservationKeys,
  encodePersistentReserveOutList,
  NO_RESERVATION_KEY,
  type ReservationCapabilities,
  type ReservationFullStatus,
  type ReservationKey,
  type ReservationKeys,
  type ReservationState,
} from "../scsi/persistent-reserve.js";
import { BlockError } from "./errors.js";
import type { LunCommand } from "./lun-commands.js";

/** Who is registered with a unit and who holds it, at one moment. */
export interface UnitReservations extends ReservationKeys {
  /** Its key is zero for the all-registrants types (SPC-5 §5.13.10): every registrant holds the unit then. */
  readonly holder?: ReservationState["holder"];
}

/** What reservations need of the commands to a unit: a LunCommander. */
export interface ReservationCommander {
  run(command: LunCommand): Promise<number>;
  /** LOGICAL UNIT RESET: ends the tasks of every nexus (SAM-5 §7.7). Rejects with AppError. */
  resetUnit?(): Promise<void>;
}

/** What became of a change: `conflict` when the unit refused it for what is registered and reserved there. */
export type ReservationOutcome = "done" | "conflict";

export interface RegisterRequest {
  /** The one registered for this nexus now; NO_RESERVATION_KEY when none is; absent: whatever it is. */
  readonly before?: ReservationKey;
  /** NO_RESERVATION_KEY ends the registration. */
  readonly key: ReservationKey;
  /** APTPL: registrations and reservation of the unit survive a loss of power. Default no. */
  readonly isPersistent?: boolean;
}

interface OutCommand {
  readonly action: PersistentReserveOutAction;
  readonly key: ReservationKey;
  readonly serviceActionKey?: ReservationKey;
  readonly type?: ReservationType;
  readonly isPersistent?: boolean;
}

/**
 * Persistent reservations of one unit over one nexus (SPC-5 §5.13). The type is "write exclusive, registrants only"
 * throughout. All commands are questions of a guard (`isProbe`): they pass while tasks are held back, and fail with
 * BlockError when they cannot be answered now. A change whose connection was lost is not sent again: whoever asked for it
 * has to look what became of it.
 */
export class LunReservation {
  readonly #commander: ReservationCommander;

  constructor(commander: ReservationCommander) {
    this.#commander = commander;
  }

  /** Undefined where the unit does not tell. */
  readCapabilities(): Promise<ReservationCapabilities | undefined> {
    return this.#read(PersistentReserveInAction.reportCapabilities, decodeReservationCapabilities);
  }

  /** Undefined where the unit has no persistent reservations. */
  readKeys(): Promise<ReservationKeys | undefined> {
    return this.#read(PersistentReserveInAction.readKeys, decodeReservationKeys);
  }

  /** Undefined where the unit has no persistent reservations. */
  readHolder(): Promise<ReservationState | undefined> {
    return this.#read(PersistentReserveInAction.readReservation, decodeReservation);
  }

  /** Undefined where the unit does not tell who has registered which key. */
  readFullStatus(): Promise<ReservationFullStatus | undefined> {
    return this.#read(PersistentReserveInAction.readFullStatus, decodeReservationFullStatus);
  }

  /** Keys and holder of the same moment. Undefined where the unit has no persistent reservations. */
  async readState(): Promise<UnitReservations | undefined> {
    for (let round = 1; ; round += 1) {
      const keys = await this.readKeys();
      const state = keys === undefined ? undefined : await this.readHolder();
      if (keys === undefined || state === undefined) return undefined;
      // Every change of registrations changes the generation, and only a registrant can hold the unit.
      if (keys.generation === state.generation || round === MAX_RESERVATION_ROUNDS) {
        return { ...keys, ...(state.holder === undefined ? {} : { holder: state.holder }) };
      }
    }
  }

  /** REGISTER, or REGISTER AND IGNORE EXISTING KEY. */
  register({ before, key, isPersistent = false }: RegisterRequest): Promise<ReservationOutcome> {
    const { register, registerAndIgnoreExistingKey } = PersistentReserveOutAction;
    return this.#change({
      action: before === undefined ? registerAndIgnoreExistingKey : register,
      key: before ?? NO_RESERVATION_KEY,
      serviceActionKey: key,
      isPersistent,
    });
  }

  /** Ends the registration of this nexus, and the reservation if it holds that. */
  unregister(key: ReservationKey): Promise<ReservationOutcome> {
    return this.register({ before: key, key: NO_RESERVATION_KEY });
  }

  reserve(key: ReservationKey): Promise<ReservationOutcome> {
    return this.#change({
      action: PersistentReserveOutAction.reserve,
      key,
      type: ReservationType.writeExclusiveRegistrantsOnly,
    });
  }

  /**
   * Ends all registrations with `victimKey`, but that of this nexus, and their tasks; takes the reservation if one of them
   * holds it. Conflicts when nothing is registered with that key. When it is done, none of those tasks changes the unit
   * any more (SPC-5 §5.13.11.5).
   */
  preemptAndAbort(key: ReservationKey, victimKey: ReservationKey): Promise<ReservationOutcome> {
    return this.#preempt(PersistentReserveOutAction.preemptAndAbort, key, victimKey);
  }

  /** The same, but the tasks go on: for a unit that does not know the other. */
  preempt(key: ReservationKey, victimKey: ReservationKey): Promise<ReservationOutcome> {
    return this.#preempt(PersistentReserveOutAction.preempt, key, victimKey);
  }

  /** Ends the tasks of every nexus. Resolves with false when there is no way to do that. Rejects with AppError. */
  async endTasks(): Promise<boolean> {
    if (this.#commander.resetUnit === undefined) return false;
    await this.#commander.resetUnit();
    return true;
  }

  /** Ends the reservation and every registration, whoever has made it. */
  clear(key: ReservationKey): Promise<ReservationOutcome> {
    return this.#change({ action: PersistentReserveOutAction.clear, key });
  }

  /** Gives the reservation back; nothing happens when this nexus does not hold it. */
  release(key: ReservationKey): Promise<ReservationOutcome> {
    return this.#change({
      action: PersistentReserveOutAction.release,
      key,
      type: ReservationType.writeExclusiveRegistrantsOnly,
    });
  }

  #preempt(
    action: PersistentReserveOutAction,
    key: ReservationKey,
    serviceActionKey: ReservationKey,
  ): Promise<ReservationOutcome> {
    return this.#change({ action, key, serviceActionKey, type: ReservationType.writeExclusiveRegistrantsOnly });
  }

  async #change({
    action,
    key,
    serviceActionKey,
    type,
    isPersistent = false,
  }: OutCommand): Promise<ReservationOutcome> {
    const dataOut = encodePersistentReserveOutList({
      key,
      serviceActionKey: serviceActionKey ?? NO_RESERVATION_KEY,
      isPersistentThroughPowerLoss: isPersistent,
      isAllTargetPorts: false,
    });
    const cdb = persistentReserveOut({
      action,
      parameterListLength: dataOut.length,
      ...(type === undefined ? {} : { type }),
    });
    try {
      await this.#commander.run({ cdb, dataOut, isProbe: true, isRetryable: false });
      return "done";
    } catch (error) {
      if (isReservationConflict(error)) return "conflict";
      throw error;
    }
  }

  /** Asks again with more room where the list did not fit. */
  async #read<T>(action: PersistentReserveInAction, decode: (bytes: Buffer) => T): Promise<T | undefined> {
    let allocationLength = RESERVATION_LIST_BYTES;
    for (;;) {
      try {
        const cdb = persistentReserveIn(action, allocationLength);
        const dataIn = Buffer.alloc(allocationLength);
        const bytes = await this.#commander.run({ cdb, dataIn, allowUnderflow: true, isProbe: true });
        return decode(dataIn.subarray(0, bytes));
      } catch (error) {
        if (isReservationCommandUnknown(error)) return undefined;
        const neededBytes = truncatedOf(error);
        if (neededBytes === undefined) throw error;
        // An answer that does not fit its own length, however much room there is, is no answer.
        if (neededBytes <= allocationLength || allocationLength === MAX_RESERVATION_LIST_BYTES) return undefined;
        allocationLength = Math.min(neededBytes, MAX_RESERVATION_LIST_BYTES);
      }
    }
  }
}

/** Did the unit itself answer, with a status that is not good? */
export function isTargetsAnswer(error: unknown): error is BlockError {
  return error instanceof BlockError && error.details["verdict"] !== undefined;
}

/** Is it the status RESERVATION CONFLICT, rather than what we have concluded from one? */
export function isReservationConflict(error: unknown): boolean {
  return isTargetsAnswer(error) && error.code === "BLOCK_RESERVATION_CONFLICT";
}

/** INVALID COMMAND OPERATION CODE and INVALID FIELD IN CDB: the unit does not know the command or its service action. */
const unknownVerdicts: ReadonlySet<unknown> = new Set(["5_20_00", "5_24_00"].map((sense) => `SCSI_${sense}`));

/** Does the error say that the unit does not know a reservation command (rather than that it will not do it now)? */
export function isReservationCommandUnknown(error: unknown): boolean {
  return isTargetsAnswer(error) && unknownVerdicts.has(error.details["verdict"]);
}

function truncatedOf(error: unknown): number | undefined {
  if (!(error instanceof ScsiError) || error.code !== "SCSI_DATA_TRUNCATED") return undefined;
  const { requiredBytes } = error.details;
  return typeof requiredBytes === "number" ? requiredBytes : undefined;
}
