import { buildForGuest } from "../support/guest-build.js";
import { faultTable, type PathFaultsReport, textTable } from "../support/path-reports.js";
import { runInUml, type UmlResult, UML_NEEDS } from "../support/uml.js";
import { FAULT_KINDS, GUEST_ALLOWANCE_MS } from "./guest/path-fault-kinds.js";

/** Programs and files of what runs in PathLab, for `describeNeeding`. */
export const PATH_LAB_NEEDS = [...UML_NEEDS, "tgtd", "tgtadm", "ip", "tc", "nsenter", "fio"] as const;

/** What the guest does before a program that uses PathLab. */
export const PATH_LAB_MODULES = "modprobe nbd nbds_max=0; modprobe veth; modprobe sch_netem\n";

export interface PathFaultsOptions {
  readonly paths: number;
  readonly faults: number;
  readonly seed: number;
  readonly outageSeconds: number;
  /** Size of each of the three parts that fio works on. */
  readonly jobMib: number;
  readonly timeoutMs: number;
}

export interface PathFaultsOutcome {
  readonly result: UmlResult;
  /** As far as it came; undefined when the guest did not begin. */
  readonly report: PathFaultsReport | undefined;
}

/** Runs test/kernel/guest/path-faults.ts in a guest of its own. */
export async function runPathFaults(options: PathFaultsOptions): Promise<PathFaultsOutcome> {
  const build = await buildForGuest();
  try {
    const result = await runInUml({
      script: `${PATH_LAB_MODULES}node ${build.folder}/test/kernel/guest/path-faults.js`,
      ...{ memory: "1500M", timeoutMs: options.timeoutMs },
      env: {
        PATHS: String(options.paths),
        FAULTS: String(options.faults),
        SEED: String(options.seed),
        OUTAGE_SECONDS: String(options.outageSeconds),
        JOB_MIB: String(options.jobMib),
      },
    });
    const text = result.files["faults.json"];
    return { result, report: text === undefined ? undefined : (JSON.parse(text) as PathFaultsReport) };
  } finally {
    await build.remove();
  }
}

/** The report for people. */
export function describePathFaults(report: PathFaultsReport): string {
  const { faults, outage, load, settings } = report;
  const mib = (bytes: number): string => (bytes / (1 << 20)).toFixed(0);
  const lines = [
    `${report.paths} paths, seed ${report.seed}, ${faults.length} faults; ` +
      Object.entries(settings)
        .map(([name, value]) => `${name} ${value}`)
        .join(", "),
    faultTable(faults, FAULT_KINDS),
    `every bound holds ${GUEST_ALLOWANCE_MS} ms for the guest's slowness besides`,
  ];
  if (outage !== undefined) {
    const { text, stallMs, boundMs, backMs } = outage;
    lines.push(`${text}: the longest wait was ${stallMs} ms, bound ${boundMs} ms; all back after ${backMs} ms`);
  }
  lines.push(
    `fio: ${load.passes} passes, ${mib(load.writtenBytes)} MiB written, ${mib(load.verifiedBytes)} MiB verified; ` +
      `${report.probes} probes; the device and the target's disk are ${report.isDataEqual ? "equal" : "DIFFERENT"}`,
    textTable(
      ["path", "went down", "requests given to another path"],
      report.pathFailures.map(({ id, failures, errors }) => [id, failures, errors]),
    ),
    `events: ${Object.entries(report.events)
      .map(([kind, count]) => `${kind} ${count}`)
      .join(", ")}`,
  );
  return lines.join("\n");
}

/** What is not as it must be, in words; empty when all is. */
export function pathFaultFindings(
  { result, report }: PathFaultsOutcome,
  options: PathFaultsOptions,
): readonly string[] {
  if (report === undefined) return ["the guest reported nothing"];
  const findings = [...report.faults, ...(report.outage === undefined ? [] : [report.outage])]
    .filter(({ stallMs, boundMs }) => stallMs > boundMs)
    .map(({ text, stallMs, boundMs }) => `${text}: I/O waited ${stallMs} ms, ${boundMs} ms are its bound`);
  const expect = (isTrue: boolean, text: string): void => {
    if (!isTrue) findings.push(text);
  };
  expect(result.exitCode === 0, `the guest's program ended with ${result.exitCode ?? "nothing"}`);
  expect(report.faults.length === options.faults, `${report.faults.length} of ${options.faults} faults were made`);
  expect(options.outageSeconds === 0 || report.outage !== undefined, "there was no outage");
  expect(report.isDataEqual, "the device and the target's disk differ");
  expect(report.load.passes > 0, "fio verified nothing");
  expect(report.sessionsLeft.length === 0, `sessions are left: ${report.sessionsLeft.join(", ")}`);
  expect(report.kernelErrors.length === 0, `the kernel says: ${report.kernelErrors.join("; ")}`);
  expect(!/I\/O error|Kernel panic/.test(result.console), "the kernel's console tells of an error");
  expect(
    report.pathFailures.length === report.paths && report.pathFailures.every(({ failures }) => failures > 0),
    "not every path went down",
  );
  expect((report.events["path-down"] ?? 0) > 0 && (report.events["path-up"] ?? 0) > 0, "no events of paths were told");
  return findings;
}
