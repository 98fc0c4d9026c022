import { MAX_COMMAND_RETRANSMISSIONS } from "../base/limits.js";
import type { Connection } from "./connection.js";
import { SessionError } from "./errors.js";
import { ping } from "./keepalive.js";
import type { SessionContext } from "./session-context.js";
import type { TaskRecord } from "./task-record.js";

/**
 * Fills gaps in the command sequence of which nobody tells us (RFC 7143 §7.2.1, §7.1.4.2): a command that the target does
 * not acknowledge although it answers a ping sent after it was lost on the way, and goes out again with its tag and number.
 * Only the one that is due: those behind it may well be at the target. ErrorRecoveryLevel 1 and 2.
 */
export class CommandRetry {
  readonly #context: SessionContext;
  #isAsking = false;

  constructor(context: SessionContext) {
    this.#context = context;
  }

  /** Called at every sweep. */
  check(nowMs: number): void {
    const { dispatcher, timers } = this.#context;
    if (this.#isAsking) return;
    const record = dispatcher.due;
    if (record === undefined || nowMs - record.sentMs < timers.commandRetryMs) return;
    const { connection } = record;
    if (connection === undefined || connection.channel.isOver || connection.isLoggingOut || record.isAborting) return;
    if (connection.parameters.errorRecoveryLevel === 0) return;
    this.#isAsking = true;
    void this.#retry(record, connection).finally(() => (this.#isAsking = false));
  }

  async #retry(record: TaskRecord, connection: Connection): Promise<void> {
    const { dispatcher, timers, counters, dependencies } = this.#context;
    try {
      // The answer shows what the target had received by then over this connection.
      await ping(this.#context, timers.nopTimeoutMs, connection);
    } catch {
      // A connection that does not answer is the keepalive's business.
      return;
    }
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
}
