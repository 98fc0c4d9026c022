import { MAX_HELD_STATUS_PDUS } from "../base/limits.js";
import { AsyncEvent } from "../wire/constants.js";
import type { TargetPdu } from "../wire/pdu.js";
import { protocolError } from "./errors.js";

/** A numbered PDU that is kept: until its turn comes, or (`isDone`) only until it may be acknowledged. */
export interface HeldStatus<T> {
  readonly pdu: T;
  readonly isDone: boolean;
}

/**
 * The StatSN order of one connection (RFC 7143 §4.2.2.2): what comes too early is kept until the gap is filled, what
 * comes again is dropped, and ExpStatSN acknowledges nothing that was not worked on.
 */
export class StatusSequence<T extends { readonly statSn: number }> {
  readonly #held = new Map<number, HeldStatus<T>>();
  #expStatSn: number;
  #highest: number;

  constructor(expStatSn: number) {
    this.#expStatSn = expStatSn;
    this.#highest = expStatSn;
  }

  /** The StatSN that is due: everything before it has been worked on. */
  get expStatSn(): number {
    return this.#expStatSn;
  }

  /** PDUs missing in a row from ExpStatSN on; 0 when none is. */
  get missingCount(): number {
    let count = 0;
    let statSn = this.#expStatSn;
    while (statSn !== this.#highest && !this.#held.has(statSn)) {
      count += 1;
      statSn = (statSn + 1) >>> 0;
    }
    return count;
  }

  /** Where a PDU with this StatSN stands; RFC 1982 order. */
  place(statSn: number): "next" | "early" | "duplicate" {
    const distance = (statSn - this.#expStatSn) | 0;
    return distance === 0 ? "next" : distance > 0 ? "early" : "duplicate";
  }

  /** The target has used all StatSNs before this one (a PDU shows it without using one up, §11.19.2). */
  note(nextStatSn: number): void {
    if (((nextStatSn - this.#highest) | 0) > 0) this.#highest = nextStatSn;
  }

  /** Has this one been worked on already, and waits to be acknowledged? */
  isDone(statSn: number): boolean {
    return this.#held.size > 0 && this.#held.get(statSn)?.isDone === true;
  }

  /** Keeps a PDU, in place of one with the same StatSN. Throws SESSION_PROTOCOL past MAX_HELD_STATUS_PDUS. */
  hold(pdu: T, isDone: boolean): void {
    if (this.#held.size >= MAX_HELD_STATUS_PDUS && !this.#held.has(pdu.statSn)) {
      throw protocolError("§4.2.2.2", `more than ${MAX_HELD_STATUS_PDUS} PDUs wait for a missing StatSN`);
    }
    this.#held.set(pdu.statSn, { pdu, isDone });
    this.note((pdu.statSn + 1) >>> 0);
  }

  /** The PDU with ExpStatSN has been worked on. */
  advance(): void {
    this.#held.delete(this.#expStatSn);
    this.#expStatSn = (this.#expStatSn + 1) >>> 0;
    this.note(this.#expStatSn);
  }

  /** The kept PDU whose turn it is; it stays kept until `advance`. */
  peek(): HeldStatus<T> | undefined {
    return this.#held.size === 0 ? undefined : this.#held.get(this.#expStatSn);
  }
}

/**
 * What counts even when others are missing before it: the status of a task; a Reject, which may be the answer to the
 * question for them; and what the target announces, since it may be gone before they come again. Not the end of tasks
 * by somebody else, whose status must be heard first.
 */
export function isUrgent(pdu: TargetPdu): boolean {
  if (pdu.type === "async-message") return pdu.asyncEvent !== AsyncEvent.fastAbort;
  return pdu.type === "scsi-response" || pdu.type === "scsi-data-in" || pdu.type === "reject";
}
