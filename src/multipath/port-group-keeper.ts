import { Backoff } from "../base/backoff.js";
import type { Clock, Timer } from "../base/clock.js";
import { asAppError } from "../base/errors.js";
import {
  ACCESS_STATE_POLL_MS,
  ACCESS_STATE_WATCH_MS,
  MAX_ACCESS_STATE_POLL_MS,
  SET_PORT_GROUPS_INTERVAL_MS,
} from "../base/limits.js";
import type { Random } from "../base/random.js";
import type { PathTable } from "./path-table.js";
import type { Path } from "./path.js";

export interface PortGroupKeeperDependencies {
  readonly paths: PathTable;
  readonly clock: Clock;
  readonly random: Random;
}

/**
 * Knows the access states of the unit's port groups (SPC-5 §5.18), and looks after them while no path takes requests: reads
 * them again and again, and asks for a better state where the array leaves that to us. After a change it goes on reading for
 * a while: one seldom comes alone, and a target may tell of the next only over paths that are not used now.
 */
export class PortGroupKeeper {
  readonly #dependencies: PortGroupKeeperDependencies;
  readonly #backoff: Backoff;
  #reading: Promise<void> | undefined;
  #timer: Timer | undefined;
  #isLooking = false;
  #isStopped = false;
  #mayBeSetAtMs = 0;
  /** Is the timer that of a need? */
  #isPressing = false;
  #watchUntilMs = 0;

  constructor(dependencies: PortGroupKeeperDependencies) {
    this.#dependencies = dependencies;
    const { random } = dependencies;
    this.#backoff = new Backoff({ initialMs: ACCESS_STATE_POLL_MS, maximumMs: MAX_ACCESS_STATE_POLL_MS }, { random });
    dependencies.paths.onEvent(({ kind }) => {
      if (kind === "access-state-changed") this.#watchUntilMs = dependencies.clock.nowMs() + ACCESS_STATE_WATCH_MS;
    });
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  /** Looks after the states when that is needed now. */
  attend(): void {
    if (this.#isStopped || this.#isLooking) return;
    const isPressing = this.#isNeeded();
    if (!isPressing) this.#backoff.reset();
    if (isPressing !== this.#isPressing || !(isPressing || this.#isWatching())) {
      this.#timer?.cancel();
      this.#timer = undefined;
    }
    this.#isPressing = isPressing;
    if (!isPressing && !this.#isWatching()) return;
    this.#timer ??= this.#dependencies.clock.setTimer(isPressing ? this.#pauseMs() : MAX_ACCESS_STATE_POLL_MS, () => {
      this.#timer = undefined;
      void this.#look();
    });
  }

  /** Reads the states over this path. Rejects with AppError. */
  async readOver(path: Path): Promise<void> {
    const { generation } = path;
    const groups = await path.port.readPortGroups();
    // An answer of a connection that is gone may be older than what was read since.
    if (groups !== undefined && path.generation === generation && !this.#isStopped) {
      this.#dependencies.paths.updateAccess(groups);
    }
  }

  /** Reads the states over this path or, failing that, another. Does not reject. Calls at the same time share one reading. */
  reread(first: Path): Promise<void> {
    this.#reading ??= this.#rereadOverAny(first).finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #rereadOverAny(first: Path): Promise<void> {
    const others = this.#dependencies.paths.all.filter((path) => path !== first);
    for (const path of [first, ...others]) {
      if (!path.isConnected || path.portGroup === undefined) continue;
      try {
        await this.readOver(path);
        return;
      } catch (error) {
        this.#dependencies.paths.warn(path, "access states could not be read", asAppError(error));
      }
    }
  }

  /** Is there a path that only its access state keeps from taking requests, and none that takes any? */
  #isNeeded(): boolean {
    return this.#dependencies.paths.carriers.length === 0 && this.#waiting().length > 0;
  }

  /** Has there been a change lately, and is there a path to ask over? */
  #isWatching(): boolean {
    const { paths, clock } = this.#dependencies;
    return clock.nowMs() < this.#watchUntilMs && paths.carriers.length > 0;
  }

  #waiting(): readonly Path[] {
    return this.#dependencies.paths.all.filter(
      (path) => path.isConnected && path.doubt === undefined && !path.isAccessible,
    );
  }

  #pauseMs(): number {
    const untilSetMs = this.#mayBeSetAtMs - this.#dependencies.clock.nowMs();
    return this.#settable() !== undefined && untilSetMs <= 0 ? 0 : this.#backoff.next();
  }

  async #look(): Promise<void> {
    this.#isLooking = true;
    try {
      const settable = this.#isPressing ? this.#settable() : undefined;
      const [first] = this.#isPressing ? this.#waiting() : this.#dependencies.paths.carriers;
      if (settable !== undefined) await this.#set(settable);
      if (first !== undefined) await this.reread(settable ?? first);
    } finally {
      this.#isLooking = false;
    }
    this.attend();
  }

  /** The path whose group we may make active; undefined while a transition is under way, which may end well by itself. */
  #settable(): Path | undefined {
    const waiting = this.#waiting();
    if (waiting.some(({ access }) => access?.state === "transitioning")) return undefined;
    return waiting.find(
      ({ access, port }) =>
        port.canSetPortGroups && access?.state === "standby" && access.supportedStates.includes("active-optimized"),
    );
  }

  async #set(path: Path): Promise<void> {
    const { paths, clock } = this.#dependencies;
    const group = path.access?.group;
    if (group === undefined || clock.nowMs() < this.#mayBeSetAtMs) return;
    this.#mayBeSetAtMs = clock.nowMs() + SET_PORT_GROUPS_INTERVAL_MS;
    try {
      await path.port.setPortGroups([{ group, state: "active-optimized" }]);
      paths.note(path, "access-state-set", `port group ${group} was asked to become active-optimized`);
    } catch (error) {
      paths.warn(path, "the access state could not be set", asAppError(error));
    }
  }
}
