import { assert } from "../base/assert.js";
import { Backoff } from "../base/backoff.js";
import { sleep } from "../base/clock.js";
import { type AppError, asAppError } from "../base/errors.js";
import { MAX_CONNECTIONS_PER_SESSION } from "../base/limits.js";
import { Mutex } from "../base/mutex.js";
import { formatPortal } from "../base/portal.js";
import { RedirectFollower } from "../login/redirect.js";
import type { Connection } from "./connection.js";
import { SessionError } from "./errors.js";
import type { ConnectionPlan, SessionDependencies, SessionTimers } from "./session-options.js";

/** A place in the session for one connection. */
export interface ConnectionPlace {
  /** The CID of whatever connection has this place. */
  readonly connectionId: number;
  readonly rank: number;
  readonly plan: ConnectionPlan;
  /** Remembers where a permanent redirect has moved the portal. */
  readonly redirects: RedirectFollower;
}

export interface ConnectionKeeperHost {
  /** May connections join the session now? */
  readonly isReady: boolean;
  /** Connections the target admits, the leading one included. */
  readonly maxConnections: number;
  readonly liveConnections: number;
  /** Is this place taken, or to be left alone because its last connection is being recovered? */
  isTaken(connectionId: number): boolean;
  /** Logs in a connection for this place, and makes it one of the session. Rejects with AppError. */
  join(place: ConnectionPlace, signal: AbortSignal): Promise<Connection>;
  /** How long a target wants us to wait before a connection of this place that it had let in is made again. */
  pauseMs(connectionId: number): number;
}

/**
 * Keeps as many connections in the session as are planned: joins those that are missing, again and again with growing
 * pauses, and never more than the target admits.
 */
export class ConnectionKeeper {
  readonly #host: ConnectionKeeperHost;
  readonly #timers: SessionTimers;
  readonly #dependencies: SessionDependencies;
  readonly #stop = new AbortController();
  readonly #working = new Set<ConnectionPlace>();
  /** One joins at a time: the target's limit counts, and LIO takes one login at a time anyway. */
  readonly #turn = new Mutex();
  #places: readonly ConnectionPlace[];

  constructor(
    host: ConnectionKeeperHost,
    plans: readonly ConnectionPlan[],
    timers: SessionTimers,
    dependencies: SessionDependencies,
  ) {
    this.#host = host;
    this.#timers = timers;
    this.#dependencies = dependencies;
    this.#places = plans.map((plan, index) => placeOf(plan, index, index));
  }

  /** The place that a new session begins with: the first that is left. */
  get leading(): ConnectionPlace {
    const [place] = this.#places;
    assert(place !== undefined, "a session always has a place");
    return place;
  }

  find(connectionId: number): ConnectionPlace | undefined {
    return this.#places.find((place) => place.connectionId === connectionId);
  }

  /** Goes after every place that is empty; `delayMs` before the first attempt. */
  fill(delayMs = 0): void {
    for (const place of this.#places) this.#keep(place, delayMs);
  }

  /** Adds a place and fills it; resolves with its CID. Rejects with AppError, and the place is gone again. */
  async add(plan: ConnectionPlan): Promise<number> {
    if (this.#places.length >= MAX_CONNECTIONS_PER_SESSION) {
      throw new SessionError(
        "SESSION_CONNECTION_LIMIT",
        `a session has ${MAX_CONNECTIONS_PER_SESSION} connections at most`,
      );
    }
    const used = new Set(this.#places.map(({ connectionId }) => connectionId));
    let connectionId = 0;
    // Not one whose last connection has its Time2Wait still to come: that would be a reinstatement.
    const isFree = (cid: number): boolean => !used.has(cid) && !this.#host.isTaken(cid) && this.#host.pauseMs(cid) <= 0;
    while (!isFree(connectionId)) connectionId += 1;
    const rank = Math.max(...this.#places.map((place) => place.rank)) + 1;
    const place = placeOf(plan, connectionId, rank);
    this.#places = [...this.#places, place];
    this.#working.add(place);
    try {
      await this.#turn.run(async () => {
        this.#requireRoom();
        await this.#host.join(place, this.#stop.signal);
      });
      return connectionId;
    } catch (error) {
      this.forget(connectionId);
      throw error;
    } finally {
      this.#working.delete(place);
    }
  }

  /** The place goes; whatever connection it has stays. The last one cannot go. */
  forget(connectionId: number): void {
    if (this.#places.length > 1) this.#places = this.#places.filter((place) => place.connectionId !== connectionId);
  }

  /** Ends it for good; logins under way are cancelled. */
  stop(reason: AppError): void {
    this.#stop.abort(reason);
  }

  #requireRoom(): void {
    const { liveConnections, maxConnections } = this.#host;
    if (liveConnections < maxConnections) return;
    throw new SessionError(
      "SESSION_CONNECTION_LIMIT",
      `the target admits ${maxConnections} connections in this session (MaxConnections), and that many are there`,
      { details: { maxConnections } },
    );
  }

  #keep(place: ConnectionPlace, delayMs: number): void {
    if (this.#working.has(place) || this.#stop.signal.aborted || !this.#isMissing(place)) return;
    this.#working.add(place);
    void this.#fill(place, delayMs).finally(() => this.#working.delete(place));
  }

  async #fill(place: ConnectionPlace, delayMs: number): Promise<void> {
    const { clock, random, logger } = this.#dependencies;
    const { signal } = this.#stop;
    const { reconnectInitialMs: initialMs, reconnectMaximumMs: maximumMs } = this.#timers;
    const backoff = new Backoff({ initialMs, maximumMs }, { random });
    let waitMs = delayMs;
    for (let attempt = 1; ; attempt += 1) {
      try {
        await sleep(clock, waitMs, signal);
        await this.#turn.run(async () => {
          if (this.#isMissing(place)) await this.#host.join(place, signal);
        });
        return;
      } catch (error) {
        if (signal.aborted) return;
        const reason = asAppError(error).message;
        const facts = { portal: formatPortal(place.plan.portal), cid: place.connectionId, reason };
        if (attempt === 1) logger.warn("a connection cannot be added to the session", facts);
        else logger.debug("a connection still cannot be added to the session", facts);
      }
      if (!this.#isMissing(place)) return;
      waitMs = Math.max(backoff.next(), this.#host.pauseMs(place.connectionId));
    }
  }

  /** Asked anew after every wait: places come and go, and so do connections. */
  #isMissing(place: ConnectionPlace): boolean {
    const { isReady, liveConnections, maxConnections } = this.#host;
    if (!isReady || liveConnections >= maxConnections || !this.#places.includes(place)) return false;
    return !this.#host.isTaken(place.connectionId);
  }
}

function placeOf(plan: ConnectionPlan, connectionId: number, rank: number): ConnectionPlace {
  return { plan, connectionId, rank, redirects: new RedirectFollower(plan.portal) };
}
