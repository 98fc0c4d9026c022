import type { AppError } from "../base/errors.js";
import type { InitiatorPdu, TargetPdu } from "../wire/pdu.js";
import type { Connection } from "./connection.js";
import type { ControlExchanges } from "./control-exchanges.js";
import type { TaskDispatcher } from "./dispatcher.js";
import { SessionError } from "./errors.js";
import type { SessionEvent } from "./session-events.js";
import type { SessionState } from "./session-state.js";
import type { SessionDependencies, SessionTimers } from "./session-options.js";

/** What the parts of a session share. */
export interface SessionContext {
  readonly timers: SessionTimers;
  readonly dependencies: SessionDependencies;
  readonly dispatcher: TaskDispatcher;
  readonly controls: ControlExchanges;
  readonly state: SessionState;
  /** The connection in full feature phase, if there is one. */
  readonly connection: Connection | undefined;
  emit(event: SessionEvent): void;
  /** Gives the connection up; recovery begins not before `delayMs` from now. */
  drop(reason: AppError, delayMs?: number): void;
  /** One text negotiation, when it is its turn. */
  text(pairs: readonly (readonly [string, string])[]): Promise<[string, string][]>;
  /** The target wants us to log out within `timeLimitMs` and to come back. */
  beginLogoutOnRequest(timeLimitMs: number): void;
}

/** The numbers that every request carries. */
export interface RequestNumbers {
  readonly tag: number;
  readonly cmdSn: number;
  readonly expStatSn: number;
}

/** One immediate request and its answer over the present connection. Rejects with SessionError. */
export function request(
  { controls, connection }: SessionContext,
  options: { readonly what: string; readonly timeoutMs: number; readonly tag?: number },
  build: (numbers: RequestNumbers) => InitiatorPdu,
): Promise<TargetPdu> {
  if (connection === undefined) return Promise.reject(notConnected(options.what));
  const tag = options.tag ?? controls.allocateTag();
  return controls.run(connection, { ...options, tag }, (cmdSn, expStatSn) => build({ tag, cmdSn, expStatSn }));
}

function notConnected(what: string): AppError {
  return new SessionError("SESSION_CONNECTION_LOST", `${what}: there is no connection to the target now`, {
    retry: "same-path",
  });
}
