/** Brings up the e2e cluster, runs what is asked for in it, and ends it: see scripts/e2e. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { makeCertificates } from "./certificates.js";
import { startControlPlane } from "./control-plane.js";
import { describeCluster } from "./description.js";
import { driverArchive, importBaseImages, importImages, sidecarArchives, workloadArchive } from "./images.js";
import { PATHS } from "./layout.js";
import { startContainerd, startNode } from "./node.js";
import { interrupt, progress, runInForeground } from "./process.js";
import { ensureClusterPrograms, type ClusterPrograms } from "./programs.js";
import { isAlive, makeSandbox, readRecord, writeRecord } from "./sandbox.js";
import { ensureSidecars } from "./sidecars.js";
import { endCluster } from "./teardown.js";

const RUNNERS = {
  scenarios: join("test", "e2e", "run.ts"),
  external: join("test", "e2e", "external", "run.ts"),
  "dry-run": join("test", "e2e", "dry-run", "run.ts"),
} as const;

type Runner = keyof typeof RUNNERS;

async function refuseSecond(): Promise<void> {
  const record = await readRecord();
  if (record === undefined || !(await isAlive(record))) return;
  throw new Error("an e2e cluster is running already; end it first: scripts/e2e --down");
}

async function up(): Promise<void> {
  await refuseSecond();
  const programs = await ensureClusterPrograms();
  const sidecars = await ensureSidecars();
  const archives = [...(await sidecarArchives(sidecars.built)), await workloadArchive(), await driverArchive()];
  // What a run left that was killed.
  await endCluster();
  await makeSandbox({ kubectl: join(programs.kubernetes, "kubectl"), helm: join(programs.helm, "helm") });
  progress("sandbox made");
  await makeCertificates();
  const [containerd] = await Promise.all([startContainerd(programs), startControlPlane(programs)]);
  await importBaseImages(programs);
  await Promise.all([importImages(programs, archives), startNode(programs, containerd)]);
  progress(`${archives.length} images of the driver, its sidecars and the scenarios imported`);
  const record = await readRecord();
  if (record === undefined) throw new Error(`${PATHS.record} is gone; was the cluster ended meanwhile?`);
  await writeRecord({ ...record, ...describeCluster(sidecars) });
}

/** Builds the driver's image anew and imports it into the running cluster; pods take it when they are made anew. */
async function renewImage(): Promise<void> {
  const programs: ClusterPrograms = await ensureClusterPrograms();
  await importImages(programs, [await driverArchive()]);
  progress("the driver's image is imported; delete its pods to run it");
}

/** Runs one of the programs that use the cluster and returns its exit code. */
async function use(runner: Runner, args: readonly string[]): Promise<number> {
  const program = RUNNERS[runner];
  if (!existsSync(program)) throw new Error(`${program} is missing: this checkout has no ${runner} run`);
  return runInForeground(process.execPath, ["--import", "tsx", program, ...args]);
}

/** Everything: up, the run, and down again, however the run ends. */
async function whole(runner: Runner, args: readonly string[]): Promise<number> {
  await refuseSecond();
  try {
    await up();
    return await use(runner, ["--cluster", PATHS.record, ...args]);
  } finally {
    await endCluster();
  }
}

/** Brings it up to stay; a cluster that did not come up is ended again. */
async function upToStay(): Promise<void> {
  await refuseSecond();
  try {
    await up();
  } catch (error) {
    await endCluster();
    throw error;
  }
}

async function main(mode: string, args: readonly string[]): Promise<number> {
  switch (mode) {
    case "up":
      await upToStay();
      return 0;
    case "down":
      await endCluster();
      return 0;
    case "image":
      await renewImage();
      return 0;
    case "run":
      return use("scenarios", ["--cluster", PATHS.record, ...args]);
    case "scenarios":
    case "external":
      return whole(mode, args);
    case "dry-run":
      return use("dry-run", args);
    default:
      throw new Error(`unknown mode ${mode}; see scripts/e2e --help`);
  }
}

const [mode = "scenarios", ...args] = process.argv.slice(2);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    console.error(`${signal}: ending`);
    interrupt();
  });
}
try {
  process.exit(await main(mode, args));
} catch (error) {
  console.error(`error: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}
