import type { Clock } from "../base/clock.js";
import { type AppError, asAppError } from "../base/errors.js";
import type { BlockDevice } from "../block/device.js";
import type { HeldRequests } from "./held-requests.js";
import type { PathSelector } from "./path-selector.js";
import type { Path, RequestKind } from "./path.js";

export interface RetryOptions {
  /** Rounds over all paths that a request gets after the first one, when the unit fails it over each of them. */
  readonly retryCount: number;
  /** Pause before each of those rounds. */
  readonly retryIntervalMs: number;
}

export interface RequestRunnerDependencies {
  readonly clock: Clock;
  readonly selector: PathSelector<Path>;
  readonly held: HeldRequests;
  /** The path itself failed a request: the connection, the port or the unit's readiness, not what was asked. */
  readonly onPathFailure: (path: Path, reason: AppError) => void;
  /** The unit failed a request over this path. */
  readonly onUnitFailure: (path: Path) => void;
}

/** The failures of one request that were the unit's own. */
interface UnitFailures {
  /** Over these it failed in this round. */
  readonly paths: Set<Path>;
  rounds: number;
  last: AppError;
}

/** Conditions of a path, not answers of the unit: they say nothing about another path, however often they are met. */
const pathCodes: ReadonlySet<string> = new Set([
  "BLOCK_UNAVAILABLE",
  "BLOCK_NO_SUCH_LUN",
  "BLOCK_IDENTITY_MISMATCH",
  "BLOCK_CLOSED",
]);

/**
 * Gives each request to a path, and to another when that fails, until it is done, until it has failed in a way that every
 * path would repeat, or until the unit has failed it over every path in every round. A request that a path gave back is
 * certain not to be carried out over that path any more: PathPort promises it, so no write can land twice.
 */
export class RequestRunner {
  readonly #options: RetryOptions;
  readonly #dependencies: RequestRunnerDependencies;

  constructor(options: RetryOptions, dependencies: RequestRunnerDependencies) {
    this.#options = options;
    this.#dependencies = dependencies;
  }

  /** `issue` gives the request to the device of a path; it may be called several times, never twice at a time. */
  async run<T>(kind: RequestKind, lengthBytes: number, issue: (device: BlockDevice) => Promise<T>): Promise<T> {
    const { clock, selector, held } = this.#dependencies;
    let failures: UnitFailures | undefined;
    for (;;) {
      if (held.end !== undefined) throw held.end;
      const nowMs = clock.nowMs();
      const path =
        failures === undefined || failures.paths.size === 0
          ? selector.next(lengthBytes, nowMs)
          : selector.nextBeside(failures.paths, lengthBytes, nowMs);
      if (path === undefined) {
        await this.#wait(failures);
        continue;
      }
      const { generation } = path;
      path.begin(lengthBytes, nowMs);
      try {
        const result = await issue(path.port.device);
        path.done(kind, lengthBytes, clock.nowMs());
        return result;
      } catch (error) {
        path.undone(lengthBytes, clock.nowMs());
        failures = this.#judge(path, generation, asAppError(error), failures);
      }
    }
  }

  /** Throws what nothing can be done about; returns the failures that count. */
  #judge(path: Path, generation: number, reason: AppError, failures?: UnitFailures): UnitFailures | undefined {
    const { onPathFailure, onUnitFailure } = this.#dependencies;
    const isOver = reason.code === "BLOCK_CLOSED" && path.isLeaving;
    if (reason.retry === "never" && !isOver) throw reason;
    path.errors += 1;
    if (pathCodes.has(reason.code) || reason.layer === "session") {
      // What a connection that is no more has left behind says nothing about the one there is now.
      if (path.generation === generation) onPathFailure(path, reason);
      return failures;
    }
    onUnitFailure(path);
    if (failures === undefined) return { paths: new Set([path]), rounds: 0, last: reason };
    failures.paths.add(path);
    failures.last = reason;
    return failures;
  }

  async #wait(failures: UnitFailures | undefined): Promise<void> {
    const { selector, held } = this.#dependencies;
    if (failures === undefined || selector.chosen.length === 0) {
      await held.hold();
      return;
    }
    failures.rounds += 1;
    if (failures.rounds > this.#options.retryCount) throw failures.last;
    await held.pause(this.#options.retryIntervalMs);
    failures.paths.clear();
  }
}
