import { Backoff } from "../base/backoff.js";
import { type Clock, sleep } from "../base/clock.js";
import { AppError } from "../base/errors.js";
import {
  MAX_COMMAND_RETRIES,
  MAX_PATH_BUSY_MS,
  MAX_PROBE_WAIT_MS,
  MAX_UNIT_ATTENTIONS_PER_COMMAND,
} from "../base/limits.js";
import { type Lun, formatLun } from "../base/lun.js";
import type { Random } from "../base/random.js";
import { commandName } from "../scsi/opcodes.js";
import { type Sense, decodeSense } from "../scsi/sense.js";
import { ScsiStatus } from "../scsi/status.js";
import { type UnitAttentionKind, type Verdict, classify } from "../scsi/verdict.js";
import type { SessionError } from "../session/errors.js";
import type { Session } from "../session/session.js";
import type { ScsiResult, ScsiStatusResult, ScsiTask } from "../session/task.js";
import { BlockError, type BlockErrorCode } from "./errors.js";

export interface LunCommand {
  readonly cdb: Buffer;
  readonly dataIn?: Buffer;
  readonly dataOut?: Buffer;
  readonly timeoutMs?: number;
  readonly allowUnderflow?: boolean;
  /** False for what must not happen twice. */
  readonly isRetryable?: boolean;
  /** A question of a guard: passes while tasks are held back, and gives up when it cannot be answered now. */
  readonly isProbe?: boolean;
}

export interface LunCommanderDependencies {
  readonly clock: Clock;
  readonly random: Random;
}

/** Looks at what changed, before the command that heard of it is repeated. Not called for probes. */
export type UnitAttentionHandler = (kind: UnitAttentionKind, sense: Sense | undefined) => Promise<void>;

export interface LunCommanderTarget {
  readonly session: Session;
  readonly lun: Lun;
  readonly onUnitAttention: UnitAttentionHandler;
  /** What another path may do better fails at once, with retry advice `other-path`; default no: it is repeated here. */
  readonly isOneOfSeveralPaths?: boolean;
}

const WAIT_INITIAL_MS = 20;
const WAIT_MAXIMUM_MS = 2_000;

/** Commands to one logical unit, repeated as their status asks for, until they are done or failed for good. */
export class LunCommander {
  readonly #session: Session;
  readonly #lun: Lun;
  readonly #dependencies: LunCommanderDependencies;
  readonly #onUnitAttention: UnitAttentionHandler;
  readonly #hasOtherPaths: boolean;
  #outstanding = 0;
  #onIdle: (() => void) | undefined;

  constructor(target: LunCommanderTarget, dependencies: LunCommanderDependencies) {
    this.#session = target.session;
    this.#lun = target.lun;
    this.#onUnitAttention = target.onUnitAttention;
    this.#hasOtherPaths = target.isOneOfSeveralPaths ?? false;
    this.#dependencies = dependencies;
  }

  /** Resolves with the bytes transferred: all of them unless `allowUnderflow`. Rejects with BlockError. */
  run(command: LunCommand): Promise<number> {
    this.#outstanding += 1;
    return new Promise((resolve, reject) => {
      this.#session.execute(
        new PendingCommand(this.#lun, command, {
          onGood: (transferredBytes) => {
            this.#settled();
            resolve(transferredBytes);
          },
          onOther: (pending, result) => {
            this.#judge(pending, result).then(
              (transferredBytes) => {
                if (transferredBytes === undefined) {
                  this.#session.execute(pending);
                  return;
                }
                this.#settled();
                resolve(transferredBytes);
              },
              (error: unknown) => {
                this.#settled();
                reject(error instanceof Error ? error : new Error(String(error)));
              },
            );
          },
        }),
      );
    });
  }

  /** Resolves when nothing is outstanding. */
  async idle(): Promise<void> {
    if (this.#outstanding === 0) return;
    await new Promise<void>((resolve) => {
      const before = this.#onIdle;
      this.#onIdle = () => {
        before?.();
        resolve();
      };
    });
  }

  #settled(): void {
    this.#outstanding -= 1;
    if (this.#outstanding > 0 || this.#onIdle === undefined) return;
    const onIdle = this.#onIdle;
    this.#onIdle = undefined;
    onIdle();
  }

  /** Resolves with the bytes when the command is done after all, with undefined when it is to be sent again. */
  async #judge(pending: PendingCommand, result: ScsiResult): Promise<number | undefined> {
    if (result.kind === "failed") return this.#judgeFailure(pending, result.error);
    const sense = readSense(result);
    const verdict = classify(result.status, sense);
    switch (verdict.action) {
      case "success":
        if (isComplete(pending, result)) return result.transferredBytes;
        return this.#retry(pending, this.#error(pending, "BLOCK_IO", `${verdict.name}, but the transfer came short`));
      case "unit-attention":
        pending.unitAttentions += 1;
        if (pending.unitAttentions > MAX_UNIT_ATTENTIONS_PER_COMMAND) throw this.#verdictError(pending, verdict);
        if (pending.isProbe !== true) await this.#onUnitAttention(verdict.attention, sense);
        return undefined;
      case "wait":
        // Another port group may take it now; the owner of the paths looks at the states.
        if (this.#hasOtherPaths && verdict.reason === "alua-transitioning") throw this.#verdictError(pending, verdict);
        return this.#wait(pending, this.#verdictError(pending, verdict));
      case "retry":
        if (pending.isRetryable === false) throw this.#verdictError(pending, verdict);
        return this.#retry(pending, this.#verdictError(pending, verdict));
      case "other-path":
        // A guard has other ways to wait: it lets the session look at another portal.
        if (pending.isProbe === true || this.#hasOtherPaths) throw this.#verdictError(pending, verdict);
        return this.#retry(pending, this.#verdictError(pending, verdict));
      case "fail":
        throw this.#verdictError(pending, verdict);
    }
  }

  async #judgeFailure(pending: PendingCommand, error: SessionError): Promise<undefined> {
    const blockError = this.#sessionError(pending, error);
    switch (error.code) {
      case "SESSION_TASK_TIMEOUT":
        // It was aborted, so it may go another way; the path that did not answer it is looked at first.
        if (this.#hasOtherPaths) throw this.#error(pending, "BLOCK_UNAVAILABLE", error.message, onOtherPath(error));
        if (pending.isRetryable === false) throw blockError;
        return this.#retry(pending, blockError);
      case "SESSION_TASK_ABORTED":
      case "SESSION_TARGET_FAILURE":
      case "SESSION_SHORT_TRANSFER":
        if (pending.isRetryable === false) throw blockError;
        return this.#retry(pending, blockError);
      case "SESSION_QUEUE_FULL":
        return this.#wait(pending, blockError);
      default:
        throw blockError;
    }
  }

  /** A bounded number of times, each a little later. */
  async #retry(pending: PendingCommand, error: BlockError): Promise<undefined> {
    pending.retries += 1;
    if (pending.retries > MAX_COMMAND_RETRIES) throw error;
    await this.#pause(pending);
    return undefined;
  }

  /** For as long as it takes: the condition ends by itself. Only a guard, and a unit with other paths, has no time for it. */
  async #wait(pending: PendingCommand, error: BlockError): Promise<undefined> {
    const { clock } = this.#dependencies;
    pending.waitingSinceMs ??= clock.nowMs();
    const waitedMs = clock.nowMs() - pending.waitingSinceMs;
    if (pending.isProbe === true && waitedMs > MAX_PROBE_WAIT_MS) throw error;
    if (this.#hasOtherPaths && waitedMs > MAX_PATH_BUSY_MS) {
      throw new BlockError("BLOCK_UNAVAILABLE", error.message, onOtherPath(error));
    }
    await this.#pause(pending);
    return undefined;
  }

  async #pause(pending: PendingCommand): Promise<void> {
    pending.backoff ??= new Backoff(
      { initialMs: WAIT_INITIAL_MS, maximumMs: WAIT_MAXIMUM_MS },
      { random: this.#dependencies.random },
    );
    await sleep(this.#dependencies.clock, pending.backoff.next());
  }

  #verdictError(pending: PendingCommand, verdict: Verdict): BlockError {
    const code = blockCodes[verdict.reason] ?? "BLOCK_IO";
    const retry = verdict.action === "fail" ? "never" : "other-path";
    return this.#error(pending, code, verdict.name, {
      retry,
      details: { verdict: verdict.code, reason: verdict.reason },
    });
  }

  #sessionError(pending: PendingCommand, error: SessionError): BlockError {
    const code = sessionCodes[error.code] ?? "BLOCK_IO";
    const { cause } = error;
    if (error.code === "SESSION_PATH_REFUSED" && cause instanceof BlockError) return cause;
    if (error.code === "SESSION_PATH_REFUSED" && cause instanceof AppError) {
      return this.#error(pending, "BLOCK_RESERVATION_CONFLICT", cause.message, onOtherPath(cause));
    }
    return this.#error(pending, code, error.message, { retry: error.retry, cause: error });
  }

  #error(
    pending: PendingCommand,
    code: BlockErrorCode,
    reason: string,
    options: ConstructorParameters<typeof AppError>[3] = {},
  ): BlockError {
    return new BlockError(code, `${commandName(pending.cdb)} on LUN ${formatLun(this.#lun)}: ${reason}`, options);
  }
}

const accessStateReasons: ReadonlySet<unknown> = new Set<Verdict["reason"]>([
  "alua-standby",
  "alua-unavailable",
  "alua-offline",
  "alua-transitioning",
]);

/** Was the command refused because of the access state of the port it came through (SPC-5 §5.18)? */
export function isAccessStateError(error: unknown): error is BlockError {
  return error instanceof BlockError && accessStateReasons.has(error.details["reason"]);
}

/** The failure of one path that says nothing about the others. */
function onOtherPath(cause: AppError): { readonly retry: "other-path"; readonly cause: AppError } {
  return { retry: "other-path", cause };
}

/** Verdicts that have a code of their own at the block level. */
const blockCodes: Partial<Record<Verdict["reason"], BlockErrorCode>> = {
  "thin-full": "BLOCK_NO_SPACE",
  "write-protected": "BLOCK_READ_ONLY",
  "reservation-conflict": "BLOCK_RESERVATION_CONFLICT",
  miscompare: "BLOCK_MISCOMPARE",
  "out-of-range": "BLOCK_INVALID_RANGE",
  "invalid-command": "BLOCK_NOT_SUPPORTED",
  "invalid-field": "BLOCK_NOT_SUPPORTED",
  "not-ready": "BLOCK_UNAVAILABLE",
  "no-such-lun": "BLOCK_NO_SUCH_LUN",
  "alua-transitioning": "BLOCK_UNAVAILABLE",
  "alua-standby": "BLOCK_UNAVAILABLE",
  "alua-unavailable": "BLOCK_UNAVAILABLE",
  "alua-offline": "BLOCK_UNAVAILABLE",
};

const sessionCodes: Partial<Record<SessionError["code"], BlockErrorCode>> = {
  SESSION_CLOSED: "BLOCK_CLOSED",
  SESSION_UNAVAILABLE: "BLOCK_UNAVAILABLE",
  SESSION_CONNECTION_LOST: "BLOCK_UNAVAILABLE",
  SESSION_PATH_REFUSED: "BLOCK_IDENTITY_MISMATCH",
  SESSION_QUEUE_FULL: "BLOCK_UNAVAILABLE",
};

interface Outcome {
  onGood(transferredBytes: number): void;
  onOther(pending: PendingCommand, result: ScsiResult): void;
}

/** A command with the memory of what happened to it so far. */
class PendingCommand implements ScsiTask {
  readonly lun: Lun;
  readonly cdb: Buffer;
  readonly dataIn: Buffer | undefined;
  readonly dataOut: Buffer | undefined;
  readonly timeoutMs: number | undefined;
  readonly allowUnderflow: boolean | undefined;
  readonly isRetryable: boolean | undefined;
  readonly isProbe: boolean | undefined;
  unitAttentions = 0;
  retries = 0;
  waitingSinceMs: number | undefined;
  backoff: Backoff | undefined;
  readonly #outcome: Outcome;

  constructor(lun: Lun, command: LunCommand, outcome: Outcome) {
    this.lun = lun;
    this.cdb = command.cdb;
    this.dataIn = command.dataIn;
    this.dataOut = command.dataOut;
    this.timeoutMs = command.timeoutMs;
    this.allowUnderflow = command.allowUnderflow;
    this.isRetryable = command.isRetryable;
    this.isProbe = command.isProbe;
    this.#outcome = outcome;
  }

  onDone(result: ScsiResult): void {
    if (result.kind === "status" && result.status === ScsiStatus.good) this.#outcome.onGood(result.transferredBytes);
    else this.#outcome.onOther(this, result);
  }
}

/** The session vouches for the length only with a good status; "recovered error" comes with CHECK CONDITION. */
function isComplete(pending: PendingCommand, result: ScsiStatusResult): boolean {
  if (pending.allowUnderflow === true) return true;
  const expectedBytes = pending.dataIn?.length ?? pending.dataOut?.length ?? 0;
  return result.residual.kind === "none" && result.transferredBytes === expectedBytes;
}

/** Sense that cannot be read is no sense: the verdict on the status alone is the careful one. */
function readSense(result: ScsiStatusResult): Sense | undefined {
  if (result.sense === undefined) return undefined;
  try {
    return decodeSense(result.sense);
  } catch (error) {
    if (error instanceof AppError) return undefined;
    throw error;
  }
}
