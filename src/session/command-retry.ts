import { errorMessage } from "../base/errors.js";
import { MAX_COMMAND_RETRANSMISSIONS } from "../base/limits.js";
import { LUN_ZERO } from "../base/lun.js";
import { RESERVED_TAG } from "../wire/constants.js";
import type { Connection } from "./connection.js";
import { SessionError } from "./errors.js";
import { ping } from "./keepalive.js";
import type { SessionContext } from "./session-context.js";
import type { TaskRecord } from "./task-record.js";

const NO_DATA = Buffer.alloc(0);

/**
 * Fills gaps in the command sequence of which nobody tells us (RFC 7143 §7.2.1, §7.1.4.2): a command that the target does
 * not acknowledge although it answers a ping sent after it was lost on the way, and goes out again with its tag and number.
 * Only the one that is due: those behind it may well be at the target. ErrorRecoveryLevel 1 and 2.
 */
export class CommandRetry {
  readonly #context: SessionContext;
  #isAsking = false;
  /** A number that no task of ours has any more, and that the target waits for; seen at the last sweep. */
  #orphan: number | undefined;

  constructor(context: SessionContext) {
    this.#context = context;
  }

  /** Called at every sweep. */
  check(nowMs: number): void {
    if (this.#isAsking) return;
    const { dispatcher, connection, state } = this.#context;
    const orphan = dispatcher.orphanCmdSn;
    const isOpen = state === "ready" || state === "verifying";
    const isStanding = orphan !== undefined && orphan === this.#orphan;
    this.#orphan = orphan;
    if (isStanding && connection !== undefined && isOpen) this.#begin(this.#plugOrphan(orphan, connection));
    else this.#checkDue(nowMs);
  }

  #checkDue(nowMs: number): void {
    const { dispatcher, timers } = this.#context;
    const record = dispatcher.due;
    if (record === undefined || nowMs - record.sentMs < timers.commandRetryMs) return;
    const { connection } = record;
    if (connection === undefined || connection.channel.isOver || connection.isLoggingOut || record.isAborting) return;
    if (connection.parameters.errorRecoveryLevel > 0) this.#begin(this.#retry(record, connection));
  }

  #begin(work: Promise<void>): void {
    this.#isAsking = true;
    void work.finally(() => (this.#isAsking = false));
  }

  /**
   * The command went with a connection that was given up before it was used: nobody else would send its number again.
   * The target may have it all the same, so it is asked first.
   */
  async #plugOrphan(cmdSn: number, connection: Connection): Promise<void> {
    if (!(await this.#answers(connection)) || this.#context.dispatcher.orphanCmdSn !== cmdSn) return;
    plugCommandGap(this.#context, connection, cmdSn);
  }

  async #retry(record: TaskRecord, connection: Connection): Promise<void> {
    const { dispatcher, counters, dependencies } = this.#context;
    if (!(await this.#answers(connection))) return;
    if (dispatcher.due !== record || record.connection !== connection || connection.channel.isOver) return;
    if (record.retries >= MAX_COMMAND_RETRANSMISSIONS) {
      const message = `the target does not take a command that was sent ${record.retries + 1} times`;
      this.#context.dropConnection(connection, new SessionError("SESSION_TIMEOUT", message, { retry: "same-path" }));
      return;
    }
    dependencies.logger.info("command was lost, sending it again", { cmdSn: record.cmdSn });
    counters.commandRetries += 1;
    dispatcher.retry(record, connection);
  }

  /** The answer to a ping shows what the target had received by then over this connection. */
  async #answers(connection: Connection): Promise<boolean> {
    try {
      await ping(this.#context, this.#context.timers.nopTimeoutMs, connection);
      return true;
    } catch {
      // A connection that does not answer is the keepalive's business.
      return false;
    }
  }
}

/** A hole in the command sequence stops the target; a ping with the missing number fills it (RFC 7143 §7.3). */
export function plugCommandGap(context: SessionContext, connection: Connection, cmdSn: number): void {
  const { controls, timers, dependencies } = context;
  const tag = controls.allocateTag();
  const plug = controls.run(
    connection,
    { tag, what: "NOP-Out", timeoutMs: timers.nopTimeoutMs },
    (_nextCmdSn, expStatSn) => ({
      type: "nop-out",
      isImmediate: false,
      lun: LUN_ZERO,
      initiatorTaskTag: tag,
      targetTransferTag: RESERVED_TAG,
      cmdSn,
      expStatSn,
      data: NO_DATA,
    }),
  );
  // If it does not work the window stays shut, and the keepalive or a task's deadline ends the connection.
  plug.catch((error: unknown) => {
    dependencies.logger.warn("filling a gap in the command sequence failed", { cmdSn, reason: errorMessage(error) });
  });
}
