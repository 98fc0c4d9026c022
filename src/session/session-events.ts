import type { PortalAddress } from "../base/access.js";
import type { AppError } from "../base/errors.js";
import type { Lun } from "../base/lun.js";
import type { ConnectionPolicy } from "./connection-policy.js";
import type { SessionState } from "./session-state.js";

export type SessionEvent =
  | { readonly kind: "connected"; readonly portal: PortalAddress; readonly tsih: number }
  | { readonly kind: "disconnected"; readonly portal: PortalAddress; readonly reason: AppError }
  | {
      readonly kind: "reconnect-failed";
      readonly portal: PortalAddress;
      readonly attempt: number;
      readonly reason: AppError;
    }
  /** Connected again and accepted by every guard. */
  | {
      readonly kind: "reconnected";
      readonly portal: PortalAddress;
      readonly tsih: number;
      readonly outageMs: number;
    }
  /**
   * So many tasks of a lost session were given back to their owner; `isFenced`: among them writes that had been sent,
   * after it was made certain that the target does not carry them out any more.
   */
  | { readonly kind: "handed-over"; readonly tasks: number; readonly isFenced: boolean }
  /** A connection beside the leading one carries commands now; `cid` as in RFC 7143 §11.12.6. */
  | { readonly kind: "connection-added"; readonly cid: number; readonly portal: PortalAddress }
  /** One of several connections was lost; its tasks go on elsewhere (`isRecovering`) or the session starts anew. */
  | {
      readonly kind: "connection-lost";
      readonly cid: number;
      readonly portal: PortalAddress;
      readonly isRecovering: boolean;
      readonly reason: AppError;
    }
  /** Connection recovery (§7.1.4.3) has moved `reassignedTasks` tasks; none was sent anew as another command. */
  | { readonly kind: "connection-recovered"; readonly cid: number; readonly reassignedTasks: number }
  /** Closed in order because it was asked for. */
  | { readonly kind: "connection-removed"; readonly cid: number; readonly portal: PortalAddress }
  /** A guard refused what it found behind a portal. */
  | { readonly kind: "path-refused"; readonly portal: PortalAddress; readonly reason: AppError }
  /** The outage has lasted longer than `reconnectLimitMs`: tasks fail now. */
  | { readonly kind: "unavailable"; readonly reason: AppError }
  | { readonly kind: "task-timeout"; readonly lun: Lun; readonly opcode: number }
  /** A step of the escalation after a timeout, and what came of it. */
  | {
      readonly kind: "escalation";
      readonly step: "abort-task" | "lun-reset" | "target-reset" | "drop";
      readonly outcome: "succeeded" | "failed";
      readonly reason: string;
    }
  /** AsyncEvent 0: `sense` is raw sense data about the unit (RFC 7143 §11.9.1). */
  | { readonly kind: "scsi-event"; readonly lun: Lun; readonly sense: Buffer }
  /** Every other async message. */
  | { readonly kind: "async-message"; readonly event: number; readonly vendorCode: number }
  | { readonly kind: "closed"; readonly reason: AppError | undefined };

/** One connection of a session as it stands. */
export interface ConnectionSnapshot {
  readonly cid: number;
  readonly portal: PortalAddress;
  readonly localAddress: string;
  readonly isStandby: boolean;
  readonly weight: number;
  readonly commandsInFlight: number;
  readonly receivedBytes: number;
}

/** What recovery inside a session has done so far; all of it without the owner of a task noticing. */
export interface RecoveryCounters {
  headerDigestErrors: number;
  dataDigestErrors: number;
  /** SNACKs sent, by type (§11.16.1). */
  dataSnacks: number;
  statusSnacks: number;
  dataAcks: number;
  rDataSnacks: number;
  /** R2Ts that asked for data a second time. */
  recoveryR2ts: number;
  /** Commands sent again with the same tag and CmdSN (§7.2.1). */
  commandRetries: number;
  /** Tasks moved to another connection (§7.2.2). */
  taskReassigns: number;
  /** Connections whose loss the session survived. */
  connectionRecoveries: number;
  /** Times the session itself began anew. */
  sessionRecoveries: number;
}

/** Counters at zero. */
export function noRecovery(): RecoveryCounters {
  return {
    headerDigestErrors: 0,
    dataDigestErrors: 0,
    dataSnacks: 0,
    statusSnacks: 0,
    dataAcks: 0,
    rDataSnacks: 0,
    recoveryR2ts: 0,
    commandRetries: 0,
    taskReassigns: 0,
    connectionRecoveries: 0,
    sessionRecoveries: 0,
  };
}

/** What a session looks like at one moment. */
export interface SessionSnapshot {
  readonly state: SessionState;
  /** Why it is not ready; empty when it is. */
  readonly reason: string;
  /** Where it is, or was last, connected to. */
  readonly portal: PortalAddress;
  readonly targetName: string;
  readonly targetAlias: string;
  /** Hexadecimal. */
  readonly isid: string;
  readonly tsih: number;
  readonly portalGroupTag: number | undefined;
  readonly headerDigest: string;
  readonly dataDigest: string;
  readonly errorRecoveryLevel: number;
  /** As negotiated. */
  readonly maxConnections: number;
  /** Those in full feature phase. */
  readonly connections: readonly ConnectionSnapshot[];
  readonly recovery: Readonly<RecoveryCounters>;
  /** How commands are spread over the connections now. */
  readonly policy: ConnectionPolicy;
  /** As negotiated (§13.23; RFC 7144 §7.1.1). */
  readonly taskReporting: string;
  readonly iscsiProtocolLevel: number;
  /** What the target said to the extension keys we offered. */
  readonly extensionAnswers: readonly (readonly [key: string, answer: string])[];
  readonly reconnects: number;
  readonly commandsInFlight: number;
  readonly commandsQueued: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly readOperations: number;
  readonly writeOperations: number;
  readonly reissuedTasks: number;
}
