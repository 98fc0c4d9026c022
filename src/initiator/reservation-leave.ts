import { AppError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { LunReservation } from "../block/lun-reservation.js";
import type { ReservationKey } from "../scsi/persistent-reserve.js";
import { isOfInitiator } from "./reservation-rules.js";

/** A path over which commands reach the unit now. */
export interface ReservationWay {
  readonly pathId: string;
  readonly reservation: LunReservation;
}

export interface GiveBackOptions {
  readonly key: ReservationKey;
  readonly initiatorName: string;
  /** Another node has the unit: nothing but what may be left of our registrations is ended. */
  readonly isLost: boolean;
}

/** Ends the registrations of a node and its reservation, each step if it can be done. Does not fail. */
export async function giveBackReservation(
  ways: readonly ReservationWay[],
  options: GiveBackOptions,
  logger: Logger,
): Promise<void> {
  const { key, isLost } = options;
  const [main, ...others] = ways;
  if (main === undefined) return;
  for (const { reservation, pathId } of others) {
    await bestEffort(logger, pathId, () => reservation.unregister(key));
  }
  if (!isLost) {
    await bestEffort(logger, main.pathId, () => endDeadPaths(main.reservation, options));
    await bestEffort(logger, main.pathId, () => main.reservation.release(key));
  }
  await bestEffort(logger, main.pathId, () => main.reservation.unregister(key));
}

/**
 * Paths that are down keep their registrations, and may have writes on their way, until they are preempted. Only where the
 * unit says that those with our key are all ours.
 */
async function endDeadPaths(unit: LunReservation, { key, initiatorName }: GiveBackOptions): Promise<void> {
  const status = await unit.readFullStatus();
  const withKey = (status?.registrations ?? []).filter((registration) => registration.key === key);
  if (withKey.length < 2) return;
  if (!withKey.every(({ initiatorPort }) => isOfInitiator(initiatorPort, initiatorName))) return;
  await unit.preemptAndAbort(key, key);
}

/** A failure of the unit is logged: others can take away what stays behind. */
export async function bestEffort(logger: Logger, pathId: string, act: () => Promise<unknown>): Promise<void> {
  try {
    await act();
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    logger.warn("a registration could not be given back", { path: pathId, reason: error.message });
  }
}
