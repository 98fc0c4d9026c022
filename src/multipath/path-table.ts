import { assert } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import { Emitter } from "../base/emitter.js";
import type { AppError } from "../base/errors.js";
import { MAX_PATHS_PER_VOLUME } from "../base/limits.js";
import type { Logger } from "../base/logger.js";
import type { TargetPortGroups } from "../scsi/alua.js";
import { AccessStates } from "./access-states.js";
import { pathUnknown } from "./errors.js";
import type { Path } from "./path.js";
import type { PathEvent, PathEventKind } from "./status.js";

export interface PathTableDependencies {
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * The paths of a device, which of them take requests, and the record of what happens to them. Whoever changes a path calls
 * `settle` afterwards: all that follows from a change is worked out there, never while a request is given to a path.
 */
export class PathTable {
  readonly #dependencies: PathTableDependencies;
  readonly #access = new AccessStates();
  readonly #events = new Emitter<PathEvent>();
  readonly #settled = new Emitter<undefined>();
  #paths: readonly Path[] = [];
  #carriers: readonly Path[] = [];

  constructor(dependencies: PathTableDependencies) {
    this.#dependencies = dependencies;
  }

  /** Lowest rank first. */
  get all(): readonly Path[] {
    return this.#paths;
  }

  /** Those that take requests, lowest rank first. */
  get carriers(): readonly Path[] {
    return this.#carriers;
  }

  /** Throws MULTIPATH_PATH_UNKNOWN. */
  find(id: string): Path {
    const path = this.#paths.find((other) => other.id === id);
    if (path !== undefined) return path;
    throw pathUnknown(
      id,
      this.#paths.map((other) => other.id),
    );
  }

  add(path: Path): void {
    assert(this.#paths.length < MAX_PATHS_PER_VOLUME, `more than ${MAX_PATHS_PER_VOLUME} paths were planned`);
    assert(!this.#paths.some(({ id }) => id === path.id), `path ${path.id} was planned twice`);
    this.#paths = [...this.#paths, path].sort((a, b) => a.rank - b.rank);
    this.note(path, "path-added", "added");
  }

  delete(path: Path): void {
    this.#paths = this.#paths.filter((other) => other !== path);
    this.note(path, "path-removed", "removed");
  }

  /** Takes over access states that were reported over any of the paths. */
  updateAccess(groups: TargetPortGroups): void {
    this.#access.update(groups);
    this.settle();
  }

  /** Works out anew which paths take requests, and tells those who act on it. */
  settle(): void {
    for (const path of this.#paths) this.#updateAccessOf(path);
    this.#carriers = carriersOf(this.#paths);
    this.#settled.emit(undefined);
  }

  onSettled(listener: () => void): () => void {
    return this.#settled.on(listener);
  }

  /** Something happened to a path, or to all of them (undefined). */
  note(path: Path | undefined, kind: PathEventKind, message: string): void {
    const { clock, logger } = this.#dependencies;
    const pathId = path?.id ?? "";
    if (path !== undefined) {
      path.lastEvent = message;
      path.lastEventTimeMs = clock.wallTimeMs();
    }
    logger.info("path event", { kind, path: pathId, reason: message });
    this.#events.emit({ kind, pathId, message });
  }

  /** What was tried over a path has failed, and is tried again. */
  warn(path: Path, message: string, reason: AppError): void {
    this.#dependencies.logger.warn(message, { path: path.id, code: reason.code, reason: reason.message });
  }

  onEvent(listener: (event: PathEvent) => void): () => void {
    return this.#events.on(listener);
  }

  #updateAccessOf(path: Path): void {
    const before = path.access;
    path.access = this.#access.group(path.portGroup);
    if (before === undefined || path.access === undefined || before.state === path.access.state) return;
    const message = `port group ${path.access.group} is ${path.access.state}, was ${before.state}`;
    this.note(path, "access-state-changed", message);
  }
}

/** One that flaps is better than none. */
function carriersOf(paths: readonly Path[]): readonly Path[] {
  const accessible = paths.filter((path) => path.isAccessible && !path.isLeaving);
  const up = accessible.filter(({ state }) => state === "up");
  return up.length > 0 ? up : accessible.filter(({ state }) => state === "damped");
}
