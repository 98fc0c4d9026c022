import type { ChapCredentials, DigestChoice, PortalAddress } from "../base/access.js";
import type { Clock } from "../base/clock.js";
import type { Logger } from "../base/logger.js";
import type { Random } from "../base/random.js";
import type { OutstandingChallenges } from "../login/chap-initiator.js";
import type { InitiatorLoginOptions } from "../login/initiator-login.js";
import type { Dialer } from "../transport/transport.js";
import type { ConnectionPolicy } from "./connection-policy.js";
import type { Evacuation } from "./evacuation.js";

/** Every time a session knows, in milliseconds. */
export interface SessionTimers {
  /** TCP connect. */
  readonly connectTimeoutMs: number;
  /** One login, from the first PDU to the last. */
  readonly loginTimeoutMs: number;
  readonly logoutTimeoutMs: number;
  /** A text negotiation, per exchange. */
  readonly textTimeoutMs: number;
  /** Silence of the target after which it is pinged; 0 switches the keepalive off. */
  readonly nopIntervalMs: number;
  /** Silence after a ping after which the connection is given up. */
  readonly nopTimeoutMs: number;
  /** Default for tasks that name none. */
  readonly taskTimeoutMs: number;
  readonly abortTimeoutMs: number;
  readonly lunResetTimeoutMs: number;
  readonly targetResetTimeoutMs: number;
  /** How often deadlines and silence are looked at: the precision of all of them. */
  readonly sweepIntervalMs: number;
  readonly reconnectInitialMs: number;
  readonly reconnectMaximumMs: number;
  /** Tasks fail when the path is gone for longer; 0 means they wait for ever. Reconnecting goes on in any case. */
  readonly reconnectLimitMs: number;
  /** Least time between a logout that the target asked for and the next login; the target's own wish may be longer. */
  readonly asyncLogoutPauseMs: number;
  /** After which a retransmission that was asked for (SNACK) is asked for again; from ErrorRecoveryLevel 1 on. */
  readonly snackTimeoutMs: number;
  /** After which a command that the target does not acknowledge is looked after; from ErrorRecoveryLevel 1 on. */
  readonly commandRetryMs: number;
  /** Within which a target goes on with a task that was moved to another connection; ErrorRecoveryLevel 2. */
  readonly reassignTimeoutMs: number;
  /** Added to the time of every task, also of those that name their own. */
  readonly taskTimeoutDeltaMs: number;
}

/** Linux' values where it has them, so that arrays tuned for it see what they know. */
export const DEFAULT_SESSION_TIMERS: SessionTimers = Object.freeze({
  connectTimeoutMs: 10_000,
  loginTimeoutMs: 15_000,
  logoutTimeoutMs: 15_000,
  textTimeoutMs: 15_000,
  nopIntervalMs: 5_000,
  nopTimeoutMs: 5_000,
  taskTimeoutMs: 30_000,
  abortTimeoutMs: 15_000,
  lunResetTimeoutMs: 30_000,
  targetResetTimeoutMs: 30_000,
  sweepIntervalMs: 1_000,
  reconnectInitialMs: 200,
  reconnectMaximumMs: 15_000,
  reconnectLimitMs: 0,
  asyncLogoutPauseMs: 0,
  snackTimeoutMs: 2_000,
  commandRetryMs: 2_000,
  reassignTimeoutMs: 5_000,
  taskTimeoutDeltaMs: 0,
});

/** One connection that a session shall have beside its leading one. */
export interface ConnectionPlan {
  /** In the same portal group as the session's; another one is refused. */
  readonly portal: PortalAddress;
  /** Source address, for a connection bound to one address. */
  readonly localAddress?: string;
  /** Interface that the connection leaves through, whatever the routes say. */
  readonly localInterface?: string;
  /** For `weighted-path`: the lowest is used first; default 0. */
  readonly weight?: number;
  /** For `round-robin-subset`: used only while no active connection is alive; default no. */
  readonly isStandby?: boolean;
  /** Longest data segment it takes, in bytes; default that of the session's offers. */
  readonly maxRecvDataSegmentLength?: number;
}

export interface SessionOptions {
  readonly portal: PortalAddress;
  /** Portals to try in turn, after `portal`, when the connection was lost. */
  readonly alternatePortals?: readonly PortalAddress[];
  /** Come back through `portal` only, whatever is named or advertised; default no. */
  readonly isPortalPinned?: boolean;
  /** See PortalHoppingOptions; default DEFAULT_PORTAL_RETRY_COUNT. */
  readonly portalRetryCount?: number;
  /** Attempts to come back after which the session closes itself; default 0: it never gives up. */
  readonly maxReconnectAttempts?: number;
  /** Source address, for sessions bound to one address. */
  readonly localAddress?: string;
  /** Interface that the leading connection leaves through, whatever the routes say. */
  readonly localInterface?: string;
  /** Absent only for discovery sessions. */
  readonly targetName?: string;
  readonly sessionType?: "Normal" | "Discovery";
  readonly initiatorName: string;
  readonly initiatorAlias?: string;
  /** Six bytes (RFC 7143 §11.12.5), the same in every login of this session. */
  readonly isid: Buffer;
  readonly chap?: ChapCredentials;
  readonly headerDigest: DigestChoice;
  readonly dataDigest: DigestChoice;
  /** Tasks at the target at one time, at most MAX_TASKS_PER_SESSION. */
  readonly maxTasks?: number;
  readonly timers?: Partial<SessionTimers>;
  /** Connections beside the leading one, as far as the target admits them; more can be added later. Default none. */
  readonly additionalConnections?: readonly ConnectionPlan[];
  /** `weight` and `isStandby` of the leading connection. */
  readonly leading?: Pick<ConnectionPlan, "weight" | "isStandby">;
  /** Most connections to ask for, the leading one included; default as many as are planned. */
  readonly maxConnections?: number;
  /** Default `round-robin`. */
  readonly policy?: ConnectionPolicy;
  /** Highest level to ask for (RFC 7143 §7.1.5); the target may agree to less. Default 0. */
  readonly errorRecoveryLevel?: 0 | 1 | 2;
  /** The session is one of several paths: its tasks do not wait for it for ever. Default: they do. */
  readonly evacuation?: Evacuation;
  /** Keys of our own to offer in the leading login (RFC 7143 §13.22); the answers are in the status. */
  readonly extensionKeys?: InitiatorLoginOptions["extensionKeys"];
  /** Operational values to offer instead of the defaults. */
  readonly offers?: NonNullable<InitiatorLoginOptions["offers"]>;
}

export interface SessionDependencies {
  readonly clock: Clock;
  readonly random: Random;
  readonly dialer: Dialer;
  readonly logger: Logger;
  /** Shared by all sessions of the process, so that a challenge of one is noticed when another gets it back. */
  readonly challenges?: OutstandingChallenges;
}
