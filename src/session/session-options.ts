import type { ChapCredentials, DigestChoice, PortalAddress } from "../base/access.js";
import type { Clock } from "../base/clock.js";
import type { Logger } from "../base/logger.js";
import type { Random } from "../base/random.js";
import type { OutstandingChallenges } from "../login/chap-initiator.js";
import type { InitiatorLoginOptions } from "../login/initiator-login.js";
import type { Dialer } from "../transport/transport.js";

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
});

export interface SessionOptions {
  readonly portal: PortalAddress;
  /** Portals to try in turn, after `portal`, when the connection was lost. */
  readonly alternatePortals?: readonly PortalAddress[];
  /** Source address, for sessions bound to one interface. */
  readonly localAddress?: string;
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
