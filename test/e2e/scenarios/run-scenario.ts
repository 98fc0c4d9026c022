import { setTimeout as delay } from "node:timers/promises";
import type { Cluster } from "./cluster.js";
import { diagnose } from "./diagnostics.js";
import type { Release } from "./release.js";
import type { PlantedSecret, Scenario } from "./scenario.js";

export interface Figure {
  readonly name: string;
  readonly value: number | string;
  readonly unit: string;
}

/** A line of the table. */
export interface Outcome {
  readonly name: string;
  readonly title: string;
  readonly isPassed: boolean;
  readonly durationMs: number;
  readonly figures: readonly Figure[];
  readonly notes: readonly string[];
  /** Why it failed; empty when it passed. */
  readonly problem: string;
  /** Objects, events and logs at the failure. */
  readonly diagnostics: string;
}

export interface ScenarioPorts {
  readonly cluster: Cluster;
  readonly release: Release;
  readonly plant: (secret: PlantedSecret) => void;
  readonly print: (line: string) => void;
}

/** Runs one scenario in a namespace of its own and takes it away again. Never rejects. */
export async function runScenario(scenario: Scenario, ports: ScenarioPorts): Promise<Outcome> {
  const { cluster, release, plant, print } = ports;
  const namespace = `${scenario.name}-${Date.now().toString(36)}`;
  const figures: Figure[] = [];
  const notes: string[] = [];
  const undos: (() => Promise<unknown>)[] = [];
  const startedAt = Date.now();
  print(`>>> ${scenario.name}: ${scenario.title}`);
  let problem = "";
  let diagnostics = "";
  try {
    await cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
    const run = scenario.run({
      ...{ cluster, release, namespace, plant },
      figure: (name, value, unit = "") => figures.push({ name, value, unit }),
      note: (text) => notes.push(text),
      progress: (text) => print(`      ${text}`),
      cleanUp: (undo) => undos.push(undo),
    });
    await Promise.race([run, timeUp(scenario.timeoutMs)]);
  } catch (error) {
    problem = (error as Error).message;
    diagnostics = await diagnose(cluster, namespace);
  }
  const durationMs = Date.now() - startedAt;
  for (const undo of undos.reverse()) {
    await undo().catch((error: unknown) => (problem ||= `cleaning up: ${(error as Error).message}`));
  }
  // Its pods and volumes go while the next scenario begins; the uninstall waits for all of them.
  await cluster.kubectl(["delete", "namespace", namespace, "--wait=false"]).catch(() => undefined);
  const outcome = { name: scenario.name, title: scenario.title, durationMs, figures, notes, problem, diagnostics };
  print(`    ${problem === "" ? "passed" : "FAILED"} after ${(durationMs / 1000).toFixed(1)} s ${problem}`);
  return { ...outcome, isPassed: problem === "" };
}

async function timeUp(timeoutMs: number): Promise<never> {
  await delay(timeoutMs, undefined, { ref: false });
  throw new Error(`not finished after ${timeoutMs / 1000} s`);
}
