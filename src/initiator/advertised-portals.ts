import type { ChapCredentials, PortalAddress } from "../base/access.js";
import { AppError, errorMessage } from "../base/errors.js";
import { formatPortal } from "../base/portal.js";
import { discoverTargets } from "../discovery/send-targets.js";
import type { SessionEvent } from "../session/session-events.js";
import type { SessionDependencies } from "../session/session-options.js";

/** A discovery is a login, one question and a logout. */
const DISCOVERY_TIMEOUT_MS = 15_000;

/** What following the advertisements needs of a session. */
export interface AdvertisedSession {
  setAdvertisedPortals(portals: readonly PortalAddress[]): void;
  readonly events: { on(listener: (event: SessionEvent) => void): () => void };
  status(): { readonly portal: PortalAddress };
}

export interface AdvertisedPortalsOptions {
  readonly targetName: string;
  readonly initiatorName: string;
  readonly chap: () => ChapCredentials | undefined;
}

/**
 * Tells a session through which portals its target can be reached, as SendTargets says: now and after every time the
 * session came back, when they may be others. Asked in a discovery session of its own, since some targets drop a
 * session that carries a volume when it asks (and arrays may want other credentials there: then the session goes on
 * with the portals it was given). Returned: stops it; resolves when nothing of it is under way any more.
 */
export function followAdvertisedPortals(
  session: AdvertisedSession,
  options: AdvertisedPortalsOptions,
  dependencies: SessionDependencies,
): () => Promise<void> {
  const stop = new AbortController();
  let current: Promise<void> | undefined;
  const ask = async (): Promise<void> => {
    const { portal } = session.status();
    try {
      const portals = await askPortal(portal, options, dependencies, stop.signal);
      if (!stop.signal.aborted) session.setAdvertisedPortals(portals);
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      if (stop.signal.aborted) return;
      dependencies.logger.info("the target's other portals could not be asked for", {
        portal: formatPortal(portal),
        reason: errorMessage(error),
      });
    }
  };
  const begin = (): void => {
    current ??= ask().finally(() => (current = undefined));
  };
  const unsubscribe = session.events.on(({ kind }) => {
    if (kind === "reconnected") begin();
  });
  begin();
  return async () => {
    unsubscribe();
    stop.abort();
    await current;
  };
}

async function askPortal(
  portal: PortalAddress,
  { targetName, initiatorName, chap }: AdvertisedPortalsOptions,
  dependencies: SessionDependencies,
  signal: AbortSignal,
): Promise<readonly PortalAddress[]> {
  const credentials = chap();
  const targets = await discoverTargets(
    {
      portal,
      initiatorName,
      timeoutMs: DISCOVERY_TIMEOUT_MS,
      ...(credentials === undefined ? {} : { chap: credentials }),
    },
    dependencies,
    signal,
  );
  const portals = targets.find((target) => target.targetName === targetName)?.portals ?? [];
  return portals.map(({ host, port }) => ({ host, port }));
}
