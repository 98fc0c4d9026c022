import { formatSize } from "../base/size.js";
import type { SessionStatus, VolumeStatus } from "../dataplane/api.js";
import { DataplaneError } from "../dataplane/errors.js";
import type { PathStatus } from "../multipath/status.js";
import { type Column, formatRecord, formatRows } from "./output.js";

/** A path with the session that it is. */
export interface PathRow extends PathStatus {
  /** Where the session is connected to, after redirects; empty while it never was, like the next two. */
  readonly portal: string;
  readonly localAddress: string;
  readonly isid: string;
  readonly tsih: number;
}

/** Everything `hawserctl paths` shows of a volume; as JSON it is printed so. */
export interface PathsView {
  readonly volumeHandle: string;
  readonly state: string;
  readonly reason: string;
  /** Empty while the volume has no paths because it is brought up. */
  readonly policy: string;
  readonly heldRequests: number;
  readonly reservation: VolumeStatus["reservation"];
  readonly paths: readonly PathRow[];
}

const columns: readonly Column<PathRow>[] = [
  { heading: "PATH", cell: (row) => row.id },
  { heading: "STATE", cell: (row) => row.state },
  { heading: "ACCESS", cell: (row) => row.accessState ?? "-" },
  { heading: "ROLE", cell: (row) => (row.isStandby ? "standby" : "active") },
  { heading: "WEIGHT", cell: (row) => row.weight },
  { heading: "PORTAL", cell: (row) => orDash(row.portal) },
  { heading: "SOURCE", cell: (row) => orDash(row.localAddress) },
  { heading: "SESSION", cell: (row) => (row.isid === "" ? "-" : `${row.isid}/${row.tsih}`) },
  { heading: "QUEUE", cell: (row) => row.requestsInFlight },
  { heading: "THROUGHPUT", cell: (row) => `${formatSize(row.bytesPerSecond)}/s` },
  { heading: "READ", cell: (row) => formatSize(row.readBytes) },
  { heading: "WRITTEN", cell: (row) => formatSize(row.writtenBytes) },
  { heading: "ERRORS", cell: (row) => row.errors },
  { heading: "FAILURES", cell: (row) => row.failures },
  { heading: "LAST EVENT", cell: lastEvent },
];

/** Throws VOLUME_NOT_MULTIPATH for a volume that is attached and has one session alone. */
export function pathsView({ volumeHandle, state, reason, volume, sessions, ...status }: VolumeStatus): PathsView {
  const { multipath, reservation } = status;
  if (multipath === undefined && volume !== undefined) {
    throw new DataplaneError(
      "VOLUME_NOT_MULTIPATH",
      `volume ${volumeHandle} has one session and no paths to look after; attach it with multipath: mpio`,
    );
  }
  return {
    ...{ volumeHandle, state, reason, reservation },
    policy: multipath?.policy ?? "",
    heldRequests: multipath?.heldRequests ?? 0,
    paths: (multipath?.paths ?? []).map((path) => ({ ...path, ...sessionOf(path, sessions) })),
  };
}

/** What is said of the volume as a whole, then a row for each path. */
export function formatPathsView(view: PathsView): string {
  const { volumeHandle, state, reason, policy, heldRequests, reservation, paths } = view;
  const head = formatRecord("table", {
    volume: volumeHandle,
    state: reason === "" ? state : `${state}: ${reason}`,
    policy: orDash(policy),
    waiting: `${heldRequests} requests`,
    reservation: reservation === undefined ? "-" : formatReservation(reservation),
  });
  return paths.length === 0 ? head : `${head}\n${formatRows("table", paths, columns)}`;
}

function formatReservation({ mode, state, key, holderKey }: NonNullable<VolumeStatus["reservation"]>): string {
  return `${state} (fencing ${mode}), our key ${orDash(key)}, held by ${orDash(holderKey)}`;
}

function sessionOf(path: PathStatus, sessions: readonly SessionStatus[]): Omit<PathRow, keyof PathStatus> {
  const session = sessions.find(({ pathId }) => pathId === path.id);
  const [leading] = session?.connections ?? [];
  return {
    portal: leading?.portal ?? session?.portal ?? "",
    localAddress: leading?.localAddress ?? "",
    isid: session?.isid ?? "",
    tsih: session?.tsih ?? 0,
  };
}

function lastEvent({ lastEvent: text, lastEventTimeMs, reason }: PathRow): string {
  if (text === "") return orDash(reason);
  return `${new Date(lastEventTimeMs).toISOString().slice(0, 19)}Z ${text}`;
}

function orDash(text: string): string {
  return text === "" ? "-" : text;
}
