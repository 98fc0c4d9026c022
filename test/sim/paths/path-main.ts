import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { runMutants } from "../mutants/run.js";
import { runParallel, type SeedRange, serveRanges } from "../parallel.js";
import { rememberRegressions } from "../regressions.js";
import { formatCounts } from "../tally.js";
import { PATH_FAULT_KINDS } from "./path-faults.js";
import { PATH_MUTANTS } from "./path-mutants.js";
import { PATH_RECOVERY_KINDS } from "./path-observer.js";
import { addPathResult, addPathTally, emptyPathTally, type PathTally } from "./path-tally.js";
import { PathWorld } from "./path-world.js";

/** From so many seeds on, everything that can happen must have happened. */
const SEEDS_THAT_SHOW_ALL = 1_000;
const SHOWN_FAILURES = 20;

/** What must have happened beside the faults: the answers of the path layer, and what an administrator does. */
const RECOVERY_THAT_MUST_HAPPEN = [
  ...PATH_RECOVERY_KINDS,
  "path-up",
  "path-down",
  "path-refused",
  "access-state-changed",
  "path-failed-by-operator",
  "path-restored-by-operator",
  "capacity-disagrees",
  "no-path",
  "path-available",
  "process restarted",
];
const CHANGES_THAT_MUST_HAPPEN = ["policy", "fail path", "restore path", "weight", "role"];

const folder = import.meta.dirname;

export interface PathArguments {
  readonly seed?: string;
  readonly seeds?: string;
  readonly from: string;
  readonly jobs: string;
  readonly trace: boolean;
  readonly mutants: boolean;
  readonly "until-failure": boolean;
  readonly remember: boolean;
  readonly serve: boolean;
}

/** The simulation of paths, as its arguments say; `simFolder` holds the main program. */
export async function runPaths(values: PathArguments, simFolder: string): Promise<void> {
  const jobs = Number(values.jobs);
  const range = { from: Number(values.from), count: Number(values.seeds ?? 300) };
  if (values.serve) serveRanges(runRange);
  else if (values.mutants) process.exitCode = (await runMutants(PATH_MUTANTS, jobs, ["--paths"])) ? 0 : 1;
  else if (values["until-failure"]) await runUntilFailure(range);
  else if (values.seed !== undefined) await replay(Number(values.seed), values.trace);
  else await runSeeds(range, jobs, { script: join(simFolder, "main.ts"), isRemembering: values.remember });
}

async function runRange({ from, count }: SeedRange): Promise<PathTally> {
  const tally = emptyPathTally();
  const before = process.cpuUsage();
  for (let seed = from; seed < from + count; seed += 1) addPathResult(tally, await new PathWorld(seed).run());
  const { user, system } = process.cpuUsage(before);
  tally.cpuMs = (user + system) / 1000;
  return tally;
}

async function runSeeds(
  range: SeedRange,
  jobs: number,
  { script, isRemembering }: { readonly script: string; readonly isRemembering: boolean },
): Promise<void> {
  let shown = 0;
  const options = { jobs, script, args: ["--paths", "--serve"] };
  const tally = await runParallel(range, options, emptyPathTally(), (total, part) => {
    addPathTally(total, part);
    const { seeds, failed } = total;
    if (seeds - shown < 250) return;
    shown = seeds;
    console.log(`${seeds} of ${range.count} seeds, ${failed.length} failed`);
  });
  printTally(tally);
  const failed = [...tally.failed].sort((a, b) => a.seed - b.seed);
  const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8", cwd: folder }).trim();
  for (const { seed, violations } of failed.slice(0, SHOWN_FAILURES)) {
    console.log(`\nseed ${seed} failed at commit ${commit}:\n  ${violations.join("\n  ")}`);
  }
  if (isRemembering) {
    rememberRegressions(
      folder,
      failed.map(({ seed, violations }) => ({ seed, note: `${commit}: ${violations[0]?.split("\n")[0] ?? ""}` })),
    );
  }
  const never = neverHappened(tally);
  const isBlind = range.count >= SEEDS_THAT_SHOW_ALL && never.length > 0;
  if (isBlind) console.log(`these never happened: ${never.join(", ")}`);
  console.log(`sim: ${tally.seeds - failed.length} seeds of paths passed, ${failed.length} failed`);
  process.exitCode = failed.length > 0 || isBlind ? 1 : 0;
}

function neverHappened(tally: PathTally): readonly string[] {
  return [
    ...PATH_FAULT_KINDS.filter((kind) => (tally.fired[kind] ?? 0) === 0),
    ...RECOVERY_THAT_MUST_HAPPEN.filter((kind) => (tally.recovery[kind] ?? 0) === 0),
    ...CHANGES_THAT_MUST_HAPPEN.filter((kind) => (tally.changes[kind] ?? 0) === 0),
  ];
}

function printTally(tally: PathTally): void {
  console.log(`\nfaults that happened\n${formatCounts(tally.fired)}`);
  console.log(`\nwhat the paths did\n${formatCounts(tally.recovery)}`);
  console.log(`\nchanges under load\n${formatCounts(tally.changes)}`);
  console.log(`\nrules, by how often they were looked at\n${formatCounts(tally.checked)}`);
  if (Object.keys(tally.failures).length > 0) {
    console.log(
      `\nrequests that failed, as they may after a limit or when another node took the unit\n${formatCounts(tally.failures)}`,
    );
  }
  const cpuMs = (tally.cpuMs / Math.max(1, tally.seeds)).toFixed(1);
  const hours = (tally.virtualMs / 3_600_000).toFixed(1);
  const longest = (tally.longestMs / 1_000).toFixed(1);
  console.log(
    `\n${tally.operations} requests in ${hours} h of virtual time, the longest took ${longest} s; ${cpuMs} ms of CPU per seed`,
  );
}

/** For those who look for the first seed that fails: it is printed as JSON. */
async function runUntilFailure({ from, count }: SeedRange): Promise<void> {
  for (let seed = from; seed < from + count; seed += 1) {
    const { violations } = await new PathWorld(seed).run();
    const [violation] = violations;
    if (violation === undefined) continue;
    console.log(JSON.stringify({ seed, violation }));
    process.exitCode = 1;
    return;
  }
}

async function replay(seed: number, isTracing: boolean): Promise<void> {
  const world = new PathWorld(seed, isTracing ? { print: (line) => console.log(line) } : {});
  const { plan, hash, violations, fired, recovery, operations, failures, longestMs, virtualMs } = await world.run();
  console.log(`seed ${seed}\n${JSON.stringify(plan, undefined, 2)}`);
  const seen = { fired, recovery, operations, failures, longestMs: Math.round(longestMs) };
  console.log(JSON.stringify({ ...seen, virtualMs: Math.round(virtualMs) }, undefined, 2));
  for (const violation of violations) console.log(violation);
  console.log(`trace ${hash}, ${violations.length} violations`);
  process.exitCode = violations.length > 0 ? 1 : 0;
}
