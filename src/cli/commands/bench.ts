import { Command, Option } from "commander";
import type { PortalAddress } from "../../base/access.js";
import type { LogLevel } from "../../base/logger.js";
import { runBench, type BenchMode } from "../../initiator/bench.js";
import { unlessStopped } from "../interrupt.js";
import { addSettingOptions, type SettingOptions } from "../initiator-settings.js";
import {
  addInitiatorOptions,
  addLogOption,
  addOutputOption,
  blockSizeArgument,
  portalsArgument,
  requirePortals,
  wholeNumber,
  type InitiatorOptions,
  type OutputOptions,
} from "../options.js";
import { formatRecord } from "../output.js";
import { withProgress } from "../progress.js";
import type { Runtime } from "../runtime.js";
import { connectForCommand } from "../volume-for-command.js";

interface BenchOptions extends InitiatorOptions, SettingOptions, OutputOptions {
  readonly portal?: readonly PortalAddress[];
  readonly target: string;
  readonly lun: number;
  readonly rw: BenchMode;
  readonly bs: number;
  readonly iodepth: number;
  readonly runtime: number;
  readonly logLevel: LogLevel;
}

const modes: readonly BenchMode[] = ["randread", "randwrite", "read", "write"];

async function bench(options: BenchOptions, runtime: Runtime): Promise<void> {
  const logger = runtime.logger("hawserctl", options.logLevel);
  const volume = await connectForCommand({ ...options, portals: requirePortals(options.portal) }, runtime, logger);
  try {
    const cpuBefore = process.cpuUsage();
    const result = await withProgress(`Running ${options.rw}`, { ...runtime, output: runtime.err }, () =>
      unlessStopped(
        runBench(
          {
            device: volume.device,
            mode: options.rw,
            blockBytes: options.bs,
            queueDepth: options.iodepth,
            runtimeMs: options.runtime * 1000,
          },
          runtime,
        ),
        runtime.signal,
      ),
    );
    const cpu = process.cpuUsage(cpuBefore);
    const cpuMicrosPerOperation = result.operations === 0 ? 0 : (cpu.user + cpu.system) / result.operations;
    const [session] = volume.sessions();
    const connections = session?.connections.length ?? 0;
    const errorRecoveryLevel = session?.errorRecoveryLevel ?? 0;
    const record = { ...result, cpuMicrosPerOperation, connections, errorRecoveryLevel };
    const rounded = Object.fromEntries(
      Object.entries(record).map(([key, value]) => [
        key,
        typeof value === "number" ? Math.round(value * 10) / 10 : value,
      ]),
    );
    runtime.out.write(formatRecord(options.output, rounded));
  } finally {
    await volume.close();
  }
}

/** `hawserctl bench`. */
export function benchCommand(runtime: Runtime): Command {
  const command = new Command("bench")
    .description("measure a LUN through the initiator alone; write modes DESTROY its data")
    .option("--portal <HOST:PORT>", "portal of the target, repeatable", portalsArgument)
    .requiredOption("--target <IQN>", "target name")
    .option("--lun <N>", "logical unit", wholeNumber(0, 16_777_215), 0)
    .addOption(new Option("--rw <MODE>", "access pattern").choices(modes).default("randread"))
    .option("--bs <SIZE>", "block size, for example 512, 4k or 1m", blockSizeArgument, 4096)
    .option("--iodepth <N>", "requests in flight", wholeNumber(1, 1024), 32)
    .option("--runtime <SECONDS>", "how long to measure", wholeNumber(1, 86_400), 5);
  addOutputOption(addLogOption(addSettingOptions(addInitiatorOptions(command)), "error"));
  return command
    .addHelpText(
      "after",
      "\nExample:\n  hawserctl bench --portal 10.0.0.5 --target iqn.2001-01.com.example:disk --lun 1 --rw randread --bs 4k --iodepth 32 --runtime 5\n",
    )
    .action((options: BenchOptions) => bench(options, runtime));
}
