import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import type { PathPolicy } from "../../../src/multipath/path-policy.js";
import type { PolicyPhase } from "../../support/path-reports.js";
import { PathWorld, step } from "./path-world.js";

/**
 * How each policy spreads random reads over the four paths of a volume: `node path-policies.js`, in the guest. Policies,
 * weights and roles are changed while the volume is attached. Writes $RESULTS/policies.json after every phase.
 */
const run = promisify(execFile);
const PATHS = 4;
const RUN_SECONDS = 3;

interface Load {
  readonly blockBytes?: number;
  readonly depth?: number;
}

const world = await PathWorld.start({ paths: PATHS, diskBytes: 32 << 20 });
const phases: PolicyPhase[] = [];

async function read({ blockBytes = 4096, depth = 8 }: Load): Promise<void> {
  await run(
    "fio",
    [
      ...["--name=load", `--filename=${world.devicePath}`, "--rw=randread", `--bs=${blockBytes}`, "--thread=1"],
      ...["--ioengine=libaio", `--iodepth=${depth}`, "--direct=1", "--time_based=1", `--runtime=${RUN_SECONDS}`],
      "--output-format=json",
    ],
    { cwd: process.env["SCRATCH"] ?? "/run", maxBuffer: 16 << 20 },
  );
}

/** Reads for a while under this policy, and sees over which paths. */
async function phase(policy: PathPolicy, conditions: string, load: Load = {}): Promise<void> {
  await world.setPolicy(policy);
  const before = await world.paths();
  await read(load);
  const after = await world.paths();
  const requests = after.map(({ readOperations }, index) => readOperations - (before[index]?.readOperations ?? 0));
  phases.push({ policy, conditions, requests });
  writeFileSync(join(process.env["RESULTS"] ?? "/run", "policies.json"), JSON.stringify(phases));
  step(`${policy}, ${conditions}: ${requests.join(", ")}`);
}

async function setInService(numbers: readonly number[], isInService: boolean): Promise<void> {
  for (const number of numbers) await world.changePath(number, { action: isInService ? "restore" : "fail" });
  if (isInService) await world.untilAllUp(30_000);
}

/** What leaves the target over these paths comes so much later. */
async function delayBy(delays: Readonly<Record<number, string>>): Promise<void> {
  for (const [number, rule] of Object.entries(delays)) await world.lab.impair(Number(number), "far", rule);
}

async function restoreAll(): Promise<void> {
  for (const number of world.lab.numbers) await world.lab.restore(number);
}

async function inTurn(): Promise<void> {
  await phase("round-robin", "four alike");
  await delayBy({ 3: "delay 10ms" });
  await phase("round-robin", "path 3 slower by 10 ms");
  await restoreAll();
  await world.changePath(3, { isStandby: true });
  await world.changePath(4, { isStandby: true });
  await phase("round-robin-subset", "paths 3 and 4 on standby");
  await setInService([1, 2], false);
  await phase("round-robin-subset", "the same, 1 and 2 out of service");
  await setInService([1, 2], true);
  await world.changePath(3, { isStandby: false });
  await world.changePath(4, { isStandby: false });
}

async function oneAtATime(): Promise<void> {
  for (const [index, weight] of [30, 10, 20, 40].entries()) await world.changePath(index + 1, { weight });
  await phase("weighted-path", "weights 30, 10, 20, 40");
  await setInService([2], false);
  await phase("weighted-path", "the same, 2 out of service");
  await setInService([2], true);
  await phase("fail-over-only", "all in service");
  await setInService([1], false);
  await phase("fail-over-only", "1 out of service");
  await setInService([1], true);
  await phase("fail-over-only", "1 back in service");
}

async function byLoad(): Promise<void> {
  await phase("least-queue-depth", "four alike");
  await phase("least-service-time", "four alike");
  await setInService([3, 4], false);
  await delayBy({ 1: "delay 10ms", 2: "delay 1ms" });
  await phase("least-queue-depth", "1: 10 ms, 2: 1 ms");
  await phase("least-service-time", "1: 10 ms, 2: 1 ms");
  // A request costs the guest's one processor 2 ms or more by itself, on both paths alike: that counts less here.
  await delayBy({ 1: "delay 200ms", 2: "delay 20ms" });
  await phase("least-queue-depth", "1: 200 ms, 2: 20 ms", { depth: 4 });
  await phase("least-service-time", "1: 200 ms, 2: 20 ms", { depth: 4 });
  await delayBy({ 1: "rate 10mbit", 2: "rate 100mbit" });
  const load = { blockBytes: 32_768, depth: 8 };
  await phase("least-queue-depth", "1: 10 Mbit/s, 2: 100 Mbit/s", load);
  await phase("least-service-time", "1: 10 Mbit/s, 2: 100 Mbit/s", load);
  await restoreAll();
  await setInService([3, 4], true);
}

try {
  await world.attach({ multipath: "mpio", failbackDelaySeconds: "0" });
  await inTurn();
  await oneAtATime();
  await byLoad();
  await world.detach();
} finally {
  await world.remove();
}
step("done");
process.exit(0);
