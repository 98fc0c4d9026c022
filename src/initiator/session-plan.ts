import type { PortalAddress } from "../base/access.js";
import { MAX_CONNECTIONS_PER_SESSION } from "../base/limits.js";
import type { ConnectionPlan, SessionOptions, SessionTimers } from "../session/session-options.js";
import type { InitiatorSettings } from "./settings.js";

const MS_PER_SECOND = 1_000;

/** Pings that are nearer together than this are looked at more often than once a second, which would be a third of them. */
const COARSE_SWEEP_SECONDS = 3;
const FINE_SWEEP_MS = 250;

/** The part of SessionOptions that settings decide. */
export type SessionPlan = Pick<
  SessionOptions,
  | "alternatePortals"
  | "isPortalPinned"
  | "portalRetryCount"
  | "maxReconnectAttempts"
  | "additionalConnections"
  | "leading"
  | "maxConnections"
  | "policy"
  | "errorRecoveryLevel"
  | "maxTasks"
  | "timers"
  | "offers"
>;

export interface SessionPlanRequest {
  /** The leading portal first, then the others in the order of their turns. */
  readonly portals: readonly [PortalAddress, ...PortalAddress[]];
  readonly settings: InitiatorSettings;
  /** The volume has other sessions that can carry its I/O meanwhile: then LinkDownTime holds, else MaxRequestHoldTime. */
  readonly isOneOfSeveralPaths?: boolean;
  /** Take precedence over what settings say. */
  readonly timers?: Partial<SessionTimers>;
  readonly maxTasks?: number;
}

/**
 * What settings mean for one session. Connections beside the leading one are planned over the portals in turn, so that
 * each portal has as many as the others. What no setting names keeps the default of the session.
 */
export function planSession(request: SessionPlanRequest): SessionPlan {
  const { settings } = request;
  const [, ...others] = request.portals;
  const maxTasks = request.maxTasks ?? settings.maxPendingRequests;
  const { connectionPolicy, portalRetryCount, errorRecoveryLevel, maxConnectionRetries } = settings;
  const [leading, ...additional] = connectionPlans(request.portals, settings);
  const maxConnections = Math.max(settings.maxConnections ?? 1, additional.length + 1);
  return {
    alternatePortals: others,
    isPortalPinned: settings.portalHopping === "pinned",
    ...(portalRetryCount === undefined ? {} : { portalRetryCount }),
    ...(maxConnectionRetries === undefined || maxConnectionRetries < 0
      ? {}
      : { maxReconnectAttempts: maxConnectionRetries }),
    additionalConnections: additional,
    ...(leading === undefined ? {} : { leading }),
    maxConnections,
    ...(connectionPolicy === undefined ? {} : { policy: connectionPolicy }),
    ...(errorRecoveryLevel === undefined ? {} : { errorRecoveryLevel }),
    ...(maxTasks === undefined ? {} : { maxTasks }),
    timers: { ...timersOf(settings, request.isOneOfSeveralPaths ?? false), ...request.timers },
    offers: offersOf(settings, maxConnections),
  };
}

/** The leading connection first. The last ones are those on standby. */
function connectionPlans(portals: readonly PortalAddress[], settings: InitiatorSettings): readonly ConnectionPlan[] {
  const { standbyConnections = 0, connectionWeights } = settings;
  const connections = settings.connections ?? connectionsFor(portals.length, settings);
  return Array.from({ length: connections }, (_, index) => portals[index % portals.length]).flatMap((portal, index) => {
    if (portal === undefined) return [];
    const weight = connectionWeights?.[index];
    // One is always active, however few portals there are.
    const isStandby = index > 0 && index >= connections - standbyConnections;
    return [{ portal, ...(weight === undefined ? {} : { weight }), ...(isStandby ? { isStandby } : {}) }];
  });
}

/** MC/S without a number has a connection for each portal. */
function connectionsFor(portals: number, { multipath, maxConnections }: InitiatorSettings): number {
  if (multipath !== "mcs") return 1;
  return Math.max(1, Math.min(portals, maxConnections ?? MAX_CONNECTIONS_PER_SESSION));
}

function timersOf(settings: InitiatorSettings, isOneOfSeveralPaths: boolean): Partial<SessionTimers> {
  const delaySeconds = settings.delayBetweenReconnectSeconds;
  const holdSeconds = isOneOfSeveralPaths ? settings.linkDownTimeSeconds : settings.maxRequestHoldTimeSeconds;
  return {
    ...inMs("connectTimeoutMs", settings.tcpConnectTimeSeconds),
    ...inMs("reconnectInitialMs", delaySeconds),
    ...inMs("reconnectMaximumMs", delaySeconds),
    ...inMs("reconnectLimitMs", holdSeconds),
    ...inMs("asyncLogoutPauseMs", settings.asyncLogoutPauseTimeoutSeconds),
    ...inMs("taskTimeoutDeltaMs", settings.srbTimeoutDeltaSeconds),
    ...nopTimersOf(settings),
  };
}

function nopTimersOf(settings: InitiatorSettings): Partial<SessionTimers> {
  const { enableNopOut, nopOutIntervalSeconds, nopOutTimeoutSeconds } = settings;
  if (enableNopOut === false) return { nopIntervalMs: 0 };
  const shortestSeconds = Math.min(nopOutIntervalSeconds ?? Infinity, nopOutTimeoutSeconds ?? Infinity);
  return {
    ...inMs("nopIntervalMs", nopOutIntervalSeconds),
    ...inMs("nopTimeoutMs", nopOutTimeoutSeconds),
    ...(shortestSeconds < COARSE_SWEEP_SECONDS ? { sweepIntervalMs: FINE_SWEEP_MS } : {}),
  };
}

function inMs(name: keyof SessionTimers, seconds: number | undefined): Partial<SessionTimers> {
  return seconds === undefined ? {} : { [name]: seconds * MS_PER_SECOND };
}

/**
 * TaskReporting and iSCSIProtocolLevel are younger than many arrays and change nothing for a session of one connection,
 * so only a session that wants several offers them: there responses can overtake each other (RFC 7143 §4.2.2.3).
 */
function offersOf(settings: InitiatorSettings, maxConnections: number): NonNullable<SessionOptions["offers"]> {
  const { maxBurstLengthBytes, firstBurstLengthBytes, maxRecvDataSegmentLengthBytes, initialR2T, immediateData } =
    settings;
  return {
    ...(maxBurstLengthBytes === undefined ? {} : { maxBurstLength: maxBurstLengthBytes }),
    ...(firstBurstLengthBytes === undefined ? {} : { firstBurstLength: firstBurstLengthBytes }),
    ...(maxRecvDataSegmentLengthBytes === undefined ? {} : { maxRecvDataSegmentLength: maxRecvDataSegmentLengthBytes }),
    ...(initialR2T === undefined ? {} : { initialR2T }),
    ...(immediateData === undefined ? {} : { immediateData }),
    ...(maxConnections === 1 ? {} : { taskReporting: ["ResponseFence", "RFC3720"], iscsiProtocolLevel: 2 }),
  };
}
