import { Emitter } from "../../src/base/emitter.js";
import { AppError } from "../../src/base/errors.js";
import type { PathPolicy } from "../../src/multipath/path-policy.js";
import type {
  MultipathStatus,
  PathChange,
  PathControl,
  PathEvent,
  PathState,
  PathStatus,
} from "../../src/multipath/status.js";

/** Paths for those who look at them and change them, without anything behind them. */
export class FakePaths implements PathControl {
  readonly events = new Emitter<PathEvent>();
  policy: PathPolicy = "least-queue-depth";
  #paths: readonly PathStatus[];

  constructor(ids: readonly string[]) {
    this.#paths = ids.map((id, rank) => ({
      ...{ id, state: "up", reason: "", isChosen: true, isStandby: false, weight: 0, rank },
      ...{ accessState: undefined, portGroup: undefined, requestsInFlight: 0, bytesInFlight: 0 },
      ...{ readOperations: 0, writeOperations: 0, readBytes: 0, writtenBytes: 0, bytesPerSecond: 0 },
      ...{ errors: 0, failures: 0, lastEvent: "", lastEventTimeMs: 0 },
    }));
  }

  status(): MultipathStatus {
    return { policy: this.policy, heldRequests: 0, paths: this.#paths };
  }

  states(): readonly PathState[] {
    return this.#paths.map(({ state }) => state);
  }

  /** A path goes into another state, and tells it. */
  set(pathId: string, state: PathState, reason = ""): void {
    this.#change(pathId, { state, reason });
    this.events.emit({ kind: state === "refused" ? "path-refused" : "path-down", pathId, message: reason });
  }

  setPolicy(policy: PathPolicy): void {
    this.policy = policy;
  }

  failPath(pathId: string): void {
    if (this.#paths.every(({ id, state }) => id === pathId || state !== "up")) {
      throw new AppError("multipath", "MULTIPATH_LAST_PATH", `${pathId} is the last path`);
    }
    this.#change(pathId, { state: "failed" });
  }

  restorePath(pathId: string): void {
    this.#change(pathId, { state: "up" });
  }

  changePath(pathId: string, change: PathChange): void {
    this.#change(pathId, change);
  }

  onPathEvent(listener: (event: PathEvent) => void): () => void {
    return this.events.on(listener);
  }

  #change(pathId: string, change: Partial<PathStatus>): void {
    if (!this.#paths.some(({ id }) => id === pathId)) {
      throw new AppError("multipath", "MULTIPATH_PATH_UNKNOWN", `there is no path ${pathId}`);
    }
    this.#paths = this.#paths.map((path) => (path.id === pathId ? { ...path, ...change } : path));
  }
}
