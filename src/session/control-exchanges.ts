import type { Clock, Timer } from "../base/clock.js";
import type { AppError } from "../base/errors.js";
import { MAX_CONTROL_EXCHANGES } from "../base/limits.js";
import type { InitiatorPdu, TargetPdu } from "../wire/pdu.js";
import type { Connection } from "./connection.js";
import { SessionError } from "./errors.js";

/** Makes a request when it is known what it must carry. */
export interface ControlExchange {
  build(cmdSn: number, expStatSn: number): InitiatorPdu;
}

interface Waiter {
  readonly connection: Connection;
  readonly timer: Timer;
  resolve(pdu: TargetPdu): void;
  reject(error: AppError): void;
}

/** The slot number in the tags of all control requests; never a slot of the task table. */
const CONTROL_SLOT = 0xfffe;

/**
 * Requests that are no SCSI commands (NOP, task management, text, logout) and their answers, matched by tag.
 * Each has its own time; an answer after that time is dropped in silence.
 */
export class ControlExchanges {
  readonly #clock: Clock;
  readonly #waiters = new Map<number, Waiter>();
  readonly #expired = new Set<number>();
  #generation = 0;

  constructor(dependencies: { readonly clock: Clock }) {
    this.#clock = dependencies.clock;
  }

  /** A tag that no other request of the session has. */
  allocateTag(): number {
    do {
      this.#generation = (this.#generation + 1) & 0xffff;
    } while (this.#waiters.has(this.#tag()) || this.#expired.has(this.#tag()));
    return this.#tag();
  }

  /** Sends a request with `tag` and resolves with its answer. Rejects with SessionError. */
  run(
    connection: Connection,
    options: { readonly tag: number; readonly what: string; readonly timeoutMs: number },
    build: ControlExchange["build"],
  ): Promise<TargetPdu> {
    const { tag, what, timeoutMs } = options;
    return new Promise((resolve, reject) => {
      if (this.#waiters.size + this.#expired.size >= MAX_CONTROL_EXCHANGES) {
        reject(
          new SessionError("SESSION_QUEUE_FULL", `${what}: ${MAX_CONTROL_EXCHANGES} requests are waiting already`),
        );
        return;
      }
      const timer = this.#clock.setTimer(timeoutMs, () => {
        this.#waiters.delete(tag);
        this.#expired.add(tag);
        reject(
          new SessionError("SESSION_TIMEOUT", `${what} was not answered within ${timeoutMs} ms`, {
            retry: "same-path",
            details: { timeoutMs },
          }),
        );
      });
      this.#waiters.set(tag, { connection, timer, resolve, reject });
      connection.sendControl({ build });
    });
  }

  /** Hands an answer to whoever waits; false when the tag was never ours. */
  deliver(pdu: TargetPdu): boolean {
    if (!("initiatorTaskTag" in pdu)) return false;
    const tag = pdu.initiatorTaskTag;
    const waiter = this.#waiters.get(tag);
    if (waiter === undefined) return this.#expired.delete(tag);
    this.#waiters.delete(tag);
    waiter.timer.cancel();
    waiter.resolve(pdu);
    return true;
  }

  /** One request was refused by the target: false when the tag is not that of a request here. */
  fail(tag: number, error: AppError): boolean {
    const waiter = this.#waiters.get(tag);
    if (waiter === undefined) return this.#expired.delete(tag);
    this.#waiters.delete(tag);
    waiter.timer.cancel();
    waiter.reject(error);
    return true;
  }

  /** The connection is gone: nothing will be answered. */
  failAll(connection: Connection, error: AppError): void {
    this.#expired.clear();
    for (const [tag, waiter] of [...this.#waiters]) {
      if (waiter.connection === connection) this.fail(tag, error);
    }
  }

  #tag(): number {
    return ((this.#generation << 16) | CONTROL_SLOT) >>> 0;
  }
}
