/** The long fault test of several paths: see scripts/paths. */
import { parseArgs } from "node:util";
import { describePathFaults, pathFaultFindings, runPathFaults } from "./path-fault-run.js";

const { values } = parseArgs({
  options: {
    faults: { type: "string", default: "200" },
    portals: { type: "string", default: "2,4" },
    seed: { type: "string", default: "1" },
    outage: { type: "string", default: "90" },
  },
});

/** Longest time of one fault with what comes after it; most take less than ten seconds. */
const FAULT_MS = 20_000;

let isGood = true;
for (const paths of values.portals.split(",").map(Number)) {
  const [faults, seed, outageSeconds] = [Number(values.faults), Number(values.seed), Number(values.outage)];
  if (![paths, faults, seed, outageSeconds].every(Number.isSafeInteger) || paths < 2) {
    throw new Error("write whole numbers, and two portals or more");
  }
  const timeoutMs = 300_000 + faults * FAULT_MS + outageSeconds * 1_000;
  const options = { ...{ paths, faults, seed, outageSeconds, timeoutMs }, jobMib: 8 };
  process.stdout.write(
    `${paths} portals, ${faults} faults: this takes some ${Math.ceil((faults * 7) / 60) + 2} minutes\n`,
  );
  const outcome = await runPathFaults(options);
  const findings = pathFaultFindings(outcome, options);
  if (outcome.report !== undefined) process.stdout.write(`${describePathFaults(outcome.report)}\n\n`);
  if (findings.length === 0) continue;
  isGood = false;
  const log = outcome.result.files["dataplane.log"] ?? "";
  process.stdout.write(`--- the guest said\n${outcome.result.output.slice(-6_000)}\n`);
  process.stdout.write(`--- the dataplane's log ends\n${log.slice(-8_000)}\n`);
  process.stdout.write(`${findings.map((finding) => `FOUND: ${finding}`).join("\n")}\n`);
}
process.exit(isGood ? 0 : 1);
