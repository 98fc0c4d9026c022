import { errorMessage } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import {
  isReservationCommandUnknown,
  isTargetsAnswer,
  type LunReservation,
  type RegisterRequest,
  type ReservationOutcome,
  type UnitReservations,
} from "../block/lun-reservation.js";
import type { ReservationKey } from "../scsi/persistent-reserve.js";
import { unsupported } from "./reservation-errors.js";

/** Registers nexuses with one key, over a loss of power where the unit can keep them (APTPL, SPC-5 §5.13.5). */
export class Registrar {
  readonly #key: ReservationKey;
  readonly #logger: Logger;
  /** APTPL is asked for. */
  isPersistent = false;

  constructor(key: ReservationKey, logger: Logger) {
    this.#key = key;
    this.#logger = logger;
  }

  /** `before`: what is registered for the nexus; absent: whatever that is. Rejects as LunReservation.register does. */
  async register(unit: LunReservation, before?: ReservationKey): Promise<ReservationOutcome> {
    const key = this.#key;
    const request = { key, ...(before === undefined ? {} : { before }) };
    if (!this.isPersistent) return registerOrSee(unit, request);
    try {
      return await unit.register({ ...request, isPersistent: true });
    } catch (error) {
      if (!isTargetsAnswer(error) || isReservationCommandUnknown(error)) throw error;
      // LIO says that it can, and cannot where its folder for that is missing; it may have registered all the same.
      this.#logger.warn("the unit does not keep reservations over a loss of power", { reason: errorMessage(error) });
      this.isPersistent = false;
      return registerOrSee(unit, before === key ? request : { key });
    }
  }
}

/** Without its folder LIO fails every registration, after it has made it: what the unit shows then is what counts. */
async function registerOrSee(unit: LunReservation, request: RegisterRequest): Promise<ReservationOutcome> {
  try {
    return await unit.register(request);
  } catch (error) {
    if (!isTargetsAnswer(error) || isReservationCommandUnknown(error)) throw error;
    const { keys } = await readAgain(unit);
    if (!keys.includes(request.key)) throw error;
    return "done";
  }
}

/** What a unit that has told before says now. Throws RESERVATION_UNSUPPORTED when it tells no more. */
export async function readAgain(unit: LunReservation): Promise<UnitReservations> {
  const state = await unit.readState();
  if (state !== undefined) return state;
  throw unsupported("it has ceased to know PERSISTENT RESERVE IN");
}
