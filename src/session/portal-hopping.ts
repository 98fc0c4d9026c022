import type { PortalAddress } from "../base/access.js";
import type { AppError } from "../base/errors.js";
import { MAX_PORTALS_PER_VOLUME, SILENT_PORTAL_CONNECT_MS } from "../base/limits.js";
import { formatPortal } from "../base/portal.js";
import { RedirectFollower } from "../login/redirect.js";

export interface PortalHoppingOptions {
  /** Where the session was first logged in: the original. */
  readonly portal: PortalAddress;
  /** Others of the same target that somebody named; tried in this order after the original. */
  readonly alternatePortals?: readonly PortalAddress[];
  /** Never leave the original. */
  readonly isPinned?: boolean;
  /** How often a portal that is down is tried again before the next one has its turn; default DEFAULT_PORTAL_RETRY_COUNT. */
  readonly portalRetryCount?: number;
}

/** As in Microsoft's initiator: a portal whose host answers, but not the target, is often only restarting. */
export const DEFAULT_PORTAL_RETRY_COUNT = 1;

/**
 * Where a session logs in when its connection was lost (portal hopping): at the original portal, then at the others
 * that are known, then at the original again, for ever. A pinned session stays with its original. Each portal
 * remembers where a permanent redirect has moved it. Pure: the session tells what happened.
 */
export class PortalHopping {
  readonly #isPinned: boolean;
  readonly #retryCount: number;
  readonly #original: RedirectFollower;
  readonly #named: readonly PortalAddress[];
  #followers: readonly RedirectFollower[];
  #advertised: readonly PortalAddress[] = [];
  #index = 0;
  #failuresHere = 0;
  #isFirstRound = true;
  #isRoundStart = true;
  #wasSilent = false;

  constructor(options: PortalHoppingOptions) {
    this.#isPinned = options.isPinned ?? false;
    this.#retryCount = options.portalRetryCount ?? DEFAULT_PORTAL_RETRY_COUNT;
    this.#original = new RedirectFollower(options.portal);
    this.#named = [options.portal, ...(options.alternatePortals ?? [])];
    this.#followers = this.#follow([]);
  }

  /** The portal of the next login, and of the one that stands. */
  get current(): RedirectFollower {
    return this.#followers[this.#index] ?? this.#original;
  }

  /** The portals in the order of their turns, where redirects have moved them. */
  get portals(): readonly PortalAddress[] {
    return this.#followers.map((follower) => follower.portal);
  }

  /**
   * Does the next attempt begin a round, so that a growing pause before it is right? Within a round the next portal,
   * which has done nothing wrong, need not wait.
   */
  get isRoundStart(): boolean {
    return this.#isRoundStart;
  }

  /** The time to connect that the next attempt has, of the `configuredMs` for any. */
  connectTimeoutMs(configuredMs: number): number {
    const isShort = this.#wasSilent && this.#isFirstRound && this.#followers.length > 1;
    return isShort ? Math.min(configuredMs, SILENT_PORTAL_CONNECT_MS) : configuredMs;
  }

  /**
   * The connection was lost: the original is tried first. After a loss by silence, which may be a network that swallows
   * everything, each portal of the first round has one short chance only.
   */
  onLost(reason: AppError): void {
    this.#begin();
    this.#wasSilent = isSilence(reason);
  }

  /** A login at `current` worked. */
  onSucceeded(): void {
    this.#failuresHere = 0;
    this.#isFirstRound = true;
    this.#isRoundStart = true;
    this.#wasSilent = false;
  }

  /** The attempt at `current` failed; afterwards `current` is the portal of the next one. */
  onFailed(reason: AppError): void {
    this.#failuresHere += 1;
    const mayRetry = isDown(reason) && !(this.#wasSilent && this.#isFirstRound);
    if (this.#followers.length > 1 && mayRetry && this.#failuresHere <= this.#retryCount) {
      this.#isRoundStart = true;
      return;
    }
    this.#failuresHere = 0;
    this.#index = (this.#index + 1) % this.#followers.length;
    this.#isRoundStart = this.#index === 0;
    if (this.#isRoundStart) this.#isFirstRound = false;
  }

  /**
   * The portals that the target advertises now (SendTargets), in its order; they are tried after those that were named.
   * Those past MAX_PORTALS_PER_VOLUME are left out. Without effect on a pinned session.
   */
  setAdvertised(portals: readonly PortalAddress[]): void {
    const before = this.current;
    this.#advertised = portals;
    this.#followers = this.#follow(this.#followers);
    const index = this.#followers.indexOf(before);
    if (index >= 0) this.#index = index;
    else this.#begin();
  }

  #begin(): void {
    this.#index = 0;
    this.#failuresHere = 0;
    this.#isFirstRound = true;
    this.#isRoundStart = true;
  }

  /** One follower for each portal that is known now; those of `before` are kept with what they have learned. */
  #follow(before: readonly RedirectFollower[]): readonly RedirectFollower[] {
    const followers = [this.#original];
    if (this.#isPinned) return followers;
    const known = new Set([formatPortal(this.#original.named)]);
    for (const portal of [...this.#named, ...this.#advertised]) {
      const text = formatPortal(portal);
      if (known.has(text) || followers.length >= MAX_PORTALS_PER_VOLUME) continue;
      known.add(text);
      followers.push(before.find((follower) => formatPortal(follower.named) === text) ?? new RedirectFollower(portal));
    }
    return followers;
  }
}

/** Nothing came back: the network may be swallowing everything. */
function isSilence(reason: AppError): boolean {
  return reason.code === "SESSION_TIMEOUT" || reason.code === "TRANSPORT_TIMEOUT";
}

/** The connection could not be made, and that was known at once: another attempt costs little. */
function isDown(reason: AppError): boolean {
  return reason.layer === "transport" && !isSilence(reason);
}
