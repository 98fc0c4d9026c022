import type { PortalAddress } from "../base/access.js";
import { RedirectFollower } from "../login/redirect.js";

/** The portals of one session in turn; each remembers where a permanent redirect has moved it. */
export class PortalCycle {
  readonly #followers: readonly RedirectFollower[];
  #index = 0;

  constructor(first: PortalAddress, others: readonly PortalAddress[]) {
    this.#followers = [first, ...others].map((portal) => new RedirectFollower(portal));
  }

  /** The one to use now. */
  get current(): RedirectFollower {
    const follower = this.#followers[this.#index];
    if (follower === undefined) throw new RangeError("a portal cycle is never empty");
    return follower;
  }

  /** The present one has failed: the next one is tried next. */
  advance(): void {
    this.#index = (this.#index + 1) % this.#followers.length;
  }
}
