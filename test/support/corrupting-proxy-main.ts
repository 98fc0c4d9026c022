import { renameSync, writeFileSync } from "node:fs";
import { CorruptingProxy, type CorruptingProxyOptions } from "./corrupting-proxy.js";

/**
 * The corrupting proxy as a process of its own: `corrupting-proxy-main CONFIG`, CONFIG being JSON. It prints `ready`,
 * writes its report to `reportFile` every second, and ends with SIGTERM. SIGUSR1 begins the killing, SIGUSR2 ends it.
 */
interface ProcessOptions extends CorruptingProxyOptions {
  readonly reportFile: string;
  /** While killing: one connection after the other, so far apart. */
  readonly killEveryMs?: number;
}

const options = JSON.parse(process.argv[2] ?? "") as ProcessOptions;
const proxy = await CorruptingProxy.start(options);
let killing: NodeJS.Timeout | undefined;

function report(): void {
  // A reader never sees half a report.
  writeFileSync(`${options.reportFile}.new`, JSON.stringify(proxy.report));
  renameSync(`${options.reportFile}.new`, options.reportFile);
}

const reporting = setInterval(report, 1000);
process.on("SIGUSR1", () => {
  killing ??= setInterval(() => proxy.killNext(), options.killEveryMs ?? 1000);
});
process.on("SIGUSR2", () => {
  clearInterval(killing);
  killing = undefined;
});
process.on("SIGTERM", () => {
  clearInterval(killing);
  clearInterval(reporting);
  report();
  void proxy.close();
});
report();
console.log("ready");
