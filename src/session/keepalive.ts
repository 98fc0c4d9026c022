import { LUN_ZERO } from "../base/lun.js";
import { RESERVED_TAG } from "../wire/constants.js";
import type { Connection } from "./connection.js";
import { SessionError } from "./errors.js";
import { type SessionContext, request } from "./session-context.js";

const NO_DATA = Buffer.alloc(0);

/** One ping; resolves with the round trip in milliseconds. Rejects with SessionError. */
export async function ping(context: SessionContext, timeoutMs: number): Promise<number> {
  const { clock } = context.dependencies;
  const startMs = clock.nowMs();
  await request(context, { what: "NOP-Out", timeoutMs }, ({ tag, cmdSn, expStatSn }) => ({
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

/** Notices that a silent target is gone: pings it when it is quiet, gives it up when the ping stays unanswered. */
export class Keepalive {
  readonly #context: SessionContext;
  #connection: Connection | undefined;
  #receivedBytes = 0;
  #aliveMs = 0;
  #pingMs: number | undefined;

  constructor(context: SessionContext) {
    this.#context = context;
  }

  /** Called at every sweep. Any byte from the target counts as life. */
  check(nowMs: number): void {
    const { connection, timers } = this.#context;
    if (connection === undefined || timers.nopIntervalMs === 0) return;
    const { receivedBytes } = connection.channel;
    if (connection !== this.#connection || receivedBytes !== this.#receivedBytes) {
      this.#connection = connection;
      this.#receivedBytes = receivedBytes;
      this.#aliveMs = nowMs;
      this.#pingMs = undefined;
    } else if (this.#pingMs === undefined) {
      if (nowMs - this.#aliveMs >= timers.nopIntervalMs) this.#ping(nowMs);
    } else if (nowMs - this.#pingMs >= timers.nopTimeoutMs) {
      const silentMs = Math.round(nowMs - this.#aliveMs);
      this.#context.drop(
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

  #ping(nowMs: number): void {
    this.#pingMs = nowMs;
    // Only the answer's arrival matters, and `check` sees that; a refused ping is an answer too.
    ping(this.#context, 2 * this.#context.timers.nopTimeoutMs).catch(() => undefined);
  }
}
