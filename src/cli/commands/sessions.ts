import { Command } from "commander";
import { formatSize } from "../../base/size.js";
import type { SessionStatus, VolumeStatus } from "../../dataplane/api.js";
import { DataplaneClient } from "../../dataplane/client.js";
import { addOutputOption, type OutputOptions } from "../options.js";
import { formatRows, type Column } from "../output.js";
import type { Runtime } from "../runtime.js";

/** Where the dataplane listens unless told otherwise. */
export const DEFAULT_DATAPLANE_SOCKET = "/run/hawser/dataplane.sock";

interface DataplaneOptions extends OutputOptions {
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

function dataplaneCommand(
  name: string,
  runtime: Runtime,
  show: (volumes: readonly VolumeStatus[], options: OutputOptions) => string,
): Command {
  const command = new Command(name).option(
    "--dataplane <SOCKET>",
    "control socket of the dataplane",
    DEFAULT_DATAPLANE_SOCKET,
  );
  addOutputOption(command).addHelpText("after", `\nExample:\n  hawserctl ${name} -o json\n`);
  return command.action(async (options: DataplaneOptions) => {
    const client = new DataplaneClient({ socketPath: options.dataplane, packageDirectory: runtime.packageDirectory });
    try {
      runtime.out.write(show(await client.list(), options));
    } finally {
      client.close();
    }
  });
}

/** `hawserctl sessions`. */
export function sessionsCommand(runtime: Runtime): Command {
  return dataplaneCommand("sessions", runtime, (volumes, { output }) =>
    formatRows(output, sessionRows(volumes), sessionColumns),
  ).description("the iSCSI sessions of this node's dataplane");
}

/** `hawserctl volumes`. */
export function volumesCommand(runtime: Runtime): Command {
  return dataplaneCommand("volumes", runtime, (volumes, { output }) =>
    formatRows(output, volumes, volumeColumns),
  ).description("the volumes attached to this node");
}
