import type { Cluster } from "./cluster.js";
import type { Release } from "./release.js";

/** Which backend the release has while the scenario runs: a release has one. */
export type Phase = "embedded" | "static";

/** Marks the Secrets that planted secrets are in: the one place where they may be. */
export const PLANTED_LABEL = "hawser-e2e-planted";

/** A secret that must be nowhere but where it was put. */
export interface PlantedSecret {
  readonly name: string;
  readonly text: string;
}

export interface ScenarioContext {
  readonly cluster: Cluster;
  readonly release: Release;
  /** Made for this scenario and deleted after it. */
  readonly namespace: string;
  /** Puts a figure into the table: `unit` after the value, as in `1.2 s`. */
  readonly figure: (name: string, value: number | string, unit?: string) => void;
  /** Says in the table what was left out on this machine, and why. */
  readonly note: (text: string) => void;
  /** A line on the way, for whoever watches. */
  readonly progress: (text: string) => void;
  /** Undoes something outside of the namespace; run in reverse order whatever happens. */
  readonly cleanUp: (undo: () => Promise<unknown>) => void;
  /** From now on the hunt looks for it in everything. */
  readonly plant: (secret: PlantedSecret) => void;
}

export interface Scenario {
  /** For `--only`; also the start of its namespace's name. */
  readonly name: string;
  /** What it shows, in the words of the table. */
  readonly title: string;
  readonly phase: Phase;
  /** The scenario has failed when it takes longer. */
  readonly timeoutMs: number;
  /** Rejects when something is not as it must be. */
  readonly run: (context: ScenarioContext) => Promise<void>;
}

/** Throws with `message` unless it holds. */
export function must(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(message);
}
