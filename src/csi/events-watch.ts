import { Backoff } from "../base/backoff.js";
import { sleep, type Clock } from "../base/clock.js";
import { errorCode, errorMessage } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { Random } from "../base/random.js";
import type { ConditionUpdate, DataplaneApi, MissingPath, VolumeCondition } from "../dataplane/api.js";
import type { EventReporter } from "./events-reporter.js";
import {
  findingOfCondition,
  findingOfGrowth,
  findingOfLostPaths,
  findingOfNode,
  findingOfRefusedPaths,
  findingOfSizes,
  type Finding,
} from "./events-rules.js";
import { Standing } from "./events-standing.js";

export interface ConditionEventsOptions {
  /** How long I/O must wait, or a path of several be down, before it is said; default 15 s: a failover of an array takes less. */
  readonly pathHoldMs?: number;
  /** How long a LUN may be larger than its device; default 1 minute: an expansion takes less. */
  readonly sizeHoldMs?: number;
  /** How long the dataplane may be away; default 30 s: a restart takes less. */
  readonly dataplaneHoldMs?: number;
  /** How often what still stands is said again; default 30 minutes: the API server forgets events after an hour. */
  readonly remindMs?: number;
}

export interface ConditionEventsDependencies {
  readonly dataplane: Pick<DataplaneApi, "watchVolumes">;
  readonly reporter: EventReporter;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** What is known of one volume. */
interface Watched {
  condition: VolumeCondition;
  readonly state: Standing;
  readonly size: Standing;
  readonly lostPaths: Standing;
  readonly refusedPaths: Standing;
  /** Paths that were refused and have not been up since: while one is looked at again, it may be down for a moment. */
  refused: ReadonlyMap<string, MissingPath>;
}

/** Follows how the volumes of this node stand, and reports what an operator must know. */
export class ConditionEvents {
  readonly #options: Required<ConditionEventsOptions>;
  readonly #deps: ConditionEventsDependencies;
  readonly #volumes = new Map<string, Watched>();
  readonly #dataplane: Standing;
  /** Conditions of the node that were said since the dataplane was reached last. */
  readonly #toldNode = new Set<string>();

  constructor(options: ConditionEventsOptions, dependencies: ConditionEventsDependencies) {
    this.#options = {
      ...{ pathHoldMs: 15_000, sizeHoldMs: 60_000, dataplaneHoldMs: 30_000, remindMs: 1_800_000 },
      ...options,
    };
    this.#deps = dependencies;
    this.#dataplane = this.#standing((finding) => dependencies.reporter.tellNode(finding));
  }

  /** Runs until the signal aborts. Does not fail. */
  async run(signal: AbortSignal): Promise<void> {
    const { dataplane, clock, random, logger } = this.#deps;
    const backoff = new Backoff({ initialMs: 500, maximumMs: 10_000 }, { random });
    while (!signal.aborted) {
      try {
        for await (const update of dataplane.watchVolumes(signal)) {
          backoff.reset();
          this.#reached();
          this.#take(update);
        }
      } catch (error) {
        if (isAborted(signal)) break;
        logger.debug("watching volumes ended; it begins anew", { reason: errorMessage(error) });
        this.#dataplane.stand(unreachable(error), this.#options.dataplaneHoldMs);
      }
      await sleep(clock, backoff.next(), signal).catch(() => undefined);
    }
    this.#dataplane.end();
    for (const volumeHandle of this.#volumes.keys()) this.#forget(volumeHandle);
  }

  #reached(): void {
    if (!this.#dataplane.end()) return;
    this.#deps.reporter.tellNode({ reason: "DataplaneRestored", note: "the dataplane of this node answers again" });
  }

  #take({ isComplete, volumes, gone, node }: ConditionUpdate): void {
    if (isComplete) {
      const present = new Set(volumes.map(({ volumeHandle }) => volumeHandle));
      for (const volumeHandle of this.#volumes.keys()) if (!present.has(volumeHandle)) this.#forget(volumeHandle);
      this.#toldNode.clear();
    }
    for (const volumeHandle of gone) this.#forget(volumeHandle);
    for (const condition of volumes) this.#volume(condition);
    for (const condition of node) {
      const key = JSON.stringify(condition);
      if (this.#toldNode.has(key)) continue;
      this.#toldNode.add(key);
      this.#deps.reporter.tellNode(findingOfNode(condition));
    }
  }

  #volume(condition: VolumeCondition): void {
    const { volumeHandle, state } = condition;
    const before = this.#volumes.get(volumeHandle);
    const tell = (finding: Finding): void => this.#deps.reporter.tellVolume(volumeHandle, finding);
    const watched = before ?? this.#watched(condition, tell);
    const growth = findingOfGrowth(before?.condition, condition);
    watched.condition = condition;
    this.#volumes.set(volumeHandle, watched);
    const finding = findingOfCondition(condition);
    if (finding !== undefined) {
      watched.state.stand(finding, state === "failed" ? 0 : this.#options.pathHoldMs);
    } else if (state === "attached" && watched.state.end()) {
      tell({ reason: "VolumeRestored", note: `volume ${volumeHandle} works again` });
    }
    const size = findingOfSizes(condition);
    if (size === undefined) watched.size.end();
    else watched.size.stand(size, size.reason === "VolumeShrunk" ? 0 : this.#options.sizeHoldMs);
    if (growth !== undefined) tell(growth);
    this.#paths(watched, tell);
  }

  /** Paths come and go: only those that stay away are told, and that all are back once. */
  #paths(watched: Watched, tell: (finding: Finding) => void): void {
    const { lostPaths, refusedPaths } = watched;
    const pathsMissing = watched.condition.pathsMissing.map((path) =>
      path.isRefused ? path : (watched.refused.get(path.id) ?? path),
    );
    watched.refused = new Map(pathsMissing.filter(({ isRefused }) => isRefused).map((path) => [path.id, path]));
    const condition = { ...watched.condition, pathsMissing };
    const lost = findingOfLostPaths(condition);
    const refused = findingOfRefusedPaths(condition);
    if (lost === undefined && refused === undefined) {
      const wasTold = [lostPaths.end(), refusedPaths.end()].includes(true);
      if (!wasTold || condition.pathsTotal === 0) return;
      const { volumeHandle, pathsTotal } = condition;
      tell({ reason: "VolumePathsRestored", note: `all ${pathsTotal} paths of volume ${volumeHandle} are up` });
      return;
    }
    // One of them that ends while the other stands is no restoration: what stands says how it is now.
    if (lost === undefined) lostPaths.end();
    else lostPaths.stand(lost, this.#options.pathHoldMs);
    if (refused === undefined) refusedPaths.end();
    else refusedPaths.stand(refused, 0);
  }

  #watched(condition: VolumeCondition, tell: (finding: Finding) => void): Watched {
    const [state, size] = [this.#standing(tell), this.#standing(tell)];
    const [lostPaths, refusedPaths] = [this.#standing(tell), this.#standing(tell)];
    return { condition, state, size, lostPaths, refusedPaths, refused: new Map() };
  }

  #forget(volumeHandle: string): void {
    const watched = this.#volumes.get(volumeHandle);
    watched?.state.end();
    watched?.size.end();
    watched?.lostPaths.end();
    watched?.refusedPaths.end();
    this.#volumes.delete(volumeHandle);
  }

  #standing(tell: (finding: Finding) => void): Standing {
    return new Standing({ remindMs: this.#options.remindMs }, { clock: this.#deps.clock, tell });
  }
}

function unreachable(error: unknown): Finding {
  const note =
    errorCode(error) === "DATAPLANE_STOPPING"
      ? "the dataplane of this node stopped and has not come back"
      : `the dataplane of this node does not answer: ${errorMessage(error)}`;
  return {
    reason: "DataplaneUnreachable",
    note: `${note}; volumes can be neither attached nor detached, and the I/O of attached ones may wait for it`,
  };
}

/** A function, since the compiler takes a signal that was not aborted before an await for one that never is. */
function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}
