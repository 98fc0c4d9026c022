import { join } from "node:path";
import { describeNeeding } from "../support/needs.js";
import { expectUmlSuccess } from "../support/uml.js";
import { ALL_FAULT_KINDS } from "./guest/path-fault-kinds.js";
import { describePathFaults, PATH_LAB_NEEDS, pathFaultFindings, runPathFaults } from "./path-fault-run.js";

/** The short form of `scripts/paths`: every kind of fault at least once. */
describeNeeding([...PATH_LAB_NEEDS, join(process.cwd(), "dist", "main.js")], "a volume of two paths", () => {
  it("gives no I/O error and loses no byte while links, paths and the target fail", async () => {
    const options = { paths: 2, faults: 10, seed: 7, outageSeconds: 15, jobMib: 4, timeoutMs: 220_000 };
    const outcome = await runPathFaults(options);
    if (outcome.report !== undefined) process.stdout.write(`${describePathFaults(outcome.report)}\n`);
    expectUmlSuccess(outcome.result);
    expect(pathFaultFindings(outcome, options)).toEqual([]);
    expect(new Set(outcome.report?.faults.map(({ kind }) => kind))).toEqual(new Set(ALL_FAULT_KINDS));
  }, 240_000);
});
