import type { BufferPool } from "../buffer-pool.js";
import type { LogicalUnit } from "./logical-unit.js";
import type { Nexus } from "./nexus.js";

/**
 * How a command meets reservations of other initiators (SPC-5 §5.13.1): `always` runs whatever is reserved,
 * `status` is let through by persistent reservations but not by RESERVE(6), `read` and `write` follow the
 * reservation's type, `own` judges by itself (PERSISTENT RESERVE OUT, RELEASE).
 */
export type ReservationClass = "always" | "status" | "read" | "write" | "own";

export interface CommandSpec {
  readonly name: string;
  readonly opcode: number;
  /** Low five bits of byte 1 (or bytes 8-9 of a variable-length CDB) where the opcode has service actions. */
  readonly serviceAction?: number;
  /** CDB usage data of REPORT SUPPORTED OPERATION CODES: hexadecimal, one bit set for every bit evaluated. */
  readonly usage: string;
  readonly reservation: ReservationClass;
  /** Refused with DATA PROTECT on a write-protected unit. */
  readonly changesMedium: boolean;
  /** Needs a started unit: refused with NOT READY after STOP, while a sanitize runs, after one failed. */
  readonly needsMedium: boolean;
  /** Absent: every unit has the command. */
  isAvailable?(unit: LogicalUnit): boolean;
  /**
   * Validates the CDB (throws CheckCondition) and returns how many bytes of Data-Out the command takes.
   * Absent: none.
   */
  dataOutBytes?(command: ScsiCommand): number;
  /** Does the work; returns Data-In already cut to the allocation length. Throws CheckCondition and BlockError. */
  execute(command: ScsiCommand): Promise<Buffer | undefined> | Buffer | undefined;
}

export interface ScsiCommandOptions {
  readonly unit: LogicalUnit;
  readonly nexus: Nexus;
  readonly cdb: Buffer;
  readonly spec: CommandSpec;
  /** Bytes of Data-Out the initiator means to send. */
  readonly announcedOutBytes: number;
}

export interface ScsiCommandDependencies {
  readonly pool: BufferPool;
  /** Every command of the device server, for REPORT SUPPORTED OPERATION CODES. */
  readonly allSpecs: readonly CommandSpec[];
  /** The units of the target, for EXTENDED COPY. */
  readonly units: ReadonlyMap<number, LogicalUnit>;
}

export const NO_DATA = Buffer.alloc(0);

/** One command in the device server. */
export class ScsiCommand {
  readonly unit: LogicalUnit;
  readonly nexus: Nexus;
  readonly cdb: Buffer;
  readonly spec: CommandSpec;
  readonly announcedOutBytes: number;
  /** What arrived: no longer than the command asked for, shorter if the initiator announced less. */
  dataOut: Buffer = NO_DATA;
  readonly #dependencies: ScsiCommandDependencies;
  #pooled: Buffer[] = [];
  #isAborted = false;

  constructor(options: ScsiCommandOptions, dependencies: ScsiCommandDependencies) {
    this.unit = options.unit;
    this.nexus = options.nexus;
    this.cdb = options.cdb;
    this.spec = options.spec;
    this.announcedOutBytes = options.announcedOutBytes;
    this.#dependencies = dependencies;
  }

  get allSpecs(): readonly CommandSpec[] {
    return this.#dependencies.allSpecs;
  }

  get units(): ReadonlyMap<number, LogicalUnit> {
    return this.#dependencies.units;
  }

  /** Was the task aborted while it ran? Long commands ask between their steps and stop. */
  get isAborted(): boolean {
    return this.#isAborted;
  }

  abort(): void {
    this.#isAborted = true;
  }

  /** A buffer for this command's data with unspecified contents; it goes back to the pool with `release`. */
  allocate(lengthBytes: number): Buffer {
    const whole = this.#dependencies.pool.acquire(lengthBytes);
    this.#pooled.push(whole);
    return whole.length === lengthBytes ? whole : whole.subarray(0, lengthBytes);
  }

  /** Makes the command the owner of a pooled buffer acquired elsewhere. */
  adopt(whole: Buffer): void {
    this.#pooled.push(whole);
  }

  /** Returns the command's buffers: nothing may use its data any more. */
  release(): void {
    for (const whole of this.#pooled) this.#dependencies.pool.release(whole);
    this.#pooled = [];
    this.dataOut = NO_DATA;
  }

  /** Cuts parameter data to the CDB's allocation length. */
  cut(data: Buffer, allocationBytes: number): Buffer {
    return data.length <= allocationBytes ? data : data.subarray(0, allocationBytes);
  }
}
