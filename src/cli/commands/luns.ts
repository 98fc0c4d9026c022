import { Command } from "commander";
import type { PortalAddress } from "../../base/access.js";
import { AppError } from "../../base/errors.js";
import type { LogLevel } from "../../base/logger.js";
import { formatSize } from "../../base/size.js";
import { listTargetLuns, type LunDescription } from "../../initiator/list-target-luns.js";
import { planSession } from "../../initiator/session-plan.js";
import { createIsid } from "../../initiator/isid.js";
import { TcpDialer } from "../../transport/tcp.js";
import { TransportError } from "../../transport/transport.js";
import { addSettingOptions, settingsOf, type SettingOptions } from "../initiator-settings.js";
import {
  addInitiatorOptions,
  addLogOption,
  addOutputOption,
  initiatorNameOf,
  portalsArgument,
  readChap,
  requirePortals,
  type InitiatorOptions,
  type OutputOptions,
} from "../options.js";
import { formatRows, type Column } from "../output.js";
import { withProgress } from "../progress.js";
import { corePorts, type Runtime } from "../runtime.js";

interface LunsOptions extends InitiatorOptions, SettingOptions, OutputOptions {
  readonly portal?: readonly PortalAddress[];
  readonly target: string;
  readonly logLevel: LogLevel;
}

const columns: readonly Column<LunDescription>[] = [
  { heading: "LUN", cell: (row) => row.lun },
  { heading: "TYPE", cell: (row) => row.deviceType },
  { heading: "SIZE", cell: (row) => (row.sizeBytes === 0 ? "-" : formatSize(row.sizeBytes)) },
  { heading: "BLOCK", cell: (row) => (row.logicalBlockBytes === 0 ? "-" : row.logicalBlockBytes) },
  { heading: "VENDOR", cell: (row) => row.vendor },
  { heading: "PRODUCT", cell: (row) => row.product },
  { heading: "SERIAL", cell: (row) => row.serial },
  { heading: "IDENTITY", cell: (row) => row.id },
];

/** Asks at the first portal that can be reached. */
async function askTarget(options: LunsOptions, runtime: Runtime): Promise<readonly LunDescription[]> {
  const settings = settingsOf(options);
  const chap = await readChap(options);
  const dependencies = {
    ...corePorts(runtime, runtime.logger("hawserctl", options.logLevel)),
    dialer: new TcpDialer(runtime),
  };
  const login = {
    targetName: options.target,
    initiatorName: initiatorNameOf(options, runtime.hostName),
    isid: createIsid(runtime.random),
    headerDigest: options.headerDigest,
    dataDigest: options.dataDigest,
    ...(chap === undefined ? {} : { chap }),
  };
  const unreachable: Error[] = [];
  for (const portal of requirePortals(options.portal)) {
    try {
      const plan = planSession({ portals: [portal], settings });
      return await listTargetLuns({ ...login, ...plan, portal }, dependencies, runtime.signal);
    } catch (error) {
      if (!(error instanceof TransportError)) throw error;
      unreachable.push(error);
    }
  }
  throw unreachable[0] ?? new AppError("cli", "PORTAL_MISSING", "give at least one --portal HOST[:PORT]");
}

async function luns(options: LunsOptions, runtime: Runtime): Promise<void> {
  const rows = await withProgress(`Asking ${options.target}`, { ...runtime, output: runtime.err }, () =>
    askTarget(options, runtime),
  );
  runtime.out.write(formatRows(options.output, rows, columns));
}

/** `hawserctl luns`. */
export function lunsCommand(runtime: Runtime): Command {
  const command = new Command("luns")
    .description("log in to a target and show its logical units")
    .option(
      "--portal <HOST:PORT>",
      "portal of the target, repeatable: the next is tried when one cannot be reached",
      portalsArgument,
    )
    .requiredOption("--target <IQN>", "target name");
  addOutputOption(addLogOption(addSettingOptions(addInitiatorOptions(command)), "warn"));
  return command
    .addHelpText("after", "\nExample:\n  hawserctl luns --portal 10.0.0.5 --target iqn.2001-01.com.example:disk\n")
    .action((options: LunsOptions) => luns(options, runtime));
}
