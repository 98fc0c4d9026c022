import type { TaskDispatcher } from "./dispatcher.js";
import type { ConnectionSet } from "./connection-set.js";
import type { RecoveryCounters, SessionSnapshot } from "./session-events.js";
import type { SessionState } from "./session-state.js";
import type { LoggedIn } from "./session-login.js";
import type { SessionOptions } from "./session-options.js";

/** The numbers of a session at this moment. */
export function takeSnapshot(source: {
  readonly state: SessionState;
  readonly reason: string;
  readonly options: SessionOptions;
  readonly loggedIn: LoggedIn | undefined;
  readonly reconnects: number;
  readonly dispatcher: TaskDispatcher;
  readonly connections: ConnectionSet;
  readonly recovery: RecoveryCounters;
}): SessionSnapshot {
  const { options, loggedIn, dispatcher } = source;
  const { counters } = dispatcher;
  const result = loggedIn?.result;
  return {
    state: source.state,
    reason: source.reason,
    portal: loggedIn?.portal ?? options.portal,
    targetName: options.targetName ?? "",
    targetAlias: result?.targetAlias ?? "",
    isid: options.isid.toString("hex"),
    tsih: result?.tsih ?? 0,
    portalGroupTag: result?.targetPortalGroupTag,
    headerDigest: result?.parameters.headerDigest ?? "None",
    dataDigest: result?.parameters.dataDigest ?? "None",
    errorRecoveryLevel: result?.parameters.errorRecoveryLevel ?? 0,
    maxConnections: result?.parameters.maxConnections ?? 1,
    taskReporting: result?.parameters.taskReporting ?? "RFC3720",
    iscsiProtocolLevel: result?.parameters.iscsiProtocolLevel ?? 1,
    extensionAnswers: result?.extensionAnswers ?? [],
    policy: source.connections.policy,
    connections: source.connections.snapshot(),
    recovery: { ...source.recovery },
    reconnects: source.reconnects,
    commandsInFlight: dispatcher.inFlight,
    commandsQueued: dispatcher.queued,
    readBytes: counters.readBytes,
    writtenBytes: counters.writtenBytes,
    readOperations: counters.readOperations,
    writeOperations: counters.writeOperations,
    reissuedTasks: counters.reissuedTasks,
  };
}
