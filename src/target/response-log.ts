import { serialDistance, serialLess } from "../base/serial32.js";
import type { TargetPdu } from "../wire/pdu.js";

/** A status-bearing PDU as it was sent, and the task it belongs to, if any. */
export interface LoggedResponse<Task> {
  readonly pdu: TargetPdu;
  readonly task: Task | undefined;
}

export interface ResponseLogOptions<Task> {
  /** Responses that are kept; the oldest goes when there is one more. */
  readonly capacity: number;
  /** A task's status left the log: it was acknowledged, or no longer fits. */
  readonly onReleased: (task: Task) => void;
}

/**
 * The numbered responses of one connection that its initiator has not acknowledged, for Status SNACK (RFC 7143
 * §11.16, §4.2.2.2). StatSNs are kept in the order they were given.
 */
export class ResponseLog<Task> {
  readonly #options: ResponseLogOptions<Task>;
  readonly #entries = new Map<number, LoggedResponse<Task>>();

  constructor(options: ResponseLogOptions<Task>) {
    this.#options = options;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Keeps the response with `statSn`; the same number again takes the place of what was kept. */
  keep(statSn: number, pdu: TargetPdu, task?: Task): void {
    this.#entries.set(statSn, { pdu, task });
    if (this.#entries.size <= this.#options.capacity) return;
    for (const oldest of this.#entries.keys()) {
      this.forget(oldest);
      return;
    }
  }

  /** The response with `statSn`, if it is kept. */
  at(statSn: number): TargetPdu | undefined {
    return this.#entries.get(statSn)?.pdu;
  }

  /** The responses from `firstStatSn` on, `count` of them (0 for all); one that is no longer kept is undefined. */
  run(firstStatSn: number, count: number, nextStatSn: number): (LoggedResponse<Task> | undefined)[] {
    const length = count === 0 ? serialDistance(firstStatSn, nextStatSn) : count;
    const wanted = Math.max(0, Math.min(length, serialDistance(firstStatSn, nextStatSn)));
    return Array.from({ length: wanted }, (_, index) => this.#entries.get((firstStatSn + index) >>> 0));
  }

  /** Everything before `expStatSn` has arrived. */
  acknowledge(expStatSn: number): void {
    for (const statSn of this.#entries.keys()) {
      if (!serialLess(statSn, expStatSn)) return;
      this.forget(statSn);
    }
  }

  /** Drops one response; its task is told. */
  forget(statSn: number): void {
    const task = this.#entries.get(statSn)?.task;
    this.#entries.delete(statSn);
    if (task !== undefined) this.#options.onReleased(task);
  }

  /** Drops everything without a word: the connection is gone, and its tasks are looked after elsewhere. */
  clear(): void {
    this.#entries.clear();
  }
}
