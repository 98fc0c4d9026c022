import { LUN_ZERO } from "../base/lun.js";
import { RESERVED_TAG } from "../wire/constants.js";
import type { Connection } from "./connection.js";
import { SessionError } from "./errors.js";
import { type SessionContext, request } from "./session-context.js";

const NO_DATA = Buffer.alloc(0);

/** One ping over `connection`, default the session's first; resolves with the round trip in milliseconds. Rejects with SessionError. */
export async function ping(context: SessionContext, timeoutMs: number, connection?: Connection): Promise<number> {
  const { clock } = context.dependencies;
  const startMs = clock.nowMs();
  await request(context, { what: "NOP-Out", answer: "nop-in", timeoutMs, connection }, ({ tag, cmdSn, expStatSn }) => ({
    type: "nop-out",
    isImmediate: true,
    lun: LUN_ZERO,
    initiatorTaskTag: tag,
    targetTransferTag: RESERVED_TAG,
    cmdSn,
    expStatSn,
    data: NO_DATA,
  }));
  return clock.nowMs() - startMs;
}

/** What is known of one connection's signs of life. */
interface Liveness {
  receivedBytes: number;
  aliveMs: number;
  pingMs: number | undefined;
}

/** Notices that a silent target is gone: pings it when it is quiet, gives the connection up when the ping stays unanswered. */
export class Keepalive {
  readonly #context: SessionContext;
  readonly #known = new WeakMap<Connection, Liveness>();

  constructor(context: SessionContext) {
    this.#context = context;
  }

  /** Called at every sweep, for each connection. Any byte from the target counts as life. */
  check(connection: Connection, nowMs: number): void {
    const { timers } = this.#context;
    // The logout has a time of its own.
    if (timers.nopIntervalMs === 0 || connection.isLoggingOut) return;
    const { receivedBytes } = connection.channel;
    const known = this.#known.get(connection);
    if (known?.receivedBytes !== receivedBytes) {
      this.#known.set(connection, { receivedBytes, aliveMs: nowMs, pingMs: undefined });
    } else if (known.pingMs === undefined) {
      if (nowMs - known.aliveMs >= timers.nopIntervalMs) this.#ping(connection, known, nowMs);
    } else if (nowMs - known.pingMs >= timers.nopTimeoutMs) {
      const silentMs = Math.round(nowMs - known.aliveMs);
      this.#context.dropConnection(
        connection,
        new SessionError(
          "SESSION_TIMEOUT",
          `the target has been silent for ${silentMs} ms and does not answer a ping`,
          {
            retry: "other-path",
          },
        ),
      );
    }
  }

  #ping(connection: Connection, known: Liveness, nowMs: number): void {
    known.pingMs = nowMs;
    // Only the answer's arrival matters, and `check` sees that; a refused ping is an answer too.
    ping(this.#context, 2 * this.#context.timers.nopTimeoutMs, connection).catch(() => undefined);
  }
}
