import type { AppError } from "../base/errors.js";
import { Mutex } from "../base/mutex.js";
import { formatPortal } from "../base/portal.js";
import type { RedirectFollower } from "../login/redirect.js";
import type { CommandWindow } from "./command-window.js";
import { Connection } from "./connection.js";
import type { ConnectionOwner } from "./connection-owner.js";
import type { ConnectionPlace } from "./connection-keeper.js";
import type { ConnectionSet } from "./connection-set.js";
import { SessionError } from "./errors.js";
import type { ReinstatementGuard } from "./reinstatement-guard.js";
import type { SessionContext } from "./session-context.js";
import { type LoggedIn, type LoginAttempt, logIn } from "./session-login.js";
import type { SessionDependencies, SessionOptions } from "./session-options.js";

export interface ConnectionAdmissionHost {
  readonly context: SessionContext;
  readonly connections: ConnectionSet;
  /** As they stand: credentials may change. */
  readonly options: SessionOptions;
  readonly guards: ReadonlySet<ReinstatementGuard>;
  readonly owner: ConnectionOwner;
}

/** One login: a new session's first, one that joins, or one that stands for a lost connection. */
export interface AdmissionRequest {
  readonly place: ConnectionPlace;
  /** Default those of the place. */
  readonly redirects?: RedirectFollower;
  readonly connectTimeoutMs?: number;
  readonly cmdSn: number;
  readonly join?: LoginAttempt["join"];
  /** ExpStatSN of the connection with the same CID that this one stands for (RFC 7143 §11.12.9). */
  readonly oldExpStatSn?: number;
  readonly signal: AbortSignal;
}

/** Makes connections: logs them in, and has the guards look at what is behind them before a task goes over them. */
export class ConnectionAdmission {
  readonly #host: ConnectionAdmissionHost;
  readonly #dependencies: SessionDependencies;
  readonly #turn = new Mutex();
  #questioned: Connection | undefined;

  constructor(host: ConnectionAdmissionHost, dependencies: SessionDependencies) {
    this.#host = host;
    this.#dependencies = dependencies;
  }

  /** The connection that is being looked at: questions go over it. */
  get questioned(): Connection | undefined {
    return this.#questioned;
  }

  /** The connection of the next command. */
  readonly route = (record: { readonly task: { readonly isProbe?: boolean | undefined } }): Connection | undefined => {
    if (this.#questioned !== undefined && record.task.isProbe === true) return this.#questioned;
    return this.#host.connections.choose();
  };

  logIn(request: AdmissionRequest): Promise<LoggedIn> {
    const { context, options } = this.#host;
    const { place, redirects = place.redirects, connectTimeoutMs = context.timers.connectTimeoutMs } = request;
    return logIn(
      {
        options,
        timers: { ...context.timers, connectTimeoutMs },
        redirects,
        localAddress: place.plan.localAddress,
        localInterface: place.plan.localInterface,
        maxRecvDataSegmentLength: place.plan.maxRecvDataSegmentLength ?? options.offers?.maxRecvDataSegmentLength,
        cmdSn: request.cmdSn,
        connectionId: place.connectionId,
        join: request.join,
        oldExpStatSn: request.oldExpStatSn,
        signal: request.signal,
      },
      this.#dependencies,
    );
  }

  /** A connection of what was logged in; it hears nothing before `start`. */
  create(loggedIn: LoggedIn, place: ConnectionPlace, window: CommandWindow, isJoining: boolean): Connection {
    const { result, channel, portal } = loggedIn;
    const connection = new Connection({
      channel,
      connectionId: place.connectionId,
      parameters: result.parameters,
      nextExpStatSn: result.nextExpStatSn,
      window,
      owner: this.#host.owner,
      portal,
      rank: place.rank,
      weight: place.plan.weight ?? 0,
      isStandby: place.plan.isStandby ?? false,
      snackTimeoutMs: this.#host.context.timers.snackTimeoutMs,
    });
    connection.isJoining = isJoining;
    return connection;
  }

  /** Asks all guards about one connection. Rejects with SESSION_PATH_REFUSED, or when one could not tell. */
  verify(connection: Connection): Promise<void> {
    return this.#turn.run(async () => {
      this.#questioned = connection;
      try {
        for (const guard of [...this.#host.guards]) {
          const verdict = await guard.verify();
          if (verdict.kind === "refused") throw this.#refuse(guard, verdict.reason, connection);
        }
      } finally {
        this.#questioned = undefined;
      }
      connection.requireAlive();
    });
  }

  #refuse({ lun }: ReinstatementGuard, reason: AppError, { portal }: Connection): SessionError {
    this.#host.context.emit({ kind: "path-refused", portal, reason });
    return new SessionError("SESSION_PATH_REFUSED", `${formatPortal(portal)}: ${reason.message}`, {
      retry: "other-path",
      cause: reason,
      details: { lun },
    });
  }
}
