import type { ChapCredentials, PortalAddress } from "../base/access.js";
import { TimeoutError } from "../base/errors.js";
import { MAX_SEND_TARGETS_BYTES } from "../base/limits.js";
import { formatPortal } from "../base/portal.js";
import { type TargetAddress, parseTargetAddress } from "../login/redirect.js";
import type { SessionDependencies } from "../session/session-options.js";
import { Session } from "../session/session.js";
import { DiscoveryError } from "./errors.js";

/** A target and the portals through which it can be reached; `portalGroupTag` where the peer named it. */
export interface DiscoveredTarget {
  readonly targetName: string;
  readonly portals: readonly TargetAddress[];
}

export interface DiscoverTargetsOptions {
  readonly portal: PortalAddress;
  readonly initiatorName: string;
  readonly chap?: ChapCredentials;
  /** For the whole of it: connecting, logging in, asking, logging out. */
  readonly timeoutMs: number;
  readonly localAddress?: string;
}

/**
 * Asks a portal which targets it offers (RFC 7143 Appendix C) in a discovery session of its own: no digests, since some
 * arrays break when they are offered there, and nothing but SendTargets and Logout (§4.3). Rejects with the errors of
 * the login, SessionError, DiscoveryError, or TimeoutError DISCOVERY_TIMEOUT.
 */
export async function discoverTargets(
  options: DiscoverTargetsOptions,
  dependencies: SessionDependencies,
  signal?: AbortSignal,
): Promise<DiscoveredTarget[]> {
  const stop = new AbortController();
  const onAbort = (): void => stop.abort(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted === true) onAbort();
  let session: Session | undefined;
  stop.signal.addEventListener("abort", () => session?.close(), { once: true });
  const timer = dependencies.clock.setTimer(options.timeoutMs, () => stop.abort());
  try {
    session = await Session.open(sessionOptions(options, dependencies), dependencies, stop.signal);
    const pairs = await session.text([["SendTargets", "All"]], MAX_SEND_TARGETS_BYTES);
    const targets = readSendTargets(pairs, options.portal);
    // The answer is in hand: a target that does not know how to say goodbye takes nothing from it.
    await session.logout().catch(() => undefined);
    return targets;
  } catch (error) {
    const hasTimedOut = stop.signal.aborted && signal?.aborted !== true;
    if (!hasTimedOut) throw error;
    throw new TimeoutError(
      "discovery",
      "DISCOVERY_TIMEOUT",
      `${formatPortal(options.portal)} did not answer a discovery within ${options.timeoutMs} ms`,
      { retry: "other-path", cause: error },
    );
  } finally {
    timer.cancel();
    signal?.removeEventListener("abort", onAbort);
    session?.close();
  }
}

/**
 * The targets in the answer to SendTargets. A target without TargetAddress is at the portal that was asked; names that
 * come twice are one target. Throws DiscoveryError DISCOVERY_ANSWER_INVALID, LoginError TARGET_ADDRESS_INVALID.
 */
export function readSendTargets(
  pairs: readonly (readonly [string, string])[],
  askedPortal: PortalAddress,
): DiscoveredTarget[] {
  const targets = new Map<string, TargetAddress[]>();
  let portals: TargetAddress[] | undefined;
  for (const [key, value] of pairs) {
    if (key === "TargetName") {
      portals = targets.get(value) ?? [];
      targets.set(value, portals);
    } else if (key === "TargetAddress") {
      if (portals === undefined) {
        throw new DiscoveryError(
          "DISCOVERY_ANSWER_INVALID",
          `${formatPortal(askedPortal)} answered SendTargets with an address before any name (RFC 7143 Appendix C)`,
        );
      }
      addPortal(portals, parseTargetAddress(value));
    }
  }
  return [...targets].map(([targetName, found]) => ({
    targetName,
    portals: found.length > 0 ? found : [{ host: askedPortal.host, port: askedPortal.port }],
  }));
}

function addPortal(portals: TargetAddress[], portal: TargetAddress): void {
  const isKnown = portals.some(
    ({ host, port, portalGroupTag }) =>
      host === portal.host && port === portal.port && portalGroupTag === portal.portalGroupTag,
  );
  if (!isKnown) portals.push(portal);
}

function sessionOptions(
  { portal, initiatorName, chap, timeoutMs, localAddress }: DiscoverTargetsOptions,
  { random }: SessionDependencies,
): Parameters<typeof Session.open>[0] {
  return {
    portal,
    sessionType: "Discovery",
    initiatorName,
    // Random (type 10b, §11.12.5): a discovery must never take the place of a session that carries a volume.
    isid: Buffer.concat([Buffer.from([0x80]), random.bytes(5)]),
    ...(chap === undefined ? {} : { chap }),
    ...(localAddress === undefined ? {} : { localAddress }),
    headerDigest: "none",
    dataDigest: "none",
    timers: { connectTimeoutMs: timeoutMs, loginTimeoutMs: timeoutMs, textTimeoutMs: timeoutMs, nopIntervalMs: 0 },
  };
}
