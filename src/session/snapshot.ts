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
  readonly loggedIn: LoggedIn;
  readonly reconnects: number;
  readonly dispatcher: TaskDispatcher;
  readonly connections: ConnectionSet;
  readonly recovery: RecoveryCounters;
}): SessionSnapshot {
  const { options, loggedIn, dispatcher } = source;
  const { counters } = dispatcher;
  const { result } = loggedIn;
  const { parameters } = result;
  return {
    state: source.state,
    reason: source.reason,
    portal: loggedIn.portal,
    targetName: options.targetName ?? "",
    targetAlias: result.targetAlias ?? "",
    isid: options.isid.toString("hex"),
    tsih: result.tsih,
    portalGroupTag: result.targetPortalGroupTag,
    headerDigest: parameters.headerDigest,
    dataDigest: parameters.dataDigest,
    errorRecoveryLevel: parameters.errorRecoveryLevel,
    maxConnections: parameters.maxConnections,
    taskReporting: parameters.taskReporting,
    iscsiProtocolLevel: parameters.iscsiProtocolLevel,
    extensionAnswers: result.extensionAnswers,
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
