import type { Lun } from "../base/lun.js";
import type { LoginStage, SnackType, TaskAttribute } from "./constants.js";

/**
 * The 18 PDUs of RFC 7143 §11 as values. Names are the RFC's; u8, u16, u32 are plain whole numbers; tags
 * and serial numbers are unsigned 32 bits. `data` never contains padding; it is borrowed by an encoder, and in
 * a decoded PDU it is valid as long as the framer that placed it says (see framer.ts).
 */

/** Target sequence fields that nearly every target PDU carries. */
export interface TargetSequence {
  readonly statSn: number;
  readonly expCmdSn: number;
  readonly maxCmdSn: number;
}

/** §11.3. A CDB over 16 bytes travels in an extended-CDB AHS; `cdb` always holds the whole CDB. */
export interface ScsiCommandPdu {
  readonly type: "scsi-command";
  readonly isImmediate: boolean;
  readonly isFinal: boolean;
  readonly isRead: boolean;
  readonly isWrite: boolean;
  readonly taskAttribute: TaskAttribute;
  readonly lun: Lun;
  readonly initiatorTaskTag: number;
  readonly expectedDataTransferLength: number;
  readonly cmdSn: number;
  readonly expStatSn: number;
  readonly cdb: Buffer;
  /** Bidirectional read expected data transfer length AHS (§11.2.2.4), when both R and W are set. */
  readonly bidirectionalReadLength?: number;
  /** RFC 7144 §5.1.1: 1 to 15; means nothing below iSCSIProtocolLevel 2. Absent when it is 0. */
  readonly commandPriority?: number;
  readonly data: Buffer;
}

/** §11.4. `data` is the raw segment: two bytes SenseLength, sense, response data. */
export interface ScsiResponsePdu extends TargetSequence {
  readonly type: "scsi-response";
  readonly response: number;
  readonly status: number;
  readonly initiatorTaskTag: number;
  readonly snackTag: number;
  readonly expDataSn: number;
  readonly isBidirectionalOverflow: boolean;
  readonly isBidirectionalUnderflow: boolean;
  readonly isOverflow: boolean;
  readonly isUnderflow: boolean;
  readonly bidirectionalResidualCount: number;
  readonly residualCount: number;
  /** RFC 7144 §5.2.1, 16 bits; means nothing below iSCSIProtocolLevel 2. Absent when it is 0. */
  readonly statusQualifier?: number;
  readonly data: Buffer;
}

/** §11.5. */
export interface TaskManagementRequestPdu {
  readonly type: "task-management-request";
  readonly isImmediate: boolean;
  readonly function: number;
  readonly lun: Lun;
  readonly initiatorTaskTag: number;
  readonly referencedTaskTag: number;
  readonly cmdSn: number;
  readonly expStatSn: number;
  readonly refCmdSn: number;
  readonly expDataSn: number;
}

/** §11.6; `additionalResponse` is RFC 7144's. */
export interface TaskManagementResponsePdu extends TargetSequence {
  readonly type: "task-management-response";
  readonly response: number;
  readonly initiatorTaskTag: number;
  readonly additionalResponse: number;
}

/** §11.7, outgoing. */
export interface ScsiDataOutPdu {
  readonly type: "scsi-data-out";
  readonly isFinal: boolean;
  readonly lun: Lun;
  readonly initiatorTaskTag: number;
  readonly targetTransferTag: number;
  readonly expStatSn: number;
  readonly dataSn: number;
  readonly bufferOffset: number;
  readonly data: Buffer;
}

/** §11.7, incoming. `statSn`, `status` and the residual mean something only when `hasStatus`. */
export interface ScsiDataInPdu extends TargetSequence {
  readonly type: "scsi-data-in";
  readonly isFinal: boolean;
  readonly isAcknowledgeRequested: boolean;
  readonly hasStatus: boolean;
  readonly isOverflow: boolean;
  readonly isUnderflow: boolean;
  readonly status: number;
  readonly lun: Lun;
  readonly initiatorTaskTag: number;
  readonly targetTransferTag: number;
  readonly dataSn: number;
  readonly bufferOffset: number;
  readonly residualCount: number;
  readonly data: Buffer;
}

/** §11.8. */
export interface ReadyToTransferPdu extends TargetSequence {
  readonly type: "ready-to-transfer";
  readonly lun: Lun;
  readonly initiatorTaskTag: number;
  readonly targetTransferTag: number;
  readonly r2tSn: number;
  readonly bufferOffset: number;
  readonly desiredDataTransferLength: number;
}

/** §11.9. `data` is SenseLength, sense and event data when there is any. */
export interface AsyncMessagePdu extends TargetSequence {
  readonly type: "async-message";
  readonly lun: Lun;
  readonly asyncEvent: number;
  readonly asyncVCode: number;
  readonly parameter1: number;
  readonly parameter2: number;
  readonly parameter3: number;
  readonly data: Buffer;
}

/** §11.10. `data` is key=value text. */
export interface TextRequestPdu {
  readonly type: "text-request";
  readonly isImmediate: boolean;
  readonly isFinal: boolean;
  readonly isContinued: boolean;
  readonly lun: Lun;
  readonly initiatorTaskTag: number;
  readonly targetTransferTag: number;
  readonly cmdSn: number;
  readonly expStatSn: number;
  readonly data: Buffer;
}

/** §11.11. */
export interface TextResponsePdu extends TargetSequence {
  readonly type: "text-response";
  readonly isFinal: boolean;
  readonly isContinued: boolean;
  readonly lun: Lun;
  readonly initiatorTaskTag: number;
  readonly targetTransferTag: number;
  readonly data: Buffer;
}

/** §11.12. Always immediate on the wire. `isid` is six bytes. */
export interface LoginRequestPdu {
  readonly type: "login-request";
  readonly isTransit: boolean;
  readonly isContinued: boolean;
  readonly currentStage: LoginStage;
  readonly nextStage: LoginStage;
  readonly versionMax: number;
  readonly versionMin: number;
  readonly isid: Buffer;
  readonly tsih: number;
  readonly initiatorTaskTag: number;
  readonly cid: number;
  readonly cmdSn: number;
  readonly expStatSn: number;
  readonly data: Buffer;
}

/** §11.13. */
export interface LoginResponsePdu extends TargetSequence {
  readonly type: "login-response";
  readonly isTransit: boolean;
  readonly isContinued: boolean;
  readonly currentStage: LoginStage;
  readonly nextStage: LoginStage;
  readonly versionMax: number;
  readonly versionActive: number;
  readonly isid: Buffer;
  readonly tsih: number;
  readonly initiatorTaskTag: number;
  readonly statusClass: number;
  readonly statusDetail: number;
  readonly data: Buffer;
}

/** §11.14. */
export interface LogoutRequestPdu {
  readonly type: "logout-request";
  readonly isImmediate: boolean;
  readonly reason: number;
  readonly initiatorTaskTag: number;
  readonly cid: number;
  readonly cmdSn: number;
  readonly expStatSn: number;
}

/** §11.15. */
export interface LogoutResponsePdu extends TargetSequence {
  readonly type: "logout-response";
  readonly response: number;
  readonly initiatorTaskTag: number;
  readonly time2Wait: number;
  readonly time2Retain: number;
}

/** §11.16. */
export interface SnackRequestPdu {
  readonly type: "snack-request";
  readonly snackType: SnackType;
  readonly lun: Lun;
  readonly initiatorTaskTag: number;
  /** Target transfer tag or SNACK tag, by type. */
  readonly targetTransferTag: number;
  readonly expStatSn: number;
  readonly begRun: number;
  readonly runLength: number;
}

/** §11.17. `data` is the header of the rejected PDU, and whatever followed it. */
export interface RejectPdu extends TargetSequence {
  readonly type: "reject";
  readonly reason: number;
  readonly dataSnOrR2tSn: number;
  readonly data: Buffer;
}

/** §11.18. */
export interface NopOutPdu {
  readonly type: "nop-out";
  readonly isImmediate: boolean;
  readonly lun: Lun;
  readonly initiatorTaskTag: number;
  readonly targetTransferTag: number;
  readonly cmdSn: number;
  readonly expStatSn: number;
  readonly data: Buffer;
}

/** §11.19. */
export interface NopInPdu extends TargetSequence {
  readonly type: "nop-in";
  readonly lun: Lun;
  readonly initiatorTaskTag: number;
  readonly targetTransferTag: number;
  readonly data: Buffer;
}

export type InitiatorPdu =
  | ScsiCommandPdu
  | TaskManagementRequestPdu
  | LoginRequestPdu
  | TextRequestPdu
  | ScsiDataOutPdu
  | LogoutRequestPdu
  | SnackRequestPdu
  | NopOutPdu;

export type TargetPdu =
  | ScsiResponsePdu
  | TaskManagementResponsePdu
  | LoginResponsePdu
  | TextResponsePdu
  | ScsiDataInPdu
  | LogoutResponsePdu
  | ReadyToTransferPdu
  | AsyncMessagePdu
  | RejectPdu
  | NopInPdu;

export type Pdu = InitiatorPdu | TargetPdu;
export type PduType = Pdu["type"];
