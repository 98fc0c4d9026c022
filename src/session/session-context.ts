import type { AppError } from "../base/errors.js";
import type { Lun } from "../base/lun.js";
import type { InitiatorPdu, TargetPdu } from "../wire/pdu.js";
import type { Connection } from "./connection.js";
import type { ConnectionSet } from "./connection-set.js";
import type { ControlExchanges } from "./control-exchanges.js";
import type { TaskDispatcher } from "./dispatcher.js";
import { SessionError, protocolError } from "./errors.js";
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

/** PDUs that answer a request which is no SCSI command, and the sections that describe them. */
const answerSections = {
  "nop-in": "§11.19",
  "task-management-response": "§11.6",
  "text-response": "§11.11",
  "logout-response": "§11.15",
} as const;

type AnswerType = keyof typeof answerSections;

export interface RequestOptions<T extends AnswerType> {
  readonly what: string;
  /** What answers it. */
  readonly answer: T;
  readonly timeoutMs: number;
  readonly tag?: number;
  /** Default the session's first. */
  readonly connection?: Connection | undefined;
}

/** One immediate request and its answer. Rejects with SessionError; SESSION_PROTOCOL for an answer of another kind. */
export async function request<T extends AnswerType>(
  context: SessionContext,
  options: RequestOptions<T>,
  build: (numbers: RequestNumbers) => InitiatorPdu,
): Promise<Extract<TargetPdu, { type: T }>> {
  const { controls } = context;
  const { what, timeoutMs, connection = context.connection } = options;
  if (connection === undefined || connection.channel.isOver || connection.isLoggingOut) {
    throw notConnected(what);
  }
  const tag = options.tag ?? controls.allocateTag();
  const answer = await controls.run(connection, { what, timeoutMs, tag }, (cmdSn, expStatSn) =>
    build({ tag, cmdSn, expStatSn }),
  );
  if (isOfType(answer, options.answer)) return answer;
  throw protocolError(answerSections[options.answer], `${answer.type} in answer to ${what}`);
}

function isOfType<T extends AnswerType>(pdu: TargetPdu, type: T): pdu is Extract<TargetPdu, { type: T }> {
  return pdu.type === type;
}

function notConnected(what: string): AppError {
  return new SessionError("SESSION_CONNECTION_LOST", `${what}: there is no connection to the target now`, {
    retry: "same-path",
  });
}
