import { AppError, errorMessage } from "../base/errors.js";
import type { Lun } from "../base/lun.js";
import { LunCommander } from "../block/lun-commands.js";
import { LunReservation } from "../block/lun-reservation.js";
import type { SessionDependencies, SessionOptions } from "../session/session-options.js";
import { Session } from "../session/session.js";
import { FENCE_TIMERS } from "./path-fence.js";

/** Something to do with the reservations of the unit over one nexus; resolves with whether that was enough. */
export type NexusAct = (unit: LunReservation) => Promise<boolean>;

/**
 * Does something as another path of the volume that is down: `options` have its ISID and the portal of a path that is not,
 * which within one portal group makes the same nexus (RFC 7143 §4.4.3.2). Resolves with false when it cannot be done; does not
 * reject.
 */
export async function actAsNexus(
  { session: options, lun }: { readonly session: SessionOptions; readonly lun: Lun },
  act: NexusAct,
  dependencies: SessionDependencies,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    const timers = { ...options.timers, ...FENCE_TIMERS };
    const session = await Session.open({ ...options, timers, maxTasks: 1 }, dependencies, signal);
    try {
      const target = { session, lun, onUnitAttention: () => Promise.resolve() };
      return await act(new LunReservation(new LunCommander(target, dependencies)));
    } finally {
      await session.logout().catch(() => session.close());
    }
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    dependencies.logger.warn("what another path holds could not be reached", { reason: errorMessage(error) });
    return false;
  }
}
