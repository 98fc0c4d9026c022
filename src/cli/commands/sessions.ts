import { Argument, Command } from "commander";
import { AppError } from "../../base/errors.js";
import { formatSize } from "../../base/size.js";
import type { SessionStatus, VolumeStatus } from "../../dataplane/api.js";
import { DataplaneClient } from "../../dataplane/client.js";
import { CONNECTION_POLICIES, type ConnectionPolicy } from "../../session/connection-policy.js";
import { addOutputOption, type OutputOptions } from "../options.js";
import { formatRows, type Column } from "../output.js";
import type { Runtime } from "../runtime.js";

/** Where the dataplane listens unless told otherwise. */
export const DEFAULT_DATAPLANE_SOCKET = "/run/hawser/dataplane.sock";

export interface DataplaneOptions {
  readonly dataplane: string;
}

export interface SessionRow extends SessionStatus {
  readonly volumeHandle: string;
}

export const sessionColumns: readonly Column<SessionRow>[] = [
  { heading: "VOLUME", cell: (row) => row.volumeHandle },
  { heading: "PORTAL", cell: (row) => row.portal },
  { heading: "TARGET", cell: (row) => row.targetName },
  { heading: "STATE", cell: (row) => row.state },
  { heading: "TSIH", cell: (row) => row.tsih },
  { heading: "DIGESTS", cell: (row) => `${row.headerDigest}/${row.dataDigest}` },
  { heading: "ERL", cell: (row) => row.errorRecoveryLevel },
  { heading: "CONNECTIONS", cell: (row) => `${row.connections.length}/${row.maxConnections}` },
  { heading: "POLICY", cell: (row) => row.connectionPolicy },
  { heading: "RECONNECTS", cell: (row) => row.reconnects },
  { heading: "READ", cell: (row) => formatSize(row.readBytes) },
  { heading: "WRITTEN", cell: (row) => formatSize(row.writtenBytes) },
];

const volumeColumns: readonly Column<VolumeStatus>[] = [
  { heading: "VOLUME", cell: (row) => row.volumeHandle },
  { heading: "STATE", cell: (row) => row.state },
  { heading: "DEVICE", cell: (row) => row.volume?.devicePath ?? "-" },
  { heading: "SIZE", cell: (row) => (row.volume === undefined ? "-" : formatSize(row.volume.sizeBytes)) },
  { heading: "IDENTITY", cell: (row) => row.volume?.deviceId ?? "-" },
  { heading: "SESSIONS", cell: (row) => row.sessions.length },
  { heading: "REASON", cell: (row) => (row.reason === "" ? "-" : row.reason) },
];

/** One row per session, with the volume it carries. */
export function sessionRows(volumes: readonly VolumeStatus[]): readonly SessionRow[] {
  return volumes.flatMap((volume) =>
    volume.sessions.map((session) => ({ volumeHandle: volume.volumeHandle, ...session })),
  );
}

/** The flag that names the dataplane. */
export function addDataplaneOption(command: Command): Command {
  return command.option("--dataplane <SOCKET>", "control socket of the dataplane", DEFAULT_DATAPLANE_SOCKET);
}

/** Does `work` with the dataplane that the options name. */
export async function withDataplane(
  { dataplane }: DataplaneOptions,
  { packageDirectory }: Pick<Runtime, "packageDirectory">,
  work: (client: DataplaneClient) => Promise<void>,
): Promise<void> {
  const client = new DataplaneClient({ socketPath: dataplane, packageDirectory });
  try {
    await work(client);
  } finally {
    client.close();
  }
}

/** `hawserctl sessions`. */
export function sessionsCommand(runtime: Runtime): Command {
  const command = new Command("sessions")
    .description("the iSCSI sessions of this node's dataplane; changes how one spreads its commands")
    .addArgument(new Argument("[action]", "what to do; without it they are shown").choices(["set-policy"]))
    .argument("[volume]", "the volume whose session is meant")
    .addArgument(
      new Argument("[policy]", "from now on, and until the volume is detached").choices(CONNECTION_POLICIES),
    );
  return addOutputOption(addDataplaneOption(command))
    .addHelpText(
      "after",
      "\nExamples:\n  hawserctl sessions -o json\n  hawserctl sessions set-policy pvc-1 least-queue-depth\n",
    )
    .action(
      (
        action: "set-policy" | undefined,
        volume: string | undefined,
        policy: ConnectionPolicy | undefined,
        options: DataplaneOptions & OutputOptions,
      ) =>
        withDataplane(options, runtime, async (client) => {
          if (action === undefined) {
            runtime.out.write(formatRows(options.output, sessionRows(await client.list()), sessionColumns));
            return;
          }
          if (volume === undefined || policy === undefined) {
            throw new AppError(
              "cli",
              "ARGUMENT_MISSING",
              `write: sessions set-policy VOLUME ${CONNECTION_POLICIES.join("|")}`,
            );
          }
          await client.setConnectionPolicy(volume, policy);
        }),
    );
}

/** `hawserctl volumes`. */
export function volumesCommand(runtime: Runtime): Command {
  const command = new Command("volumes").description("the volumes attached to this node");
  return addOutputOption(addDataplaneOption(command))
    .addHelpText("after", "\nExample:\n  hawserctl volumes -o json\n")
    .action((options: DataplaneOptions & OutputOptions) =>
      withDataplane(options, runtime, async (client) => {
        runtime.out.write(formatRows(options.output, await client.list(), volumeColumns));
      }),
    );
}
