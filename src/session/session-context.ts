import type { AppError } from "../base/errors.js";
import type { Lun } from "../base/lun.js";
import type { InitiatorPdu, TargetPdu } from "../wire/pdu.js";
import type { Connection } from "./connection.js";
import type { ConnectionSet } from "./connection-set.js";
import type { ControlExchanges } from "./control-exchanges.js";
import type { TaskDispatcher } from "./dispatcher.js";
import { SessionError } from "./errors.js";
import type { RecoveryCounters, SessionEvent } from "./session-events.js";
import type { SessionState } from "./session-state.js";
import type { SessionDependencies, SessionTimers } from "./session-options.js";

/** What the target said before a connection went; it replaces the negotiated defaults then (RFC 7143 §7.5.2). */
export interface AnnouncedTimes {
  /** Time2Wait. */
  readonly waitMs: number;
  /** Time2Retain after that. */
  readonly retainMs: number;
}

/** What the parts of a session share. */
export interface SessionContext {
  readonly timers: SessionTimers;
  readonly dependencies: SessionDependencies;
  readonly dispatcher: TaskDispatcher;
  readonly controls: ControlExchanges;
  /** Those in full feature phase that carry commands. */
  readonly connections: ConnectionSet;
  readonly counters: RecoveryCounters;
  readonly state: SessionState;
  /** What requests of the session as a whole go over, if there is one. */
  readonly connection: Connection | undefined;
  emit(event: SessionEvent): void;
  /** Gives all connections up; the session begins anew. */
  drop(reason: AppError, announced?: AnnouncedTimes): void;
  /** Gives one connection up; what becomes of its tasks depends on the recovery level. */
  dropConnection(connection: Connection, reason: AppError, announced?: AnnouncedTimes): void;
  /** One text negotiation, when it is its turn. */
  text(pairs: readonly (readonly [string, string])[], connection?: Connection): Promise<[string, string][]>;
  /** The target wants us to log this connection out within `timeLimitMs` and to come back. */
  beginLogoutOnRequest(connection: Connection, timeLimitMs: number): void;
  /** Tasks that the target is ending: makes sure of it, and has them tried again. */
  beginEscalation(lun: Lun, connection: Connection): void;
}

/** The numbers that every request carries. */
export interface RequestNumbers {
  readonly tag: number;
  readonly cmdSn: number;
  readonly expStatSn: number;
}

export interface RequestOptions {
  readonly what: string;
  readonly timeoutMs: number;
  readonly tag?: number;
  /** Default the session's first. */
  readonly connection?: Connection | undefined;
}

/** One immediate request and its answer. Rejects with SessionError. */
export function request(
  context: SessionContext,
  options: RequestOptions,
  build: (numbers: RequestNumbers) => InitiatorPdu,
): Promise<TargetPdu> {
  const { controls } = context;
  const { what, timeoutMs, connection = context.connection } = options;
  if (connection === undefined || connection.channel.isOver || connection.isLoggingOut) {
    return Promise.reject(notConnected(what));
  }
  const tag = options.tag ?? controls.allocateTag();
  return controls.run(connection, { what, timeoutMs, tag }, (cmdSn, expStatSn) => build({ tag, cmdSn, expStatSn }));
}

function notConnected(what: string): AppError {
  return new SessionError("SESSION_CONNECTION_LOST", `${what}: there is no connection to the target now`, {
    retry: "same-path",
  });
}
