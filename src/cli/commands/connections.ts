import { Argument, Command } from "commander";
import type { PortalAddress } from "../../base/access.js";
import { AppError } from "../../base/errors.js";
import { formatSize } from "../../base/size.js";
import type { ConnectionStatus, VolumeStatus } from "../../dataplane/api.js";
import { addOutputOption, portalArgument, wholeNumber, type OutputOptions } from "../options.js";
import { formatRows, type Column } from "../output.js";
import type { Runtime } from "../runtime.js";
import { addDataplaneOption, withDataplane, type DataplaneOptions } from "./sessions.js";

interface ConnectionOptions extends DataplaneOptions, OutputOptions {
  readonly portal?: PortalAddress;
  readonly weight: number;
  readonly standby: boolean;
  readonly cid?: number;
}

export interface ConnectionRow extends ConnectionStatus {
  readonly volumeHandle: string;
  readonly targetName: string;
}

export const connectionColumns: readonly Column<ConnectionRow>[] = [
  { heading: "VOLUME", cell: (row) => row.volumeHandle },
  { heading: "CID", cell: (row) => row.cid },
  { heading: "PORTAL", cell: (row) => row.portal },
  { heading: "LOCAL", cell: (row) => row.localAddress },
  { heading: "ROLE", cell: (row) => (row.isStandby ? "standby" : "active") },
  { heading: "WEIGHT", cell: (row) => row.weight },
  { heading: "IN FLIGHT", cell: (row) => row.commandsInFlight },
  { heading: "RECEIVED", cell: (row) => formatSize(row.receivedBytes) },
];

/** One row per connection, with the volume and target it belongs to. */
export function connectionRows(volumes: readonly VolumeStatus[]): readonly ConnectionRow[] {
  return volumes.flatMap(({ volumeHandle, sessions }) =>
    sessions.flatMap(({ targetName, connections }) =>
      connections.map((connection) => ({ volumeHandle, targetName, ...connection })),
    ),
  );
}

async function run(
  action: "add" | "remove" | undefined,
  volume: string | undefined,
  options: ConnectionOptions,
  runtime: Runtime,
): Promise<void> {
  await withDataplane(options, runtime, async (client) => {
    if (action === undefined) {
      runtime.out.write(formatRows(options.output, connectionRows(await client.list()), connectionColumns));
      return;
    }
    if (volume === undefined) throw missing("the VOLUME, as hawserctl volumes shows it");
    if (action === "add") {
      const { portal, weight, standby } = options;
      if (portal === undefined) throw missing("--portal HOST[:PORT]");
      const cid = await client.addConnection(volume, { portal, weight, isStandby: standby });
      runtime.err.write(`connection ${cid} added\n`);
      return;
    }
    if (options.cid === undefined) throw missing("--cid N, as hawserctl connections shows it");
    await client.removeConnection(volume, options.cid);
    runtime.err.write(`connection ${options.cid} removed\n`);
  });
}

function missing(what: string): AppError {
  return new AppError("cli", "ARGUMENT_MISSING", `give ${what}`);
}

/** `hawserctl connections`. */
export function connectionsCommand(runtime: Runtime): Command {
  const command = new Command("connections")
    .description("the connections of this node's iSCSI sessions: shows, adds or removes them")
    .addArgument(new Argument("[action]", "what to do; without it they are shown").choices(["add", "remove"]))
    .argument("[volume]", "the volume whose session is meant")
    .option("--portal <HOST:PORT>", "add: portal of the new connection, in the session's portal group", portalArgument)
    .option("--weight <N>", "add: for the policy weighted-path, the lowest is used first", wholeNumber(0, 65_535), 0)
    .option("--standby", "add: for the policy round-robin-subset, used while no active one is alive", false)
    .option("--cid <N>", "remove: number of the connection", wholeNumber(0, 65_535));
  return addOutputOption(addDataplaneOption(command))
    .addHelpText(
      "after",
      "\nExamples:\n  hawserctl connections -o json\n  hawserctl connections add pvc-1 --portal 10.0.0.6\n  hawserctl connections remove pvc-1 --cid 1\n",
    )
    .action((action: "add" | "remove" | undefined, volume: string | undefined, options: ConnectionOptions) =>
      run(action, volume, options, runtime),
    );
}
