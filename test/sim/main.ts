import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { MUTANTS } from "./mutants/mutants.js";
import { runMutants } from "./mutants/run.js";
import { runParallel, type SeedRange, serveRanges } from "./parallel.js";
import { runPaths } from "./paths/path-main.js";
import { rememberRegressions } from "./regressions.js";
import { sweep } from "./sweep.js";
import { addResult, addTally, emptyTally, formatCounts, type Tally } from "./tally.js";
import { FAULT_KINDS } from "./fault-plan.js";
import { SimWorld } from "./world.js";

/** From so many seeds on, every kind of fault must have happened. */
const SEEDS_THAT_SHOW_ALL = 1_000;
const SHOWN_FAILURES = 20;

const folder = import.meta.dirname;

const HELP = `Runs the initiator against the embedded target in a simulation; see docs/simulation.md.
  npm run sim -- --seed N [--trace]      one seed, with what it drew, what went wrong and the hash of its trace
  npm run sim -- --seeds N [--from K]    a range, in two processes (--jobs N); a seed that fails joins the
                                         regressions (not with --no-remember)
  npm run sim -- --until-failure --seeds N [--from K]
  npm run sim -- --sweep [--seed N] [--steps N]
  npm run sim -- --mutants               mistakes put into copies of the sources must be caught
  npm run sim -- --paths ...             worlds of several sessions per volume: --seed, --seeds, --trace, --until-failure
                                         and --mutants mean the same there
`;

async function runRange({ from, count }: SeedRange): Promise<Tally> {
  const tally = emptyTally();
  const before = process.cpuUsage();
  for (let seed = from; seed < from + count; seed += 1) addResult(tally, await new SimWorld(seed).run());
  const { user, system } = process.cpuUsage(before);
  tally.cpuMs = (user + system) / 1000;
  return tally;
}

function commit(): string {
  return execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8", cwd: folder }).trim();
}

async function runSeeds(range: SeedRange, jobs: number, isRemembering: boolean): Promise<void> {
  let shown = 0;
  const options = { jobs, script: join(folder, "main.ts"), args: ["--serve"] };
  const tally = await runParallel(range, options, emptyTally(), (total, part) => {
    addTally(total, part);
    const { seeds, failed } = total;
    if (seeds - shown < 500) return;
    shown = seeds;
    console.log(`${seeds} of ${range.count} seeds, ${failed.length} failed`);
  });
  console.log(`\nfaults that happened\n${formatCounts(tally.fired)}`);
  console.log(`\nrecovery by the initiator\n${formatCounts(tally.recovery)}`);
  console.log(`\nrecovery by the target\n${formatCounts(tally.targetRecovery)}`);
  console.log(`\nchanges under load\n${formatCounts(tally.changes)}`);
  console.log(`\nrules, by how often they were looked at\n${formatCounts(tally.checked)}`);
  if (Object.keys(tally.failures).length > 0) {
    console.log(`\noperations that failed, as they may after a refusal\n${formatCounts(tally.failures)}`);
  }
  const cpuMs = (tally.cpuMs / Math.max(1, tally.seeds)).toFixed(1);
  const hours = (tally.virtualMs / 3_600_000).toFixed(1);
  console.log(`\n${tally.operations} operations in ${hours} h of virtual time, ${cpuMs} ms of CPU per seed`);
  const failed = [...tally.failed].sort((a, b) => a.seed - b.seed);
  for (const { seed, violations } of failed.slice(0, SHOWN_FAILURES)) {
    console.log(`\nseed ${seed} failed at commit ${commit()}:\n  ${violations.join("\n  ")}`);
  }
  if (isRemembering) {
    rememberRegressions(
      folder,
      failed.map(({ seed, violations }) => ({ seed, note: `${commit()}: ${violations[0]?.split("\n")[0] ?? ""}` })),
    );
  }
  const never = FAULT_KINDS.filter((kind) => (tally.fired[kind] ?? 0) === 0);
  const isBlind = range.count >= SEEDS_THAT_SHOW_ALL && never.length > 0;
  if (isBlind) console.log(`these faults never happened: ${never.join(", ")}`);
  console.log(`sim: ${tally.seeds - failed.length} seeds passed, ${failed.length} failed`);
  process.exitCode = failed.length > 0 || isBlind ? 1 : 0;
}

/** For those who look for the first seed that fails: it is printed as JSON. */
async function runUntilFailure({ from, count }: SeedRange): Promise<void> {
  for (let seed = from; seed < from + count; seed += 1) {
    const { violations } = await new SimWorld(seed).run();
    const [violation] = violations;
    if (violation === undefined) continue;
    console.log(JSON.stringify({ seed, violation }));
    process.exitCode = 1;
    return;
  }
}

async function replay(seed: number, isTracing: boolean): Promise<void> {
  const world = new SimWorld(seed, isTracing ? { print: (line) => console.log(line) } : {});
  const { plan, hash, violations, fired, recovery, operations, virtualMs } = await world.run();
  const printable = { ...plan, cuts: Object.fromEntries(plan.cuts) };
  console.log(`seed ${seed}\n${JSON.stringify(printable, undefined, 2)}`);
  console.log(JSON.stringify({ fired, recovery, operations, virtualMs: Math.round(virtualMs) }, undefined, 2));
  for (const violation of violations) console.log(violation);
  console.log(`trace ${hash}, ${violations.length} violations`);
  process.exitCode = violations.length > 0 ? 1 : 0;
}

async function runSweep(seed: number, steps: number): Promise<void> {
  let worlds = 0;
  let failed = 0;
  for await (const { wire, isToTarget, afterBytes, result } of sweep(seed, steps)) {
    worlds += 1;
    if (result.violations.length === 0) continue;
    failed += 1;
    const direction = isToTarget ? "to the target" : "to the initiator";
    console.log(`connection ${wire} cut after byte ${afterBytes} ${direction}:\n  ${result.violations.join("\n  ")}`);
  }
  console.log(`sim: ${worlds - failed} cuts passed, ${failed} failed`);
  process.exitCode = failed > 0 ? 1 : 0;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seed: { type: "string" },
      seeds: { type: "string" },
      from: { type: "string", default: "1" },
      jobs: { type: "string", default: "2" },
      steps: { type: "string", default: "400" },
      trace: { type: "boolean", default: false },
      sweep: { type: "boolean", default: false },
      mutants: { type: "boolean", default: false },
      "until-failure": { type: "boolean", default: false },
      remember: { type: "boolean", default: true },
      serve: { type: "boolean", default: false },
      paths: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
    allowNegative: true,
  });
  const seed = Number(values.seed ?? 1);
  if (values.help) process.stdout.write(HELP);
  else if (values.paths) await runPaths(values, folder);
  else if (values.serve) serveRanges(runRange);
  else if (values.mutants) process.exitCode = (await runMutants(MUTANTS, Number(values.jobs))) ? 0 : 1;
  else if (values["until-failure"]) await runUntilFailure({ from: Number(values.from), count: Number(values.seeds) });
  else if (values.sweep) await runSweep(seed, Number(values.steps));
  else if (values.seed !== undefined) await replay(seed, values.trace);
  else {
    const range = { from: Number(values.from), count: Number(values.seeds ?? 300) };
    await runSeeds(range, Number(values.jobs), values.remember);
  }
}

await main();
