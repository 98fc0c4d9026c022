import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { SeededRandom } from "../../../src/base/seeded-random.js";
import type { PathFaultsReport, SeenFault } from "../../support/path-reports.js";
import { type BoundSettings, drawFault, drawKinds, type Fault } from "./path-fault-kinds.js";
import { Prober, VerifiedLoad } from "./path-load.js";
import { PathWorld, step } from "./path-world.js";

/**
 * A volume over several paths under fio and a prober while its paths and its target fail: `node path-faults.js`, in the
 * guest. $PATHS, $FAULTS, $SEED, $OUTAGE_SECONDS and $JOB_MIB say how much of it. Writes $RESULTS/faults.json after every
 * fault; fails at the first I/O error and the first wrong byte.
 */
const numberOf = (name: string, otherwise: number): number => Number(process.env[name] ?? otherwise);
const MIB = 1 << 20;
const JOBS = 3;
const pathCount = numberOf("PATHS", 2);
const faultCount = numberOf("FAULTS", 10);
const seed = numberOf("SEED", 1);
const outageSeconds = numberOf("OUTAGE_SECONDS", 15);
const jobBytes = numberOf("JOB_MIB", 8) * MIB;

/** As a StorageClass would name them. */
const SETTINGS = {
  ...{ multipath: "mpio", pathPolicy: "round-robin" },
  ...{ nopOutIntervalSeconds: "1", nopOutTimeoutSeconds: "1" },
  ...{ tcpConnectTimeSeconds: "2", delayBetweenReconnectSeconds: "1" },
};

const bounds: BoundSettings = {
  nopIntervalMs: Number(SETTINGS.nopOutIntervalSeconds) * 1_000,
  nopTimeoutMs: Number(SETTINGS.nopOutTimeoutSeconds) * 1_000,
  connectTimeoutMs: Number(SETTINGS.tcpConnectTimeSeconds) * 1_000,
  reconnectDelayMs: Number(SETTINGS.delayBetweenReconnectSeconds) * 1_000,
};

/** After the end of a fault within which what it did to I/O counts as its doing. */
const AFTERMATH_MS = 1_000;
/** Longest time for I/O to go on and for paths to come back: then something hangs. */
const HANG_MS = 120_000;

const report: PathFaultsReport = {
  ...{ paths: pathCount, seed, settings: SETTINGS, faults: [], load: { passes: 0, writtenBytes: 0, verifiedBytes: 0 } },
  ...{ probes: 0, events: {}, pathFailures: [], isDataEqual: false, sessionsLeft: [], kernelErrors: [] },
};

function save(change: Partial<PathFaultsReport> = {}): void {
  Object.assign(report, change);
  writeFileSync(join(process.env["RESULTS"] ?? "/run", "faults.json"), JSON.stringify(report));
}

/** What a kernel says when a device has met an error. */
function kernelErrors(): readonly string[] {
  const lines = execFileSync("dmesg", { encoding: "utf8" }).split("\n");
  return lines.filter((line) => /I\/O error|Buffer I|Connection timed out|Oops|BUG:/.test(line));
}

async function suffer(fault: Fault, world: PathWorld, prober: Prober): Promise<SeenFault> {
  const { kind, text, durationMs } = fault;
  const isFelt = (await world.paths()).some(({ isChosen }, index) => isChosen && fault.paths.includes(index + 1));
  const beginMs = Date.now();
  await fault.begin();
  await delay(durationMs);
  await fault.end();
  const endMs = Date.now();
  await prober.until(endMs + AFTERMATH_MS, HANG_MS);
  const stallMs = prober.longestWaitMs(beginMs, endMs + AFTERMATH_MS);
  if (prober.bad.length > 0) throw new Error(`${text}: ${prober.bad.join("; ")}`);
  const tookMs = endMs - beginMs;
  await world.untilAllUp(HANG_MS);
  const seen = { kind, text, isFelt, tookMs, stallMs, boundMs: fault.boundMs(tookMs), backMs: Date.now() - endMs };
  step(`${text}: ${tookMs} ms, I/O waited ${stallMs} of ${seen.boundMs} ms, all back after ${seen.backMs} ms`);
  return seen;
}

async function sufferAll(world: PathWorld, prober: Prober): Promise<void> {
  const random = new SeededRandom(seed);
  const faults: SeenFault[] = [];
  for (const kind of drawKinds(faultCount, random)) {
    const fault = drawFault(kind, world.lab, bounds, random);
    faults.push(await suffer(fault, world, prober));
    save({ faults });
    await delay(random.fraction() * 500);
  }
  if (outageSeconds === 0) return;
  const outage = { ...drawFault("all links down", world.lab, bounds, random), durationMs: outageSeconds * 1_000 };
  const waiting = delay(outage.durationMs / 2).then(() => prober.operations);
  const seen = await suffer(
    { ...outage, text: `every path down for ${outageSeconds} s`, end: () => endOutage(outage, prober, waiting) },
    world,
    prober,
  );
  save({ outage: seen });
}

/** Nothing may have ended while no path was there: neither well nor with an error. */
async function endOutage(outage: Fault, prober: Prober, before: Promise<number>): Promise<void> {
  const ended = prober.operations - (await before);
  if (ended > 0) throw new Error(`${ended} operations ended while every path was down`);
  await outage.end();
}

const world = await PathWorld.start({ paths: pathCount, diskBytes: JOBS * jobBytes + MIB });
try {
  await world.attach(SETTINGS);
  const load = new VerifiedLoad({ device: world.devicePath, jobs: JOBS, jobBytes, rateBytes: 500_000, seed });
  const prober = new Prober(world.devicePath, JOBS * jobBytes);
  await prober.until(1, HANG_MS);
  await Promise.race([sufferAll(world, prober), load.failure()]);
  await prober.end();
  save({ probes: prober.operations });
  step(`${prober.operations} probes; waiting for the last pass of fio`);
  save({ load: await load.end() });
  const [device, backing] = [await world.deviceDigest(), await world.lab.backingDigest()];
  step(`the device is ${device}, what the target has ${backing}`);
  save({
    isDataEqual: device === backing,
    kernelErrors: kernelErrors(),
    pathFailures: (await world.paths()).map(({ id, failures, errors }) => ({ id, failures, errors })),
  });
  await world.detach();
  await delay(500);
  save({ sessionsLeft: await world.lab.sessions() });
} catch (error) {
  console.log(execFileSync("dmesg", { encoding: "utf8" }).split("\n").slice(-15).join("\n"));
  throw error;
} finally {
  save({ events: world.events });
  await world.remove();
}
step("done");
process.exit(0);
