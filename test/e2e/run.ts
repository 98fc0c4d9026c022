import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { auditedRequests, grantedPermissions, judge, type Permission } from "./proof/audit.js";
import { SecretHunt } from "./proof/canary.js";
import { LoopDeviceWatch, leftoversAfterUninstall } from "./proof/leftovers.js";
import { EXPLAINED_PERMISSIONS } from "./proof/unused-permissions.js";
import { formatTable, writeResults, type RunResult } from "./results.js";
import { Cluster, until } from "./scenarios/cluster.js";
import { SCENARIOS } from "./scenarios/index.js";
import { PATHS } from "./cluster/layout.js";
import { Release, RELEASE_NAMESPACE, STORE_DIRECTORY } from "./scenarios/release.js";
import { runScenario, type Figure, type Outcome } from "./scenarios/run-scenario.js";
import type { Phase } from "./scenarios/scenario.js";

const HELP = `Runs the end-to-end scenarios in a cluster that scripts/e2e brought up.
  --cluster FILE   what scripts/e2e wrote about the cluster; default ${PATHS.record}
  --only NAME      only this scenario, repeatable: ${SCENARIOS.map(({ name }) => name).join(", ")}
  --keep           leave the release installed at the end (for a look around); nothing is proved about the uninstall
`;

const { values: options } = parseArgs({
  options: {
    cluster: { type: "string", default: PATHS.record },
    only: { type: "string", multiple: true, default: [] },
    keep: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** The whole run: the release in each of its phases, and the proofs over all of it. */
class Run {
  readonly #cluster: Cluster;
  readonly #release: Release;
  readonly #hunt: SecretHunt;
  readonly #loops = new LoopDeviceWatch();
  readonly #outcomes: Outcome[] = [];
  readonly #permissions: Permission[] = [];

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#release = new Release(cluster, resolve("charts/hawser"));
    this.#hunt = new SecretHunt(cluster);
  }

  async all(only: readonly string[], isKept: boolean): Promise<readonly Outcome[]> {
    for (const phase of ["embedded", "static"] as const) {
      const scenarios = SCENARIOS.filter(
        (scenario) => scenario.phase === phase && (only.length === 0 || only.includes(scenario.name)),
      );
      if (scenarios.length === 0) continue;
      if (!(await this.#step(`install-${phase}`, `helm install, backend ${phase}`, () => this.#install(phase)))) break;
      for (const scenario of scenarios) {
        const ports = { cluster: this.#cluster, release: this.#release, print };
        const plant = (secret: { name: string; text: string }): void => this.#hunt.plant(secret);
        this.#outcomes.push(await runScenario(scenario, { ...ports, plant }));
        await this.#loops.note();
        await this.#hunt.sweep();
      }
      if (isKept) return this.#outcomes;
      const title = "helm uninstall leaves no object, mount, device, session, process or socket";
      if (!(await this.#step(`uninstall-${phase}`, title, (figure) => this.#uninstall(figure)))) break;
    }
    await this.#step("secrets", "planted secrets are nowhere but in their Secret", (figure) => this.#secrets(figure));
    // Part of the scenarios uses part of the rights.
    if (only.length === 0) {
      await this.#step("rbac", "no request refused, no right unused", (figure) => this.#rbac(figure));
    }
    return this.#outcomes;
  }

  /** A step of the run as a line of the table. False when it failed. */
  async #step(
    name: string,
    title: string,
    run: (figure: (name: string, value: number | string, unit?: string) => void) => Promise<void>,
  ): Promise<boolean> {
    const startedAt = Date.now();
    const figures: Figure[] = [];
    print(`>>> ${name}: ${title}`);
    let problem = "";
    try {
      await run((figure, value, unit = "") => figures.push({ name: figure, value, unit }));
    } catch (error) {
      problem = (error as Error).message;
    }
    const isPassed = problem === "";
    const durationMs = Date.now() - startedAt;
    print(`    ${isPassed ? "passed" : "FAILED"} after ${(durationMs / 1000).toFixed(1)} s ${problem}`);
    this.#outcomes.push({ name, title, isPassed, durationMs, figures, notes: [], problem, diagnostics: "" });
    return isPassed;
  }

  async #install(phase: Phase): Promise<void> {
    await this.#cluster.host(["mkdir", "-p", STORE_DIRECTORY]);
    await this.#release.install(phase);
    this.#permissions.push(...grantedPermissions(await this.#release.manifest()));
  }

  async #uninstall(figure: (name: string, value: string) => void): Promise<void> {
    await this.#scenariosGone();
    await this.#loops.note();
    await this.#hunt.sweep();
    await this.#release.uninstall();
    const { found, kept } = await leftoversAfterUninstall(this.#cluster, this.#loops);
    figure("kept on the node", kept.length === 0 ? "nothing" : kept.join(", "));
    if (found.length > 0) throw new Error(`left behind:\n${found.map((line) => `      ${line}`).join("\n")}`);
    await this.#cluster.kubectl(["delete", "namespace", RELEASE_NAMESPACE, "--wait=true"]);
    await this.#cluster.host(["rm", "-rf", STORE_DIRECTORY]);
  }

  /** Volumes have to be unmounted and deleted by the driver while there is one. */
  async #scenariosGone(): Promise<void> {
    const isScenario = (name: string): boolean =>
      SCENARIOS.some((scenario) => name.startsWith(`${scenario.name}-`) && name.length <= scenario.name.length + 10);
    await until(
      async () => {
        const namespaces = await this.#cluster.list("namespaces");
        const left = namespaces.filter(({ metadata }) => isScenario(metadata.name));
        const volumes = await this.#cluster.list("pv,volumeattachments");
        return left.length === 0 && volumes.length === 0 ? true : undefined;
      },
      { what: "the scenarios' namespaces and volumes to be gone", timeoutMs: 120_000 },
    );
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- a step is asynchronous
  async #secrets(figure: (name: string, value: number, unit?: string) => void): Promise<void> {
    const { found, places, bytes, processes } = this.#hunt.end();
    figure("searched", places, "places");
    figure("bytes", Math.round(bytes / 1_048_576), "MiB");
    figure("processes", processes);
    if (found.length > 0) throw new Error(`seen in:\n${found.map((line) => `      ${line}`).join("\n")}`);
  }

  async #rbac(figure: (name: string, value: number) => void): Promise<void> {
    const log = await readFile(this.#cluster.description.auditLog, "utf8");
    const requests = auditedRequests(log, RELEASE_NAMESPACE);
    const verdict = judge(this.#permissions, requests, EXPLAINED_PERMISSIONS);
    figure("requests", verdict.requests);
    figure("rights", verdict.permissions);
    for (const line of verdict.explained) print(`      not used in this run: ${line}`);
    const problems = [
      ...verdict.refused.map((line) => `refused: ${line}`),
      ...verdict.unused.map((line) => `never used: ${line}`),
      ...verdict.idleExplanations.map((line) => `explained for nothing: ${line}`),
      ...(verdict.requests === 0 ? ["the audit log has no request of the release's accounts"] : []),
    ];
    if (problems.length > 0) throw new Error(`\n${problems.map((line) => `      ${line}`).join("\n")}`);
  }
}

async function main(): Promise<number> {
  if (options.help) {
    print(HELP);
    return 0;
  }
  const unknown = options.only.filter((name) => !SCENARIOS.some((scenario) => scenario.name === name));
  if (unknown.length > 0) {
    print(`There is no scenario ${unknown.join(", ")}.`);
    print(HELP);
    return 2;
  }
  const cluster = Cluster.read(options.cluster);
  const startedAt = new Date();
  const outcomes = await new Run(cluster).all(options.only, options.keep);
  const result: RunResult = {
    startedAt: startedAt.toISOString(),
    durationMs: Date.now() - startedAt.getTime(),
    outcomes,
    notes: cluster.description.notes,
  };
  const directory = join(resolve(".cache/e2e"), "results");
  writeResults(directory, result);
  for (const { name, diagnostics } of outcomes) if (diagnostics !== "") print(`\n=== ${name}\n${diagnostics}`);
  print(`\n${formatTable(result)}\nResults: ${directory}`);
  return outcomes.every(({ isPassed }) => isPassed) ? 0 : 1;
}

process.exitCode = await main();
