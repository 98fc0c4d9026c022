import type { PortalAddress } from "../base/access.js";
import type { AppError } from "../base/errors.js";
import type { Lun } from "../base/lun.js";
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
  readonly reconnects: number;
  readonly commandsInFlight: number;
  readonly commandsQueued: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly readOperations: number;
  readonly writeOperations: number;
  readonly reissuedTasks: number;
}
