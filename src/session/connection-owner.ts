import type { PortalAddress } from "../base/access.js";
import type { AppError } from "../base/errors.js";
import type { NegotiatedParameters } from "../login/parameters.js";
import type { AsyncMessagePdu, RejectPdu, TargetPdu } from "../wire/pdu.js";
import type { CommandWindow } from "./command-window.js";
import type { Connection } from "./connection.js";
import type { PduChannel } from "./pdu-channel.js";
import type { RecoveryCounters } from "./session-events.js";
import type { ScsiResult } from "./task.js";
import type { TaskRecord } from "./task-record.js";

/** What a connection needs of the session it belongs to. */
export interface ConnectionOwner {
  readonly counters: RecoveryCounters;
  /** The task with this tag, whatever connection it belongs to. */
  findTask(initiatorTaskTag: number): TaskRecord | undefined;
  /** Was it a task that ended without its answer, which may still come over another connection? */
  isAbandoned(initiatorTaskTag: number): boolean;
  /** The task ended; the connection has forgotten it. */
  onTaskDone(record: TaskRecord, result: ScsiResult): void;
  /** The window may have grown. */
  onWindowUpdate(): void;
  onAsyncMessage(connection: Connection, pdu: AsyncMessagePdu): void;
  onReject(connection: Connection, pdu: RejectPdu): void;
  /** A control PDU other than a task's. Returns false when nobody waits for it. */
  onControlResponse(pdu: TargetPdu): boolean;
  /** The answer to a request other than a task was lost: true when this tag is that of one, or of none at all. */
  onControlLost(tag: number): boolean;
  /** The connection is gone; nothing comes from it any more. */
  onLost(connection: Connection, reason: AppError): void;
}

export interface ConnectionOptions {
  readonly channel: PduChannel;
  readonly connectionId: number;
  readonly parameters: NegotiatedParameters;
  readonly nextExpStatSn: number;
  readonly window: CommandWindow;
  readonly owner: ConnectionOwner;
  /** Where it ended up, after redirects. */
  readonly portal: PortalAddress;
  /** Place among the connections of the session. */
  readonly rank: number;
  readonly weight: number;
  readonly isStandby: boolean;
  /** After which a retransmission is asked for again. */
  readonly snackTimeoutMs: number;
}
