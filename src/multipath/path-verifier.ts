import { Backoff } from "../base/backoff.js";
import type { Clock, Timer } from "../base/clock.js";
import { asAppError } from "../base/errors.js";
import { MAX_SUSPECT_PROBE_MS, SUSPECT_PROBE_MS } from "../base/limits.js";
import type { Random } from "../base/random.js";
import type { PathTable } from "./path-table.js";
import type { Doubt, Path } from "./path.js";
import type { PortGroupKeeper } from "./port-group-keeper.js";
import type { UnitDescription } from "./unit-description.js";

export interface PathVerifierDependencies {
  readonly paths: PathTable;
  readonly portGroups: PortGroupKeeper;
  readonly unit: UnitDescription;
  readonly clock: Clock;
  readonly random: Random;
  /** A doubtful path has proved good. */
  readonly onProved: (path: Path) => void;
}

/** How one path is looked at while it is suspect. */
interface Watch {
  readonly backoff: Backoff;
  timer: Timer | undefined;
  isLooking: boolean;
  /** When it was found good; a doubt soon after goes on with the pauses of the one before. */
  provedAtMs: number;
}

/**
 * Asks paths whether they are well, and still lead to the same unit: those that are suspect with growing pauses until they
 * are, and those that carry requests, or would, every now and then.
 */
export class PathVerifier {
  readonly #intervalMs: number;
  readonly #dependencies: PathVerifierDependencies;
  readonly #watches = new Map<Path, Watch>();
  readonly #beingVerified = new Set<Path>();
  #timer: Timer | undefined;
  #isStopped = false;

  /** `intervalMs` 0: only suspect paths are asked. */
  constructor(intervalMs: number, dependencies: PathVerifierDependencies) {
    this.#intervalMs = intervalMs;
    this.#dependencies = dependencies;
    this.#arm();
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
    for (const { timer } of this.#watches.values()) timer?.cancel();
  }

  forget(path: Path): void {
    this.#watches.get(path)?.timer?.cancel();
    this.#watches.delete(path);
  }

  /** The path is not used any more until it has proved good. */
  doubt(path: Path, doubt: Doubt): void {
    if (!path.isConnected) return;
    const isNews = path.doubt === undefined;
    path.doubted(doubt);
    if (isNews) this.#dependencies.paths.note(path, "path-suspect", doubt.reason);
    this.#dependencies.paths.settle();
    this.#watch(path, isNews && doubt.isAboutCapacity);
  }

  #watch(path: Path, isUrgent: boolean): void {
    const { clock, random } = this.#dependencies;
    let watch = this.#watches.get(path);
    if (watch === undefined) {
      const backoff = new Backoff({ initialMs: SUSPECT_PROBE_MS, maximumMs: MAX_SUSPECT_PROBE_MS }, { random });
      watch = { backoff, timer: undefined, isLooking: false, provedAtMs: clock.nowMs() };
      this.#watches.set(path, watch);
    }
    if (watch.timer !== undefined || watch.isLooking || this.#isStopped) return;
    if (clock.nowMs() - watch.provedAtMs > MAX_SUSPECT_PROBE_MS) watch.backoff.reset();
    this.#armWatch(path, watch, isUrgent ? 0 : watch.backoff.next());
  }

  #armWatch(path: Path, watch: Watch, delayMs: number): void {
    watch.timer = this.#dependencies.clock.setTimer(delayMs, () => {
      watch.timer = undefined;
      void this.#look(path, watch);
    });
  }

  async #look(path: Path, watch: Watch): Promise<void> {
    if (!isSuspect(path)) return;
    watch.isLooking = true;
    const { generation } = path;
    const isGood = await this.#isGood(path);
    watch.isLooking = false;
    if (this.#isStopped || !this.#watches.has(path)) return;
    if (isGood && path.generation === generation && isSuspect(path)) {
      watch.provedAtMs = this.#dependencies.clock.nowMs();
      this.#dependencies.onProved(path);
    }
    // A doubt of another kind may have come up meanwhile.
    if (isSuspect(path)) this.#armWatch(path, watch, watch.backoff.next());
  }

  /** Does not reject. */
  async #isGood(path: Path): Promise<boolean> {
    const { paths, portGroups, unit } = this.#dependencies;
    try {
      if (path.doubt?.isAboutCapacity === true) {
        await unit.agree();
        return path.info?.sizeBytes === unit.info?.sizeBytes;
      }
      if (path.portGroup !== undefined) {
        await portGroups.readOver(path);
        // Its access state says why it took no request, and keeps it from being given one.
        if (!path.isAccessible) return true;
      }
      await path.port.probe();
      await path.port.recognise();
      return true;
    } catch (error) {
      paths.warn(path, "a suspect path has not proved good", asAppError(error));
      return false;
    }
  }

  #arm(): void {
    if (this.#intervalMs === 0 || this.#isStopped) return;
    this.#timer = this.#dependencies.clock.setTimer(this.#intervalMs, () => {
      for (const path of this.#dependencies.paths.all) void this.#verify(path);
      this.#arm();
    });
  }

  /** Suspect paths are looked at more often anyway. */
  async #verify(path: Path): Promise<void> {
    if (!path.isConnected || path.doubt !== undefined || this.#beingVerified.has(path)) return;
    this.#beingVerified.add(path);
    const { generation } = path;
    try {
      if (path.portGroup === undefined) await path.port.probe();
      else await this.#dependencies.portGroups.readOver(path);
      await path.port.recognise();
    } catch (error) {
      const reason = `it was verified, and failed: ${asAppError(error).message}`;
      if (path.generation === generation && !this.#isStopped) this.doubt(path, { reason, isAboutCapacity: false });
    } finally {
      this.#beingVerified.delete(path);
    }
  }
}

function isSuspect(path: Path): boolean {
  return path.state === "suspect";
}
