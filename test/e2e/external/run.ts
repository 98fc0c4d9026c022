/**
 * Kubernetes' own external storage suite against the chart in the e2e cluster: `scripts/e2e --external`. Prints passed,
 * failed and skipped tests, the skipped ones with the suite's reasons, and fails on any failure that explained.ts does
 * not name.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, open, readFile, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { CACHE, PATHS, programFolder, VERSIONS } from "../cluster/layout.js";
import { progress, run } from "../cluster/process.js";
import { Cluster } from "../scenarios/cluster.js";
import { DRIVER } from "../scenarios/release.js";
import { hasProgram } from "../../support/needs.js";
import { EXPLAINED, LEFT_OUT } from "./explained.js";
import { importSuiteImages } from "./images.js";
import { applyStorageClass, installChart } from "./install.js";
import { ensureSuite, type SuitePrograms } from "./programs.js";
import { readReport, unregisteredReasons } from "./report.js";
import { formatSummary, isGood, summarize } from "./summary.js";

const TEST_DRIVER = resolve("deploy/e2e/testdriver.yaml");
// The node sees this machine's programs.
const LEFT_OUT_HERE = LEFT_OUT.filter(({ unless }) => unless === undefined || !hasProgram(unless));
const RESULTS = join(CACHE, "results", "external");

const { values: options } = parseArgs({
  options: {
    /** The record of the running cluster. */
    cluster: { type: "string", default: PATHS.record },
    /** Part of the suite, as a regular expression over the names of tests. */
    focus: { type: "string", default: "External.Storage" },
    /** Tests at a time: they wait for the kubelet most of their time, so two processors carry six. */
    processes: { type: "string", default: "6" },
  },
});

async function main(): Promise<number> {
  const suite = await ensureSuite();
  const cluster = Cluster.read(options.cluster);
  await importSuiteImages(suite);
  await installChart(cluster);
  const fsType = await applyStorageClass(cluster);
  progress(`the chart is installed; the class makes ${fsType}`);
  await runSuite(suite, cluster);
  const report = join(RESULTS, "report.json");
  if (!existsSync(report)) throw new Error(`the suite wrote no report; its output: ${join(RESULTS, "output.log")}`);
  const specs = readReport(await readFile(report, "utf8"));
  const unregistered = unregisteredReasons(await listTests(suite), DRIVER);
  const summary = summarize({ specs, unregistered, explained: EXPLAINED, leftOut: LEFT_OUT_HERE });
  const text = formatSummary(summary);
  await writeFile(join(RESULTS, "summary.txt"), `${text}\n`);
  await writeFile(join(RESULTS, "specs.json"), `${JSON.stringify(specs, undefined, 1)}\n`);
  console.log(`\n${text}`);
  if (fsType !== "ext4") {
    console.log(
      `note: root lacks CAP_SYS_RESOURCE here, so no mounted ext4 can grow: ${fsType} was the default instead`,
    );
  }
  console.log(`Results: ${RESULTS}`);
  return isGood(summary) ? 0 : 1;
}

/** What the suite prints while it defines its tests: run in parallel, it would keep this to itself. */
function listTests(suite: SuitePrograms): Promise<string> {
  const env = { DEBUG_STORAGE_TESTSUITE: "1" };
  return run(suite.e2e, ["--list-tests", `--storage.testdriver=${TEST_DRIVER}`], { env });
}

/** Runs the suite to its end, whatever comes out. */
async function runSuite(suite: SuitePrograms, cluster: Cluster): Promise<void> {
  await rm(RESULTS, { recursive: true, force: true });
  await mkdir(RESULTS, { recursive: true });
  const kubectl = join(programFolder("kubernetes", VERSIONS.kubernetes), "kubectl");
  const skip = LEFT_OUT_HERE.map(({ expression }) => expression.source).join("|");
  const args = [
    // The network of the cluster, and nothing else of it: an ordinary process that signals reach.
    ...["--target", String(cluster.description.sandboxPid), "--net", "--"],
    ...[suite.ginkgo, "run", `--procs=${options.processes}`, "--timeout=4h", "--no-color", "--keep-going"],
    ...[`--focus=${options.focus}`, `--skip=${skip}`],
    ...[`--output-dir=${RESULTS}`, "--json-report=report.json", "--junit-report=junit.xml"],
    ...[suite.e2e, "--", `--kubeconfig=${PATHS.admin}`, `--kubectl-path=${kubectl}`],
    ...["--provider=skeleton", `--storage.testdriver=${TEST_DRIVER}`],
  ];
  const log = join(RESULTS, "output.log");
  progress(`running the suite, ${options.processes} tests at a time; its output: ${log}`);
  const file = await open(log, "w");
  const child = spawn("nsenter", args, { stdio: ["ignore", file.fd, file.fd] });
  const [code] = (await once(child, "exit")) as [number | null];
  await file.close();
  progress(`the suite ended with ${code ?? "a signal"}`);
}

process.exitCode = await main();
