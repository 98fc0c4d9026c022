import { Command } from "commander";
import type { PortalAddress } from "../../base/access.js";
import type { LogLevel } from "../../base/logger.js";
import { formatPortal } from "../../base/portal.js";
import { discoverTargets } from "../../discovery/send-targets.js";
import { TcpDialer } from "../../transport/tcp.js";
import {
  addInitiatorOptions,
  addLogOption,
  addOutputOption,
  initiatorNameOf,
  portalsArgument,
  readChap,
  requirePortals,
  wholeNumber,
  type InitiatorOptions,
  type OutputOptions,
} from "../options.js";
import { formatRows, type Column } from "../output.js";
import { withProgress } from "../progress.js";
import { corePorts, type Runtime } from "../runtime.js";

interface DiscoverOptions extends InitiatorOptions, OutputOptions {
  readonly portal?: readonly PortalAddress[];
  readonly logLevel: LogLevel;
  readonly timeout: number;
}

interface Row {
  readonly target: string;
  readonly portal: string;
  readonly portalGroupTag: number | null;
}

const columns: readonly Column<Row>[] = [
  { heading: "TARGET", cell: (row) => row.target },
  { heading: "PORTAL", cell: (row) => row.portal },
  { heading: "GROUP", cell: (row) => row.portalGroupTag ?? "-" },
];

async function discover(options: DiscoverOptions, runtime: Runtime): Promise<void> {
  const chap = await readChap(options);
  const rows: Row[] = [];
  for (const portal of requirePortals(options.portal)) {
    const targets = await withProgress(`Discovering ${formatPortal(portal)}`, { ...runtime, output: runtime.err }, () =>
      discoverTargets(
        {
          portal,
          initiatorName: initiatorNameOf(options, runtime.hostName),
          timeoutMs: options.timeout * 1000,
          ...(chap === undefined ? {} : { chap }),
        },
        { ...corePorts(runtime, runtime.logger("hawserctl", options.logLevel)), dialer: new TcpDialer(runtime) },
        runtime.signal,
      ),
    );
    for (const target of targets) {
      for (const address of target.portals) {
        rows.push({
          target: target.targetName,
          portal: formatPortal(address),
          portalGroupTag: address.portalGroupTag ?? null,
        });
      }
    }
  }
  runtime.out.write(formatRows(options.output, rows, columns));
}

/** `hawserctl discover`. */
export function discoverCommand(runtime: Runtime): Command {
  const command = new Command("discover")
    .description("ask portals which targets they offer (SendTargets)")
    .option("--portal <HOST:PORT>", "portal to ask, repeatable", portalsArgument)
    .option("--timeout <SECONDS>", "give up after", wholeNumber(1, 3600), 15);
  addOutputOption(addLogOption(addInitiatorOptions(command), "warn"));
  return command
    .addHelpText(
      "after",
      "\nExamples:\n  hawserctl discover --portal 10.0.0.5\n  hawserctl discover --portal [2001:db8::5]:3260 -o json\n",
    )
    .action((options: DiscoverOptions) => discover(options, runtime));
}
