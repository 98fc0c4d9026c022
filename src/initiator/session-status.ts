import { formatPortal } from "../base/portal.js";
import type { RecoveryCounters, SessionSnapshot } from "../session/session-events.js";

/** One connection of a session as a table shows it. */
export interface VolumeConnectionStatus {
  readonly cid: number;
  readonly portal: string;
  readonly localAddress: string;
  readonly isStandby: boolean;
  readonly weight: number;
  readonly commandsInFlight: number;
  readonly receivedBytes: number;
}

/** One session of a volume as a table shows it. */
export interface VolumeSessionStatus {
  /** The path that it is; empty where the volume has one session alone. */
  readonly pathId: string;
  /** Of the leading connection. */
  readonly portal: string;
  readonly targetName: string;
  readonly state: string;
  readonly tsih: number;
  readonly isid: string;
  readonly headerDigest: string;
  readonly dataDigest: string;
  /** As negotiated, like the next three. */
  readonly errorRecoveryLevel: number;
  readonly maxConnections: number;
  readonly taskReporting: string;
  readonly iscsiProtocolLevel: number;
  /** What the target said to the extension keys that were offered, by key; `NotUnderstood` and the like included. */
  readonly extensionAnswers: Readonly<Record<string, string>>;
  readonly connectionPolicy: string;
  /** Those in full feature phase. */
  readonly connections: readonly VolumeConnectionStatus[];
  readonly recovery: Readonly<RecoveryCounters>;
  readonly reconnects: number;
  readonly commandsInFlight: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly readOperations: number;
  readonly writeOperations: number;
}

/** What people are shown of a session. */
export function volumeSessionStatus(snapshot: SessionSnapshot, pathId = ""): VolumeSessionStatus {
  return {
    pathId,
    portal: formatPortal(snapshot.portal),
    targetName: snapshot.targetName,
    state: snapshot.state,
    tsih: snapshot.tsih,
    isid: snapshot.isid,
    headerDigest: snapshot.headerDigest,
    dataDigest: snapshot.dataDigest,
    errorRecoveryLevel: snapshot.errorRecoveryLevel,
    maxConnections: snapshot.maxConnections,
    taskReporting: snapshot.taskReporting,
    iscsiProtocolLevel: snapshot.iscsiProtocolLevel,
    extensionAnswers: Object.fromEntries(snapshot.extensionAnswers),
    connectionPolicy: snapshot.policy,
    connections: snapshot.connections.map((connection) => ({
      cid: connection.cid,
      portal: formatPortal(connection.portal),
      localAddress: connection.localAddress,
      isStandby: connection.isStandby,
      weight: connection.weight,
      commandsInFlight: connection.commandsInFlight,
      receivedBytes: connection.receivedBytes,
    })),
    recovery: { ...snapshot.recovery },
    reconnects: snapshot.reconnects,
    commandsInFlight: snapshot.commandsInFlight,
    readBytes: snapshot.readBytes,
    writtenBytes: snapshot.writtenBytes,
    readOperations: snapshot.readOperations,
    writeOperations: snapshot.writeOperations,
  };
}
