import type { NegotiatedParameters } from "../login/parameters.js";
import type { ReadyToTransferPdu, ScsiDataInPdu, ScsiResponsePdu } from "../wire/pdu.js";
import { SessionError, protocolError } from "./errors.js";
import { NO_RESIDUAL, type Residual, type ScsiResult } from "./task.js";
import type { TaskRecord } from "./task-record.js";

/** GOOD, CONDITION MET, INTERMEDIATE and INTERMEDIATE-CONDITION MET: all data has been transferred. */
const goodStatuses: ReadonlySet<number> = new Set([0x00, 0x04, 0x10, 0x14]);

/** What of a write goes out before the target asks for it (RFC 7143 §11.3.4, §13.10, §13.11, §13.14). */
export interface UnsolicitedPlan {
  /** In the command PDU itself. */
  readonly immediateBytes: number;
  /** After it in Data-Out PDUs, up to this offset; equal to `immediateBytes` when there are none. */
  readonly unsolicitedEnd: number;
}

const nothingUnsolicited: UnsolicitedPlan = Object.freeze({ immediateBytes: 0, unsolicitedEnd: 0 });

/** FirstBurstLength bounds immediate and unsolicited data together; either all of it is sent or only the immediate part. */
export function planUnsolicited(parameters: NegotiatedParameters, lengthBytes: number): UnsolicitedPlan {
  if (lengthBytes === 0) return nothingUnsolicited;
  const firstBurst = Math.min(parameters.firstBurstLength, lengthBytes);
  const immediateBytes = parameters.immediateData ? Math.min(firstBurst, parameters.targetMaxRecvDataSegmentLength) : 0;
  return { immediateBytes, unsolicitedEnd: parameters.initialR2T ? immediateBytes : firstBurst };
}

/** What to do with an R2T: answer it; it came before others, or again. */
export type ReadyToTransferPlace = "next" | "early" | "duplicate";

/**
 * Checks an R2T against its task (RFC 7143 §11.8). With `isRecoverable` (ErrorRecoveryLevel 1 and 2) it may ask for what was sent
 * already (a recovery R2T), and R2Ts may be missing or come again. Throws SessionError.
 */
export function judgeReadyToTransfer(
  record: TaskRecord,
  pdu: ReadyToTransferPdu,
  parameters: NegotiatedParameters,
): ReadyToTransferPlace {
  const source = record.task.dataOut;
  if (source === undefined) throw protocolError("§11.8", "R2T for a task that writes nothing");
  const isRecoverable = parameters.errorRecoveryLevel > 0;
  const length = pdu.desiredDataTransferLength;
  if (length > parameters.maxBurstLength) {
    throw protocolError("§11.8.4", `R2T for ${length} bytes, MaxBurstLength is ${parameters.maxBurstLength}`);
  }
  if (pdu.bufferOffset > source.length || length > source.length - pdu.bufferOffset) {
    throw protocolError("§11.8.4", `R2T for ${length} bytes at ${pdu.bufferOffset} of a write of ${source.length}`);
  }
  const distance = (pdu.r2tSn - record.nextR2tSn) | 0;
  if (distance !== 0 && !isRecoverable) {
    throw protocolError("§11.8.1", `R2T with R2TSN ${pdu.r2tSn} where ${record.nextR2tSn} was due`);
  }
  // A target that took the task over may count from where it likes (§7.2.2).
  if (distance !== 0 && !record.isReassigned) return distance < 0 ? "duplicate" : "early";
  const isInOrder = isRecoverable ? pdu.bufferOffset <= record.sentBytes : pdu.bufferOffset === record.sentBytes;
  if (isInOrder || record.isReassigned) return "next";
  throw protocolError("§13.19", `R2T at offset ${pdu.bufferOffset} where ${record.sentBytes} was due`);
}

/** The result that a SCSI Response carries. Throws SessionError when its sense data is not framed as §11.4.7.1 says. */
export function resultOfResponse(record: TaskRecord, pdu: ScsiResponsePdu): ScsiResult {
  if (pdu.response !== 0) {
    return failed(
      "SESSION_TARGET_FAILURE",
      `target failure: iSCSI response ${pdu.response} to SCSI command 0x${commandHex(record)}`,
      { response: pdu.response },
    );
  }
  return resultOfStatus(record, pdu.status, residualOf(pdu), senseOf(pdu));
}

/** The result that a Data-In with the S bit carries: never with sense (RFC 7143 §11.7.3). */
export function resultOfDataIn(record: TaskRecord, pdu: ScsiDataInPdu): ScsiResult {
  return resultOfStatus(record, pdu.status, residualOf(pdu), undefined);
}

function residualOf(pdu: ScsiResponsePdu | ScsiDataInPdu): Residual {
  if (pdu.isUnderflow && pdu.residualCount > 0) return { kind: "underflow", bytes: pdu.residualCount };
  if (pdu.isOverflow && pdu.residualCount > 0) return { kind: "overflow", bytes: pdu.residualCount };
  return NO_RESIDUAL;
}

function senseOf(pdu: ScsiResponsePdu): Buffer | undefined {
  const segment = pdu.data;
  if (segment.length === 0) {
    if (pdu.status === 0x02) throw protocolError("§7.7", "CHECK CONDITION without sense data");
    return undefined;
  }
  const senseLength = segment.length >= 2 ? segment.readUInt16BE(0) : Number.POSITIVE_INFINITY;
  if (senseLength > segment.length - 2) {
    throw protocolError("§11.4.7.1", `SenseLength does not fit into a data segment of ${segment.length} bytes`);
  }
  return senseLength === 0 ? undefined : segment.subarray(2, 2 + senseLength);
}

/** Status GOOD counts only when every byte has travelled: by the residual and by our own count. */
function resultOfStatus(record: TaskRecord, status: number, residual: Residual, sense: Buffer | undefined): ScsiResult {
  const { task, expectedBytes } = record;
  const movedBytes = task.dataOut === undefined ? record.receivedBytes : record.sentBytes;
  const claimedBytes = residual.kind === "underflow" ? Math.max(0, expectedBytes - residual.bytes) : expectedBytes;
  const transferredBytes = Math.min(movedBytes, claimedBytes);
  if (!goodStatuses.has(status)) return { kind: "status", status, sense, residual, transferredBytes };
  const isComplete = residual.kind === "none" && movedBytes === expectedBytes;
  // Of a write all must have been sent, whatever the target then says it used of a parameter list.
  const isTolerated = task.allowUnderflow === true && (task.dataOut === undefined || movedBytes === expectedBytes);
  const isHonest = movedBytes >= claimedBytes || residual.kind === "none";
  if (!isComplete && !(isTolerated && isHonest)) {
    return failed(
      "SESSION_SHORT_TRANSFER",
      `short transfer: SCSI command 0x${commandHex(record)} reported good status, but ${transferredBytes} of ` +
        `${expectedBytes} bytes travelled`,
      { expectedBytes, movedBytes, residual },
    );
  }
  return { kind: "status", status, sense, residual, transferredBytes };
}

/** Of a task whose data was lost and is not sent again: the status it ended with is void (RFC 7143 §7.8, a.2). */
export function lostDataResult(record: TaskRecord): ScsiResult {
  return failed(
    "SESSION_SHORT_TRANSFER",
    `short transfer: data of SCSI command 0x${commandHex(record)} was lost, and the target does not send it again`,
    { expectedBytes: record.expectedBytes, movedBytes: record.receivedBytes },
  );
}

function failed(
  code: "SESSION_TARGET_FAILURE" | "SESSION_SHORT_TRANSFER",
  message: string,
  details: Record<string, unknown>,
): ScsiResult {
  return { kind: "failed", error: new SessionError(code, message, { retry: "same-path", details }) };
}

function commandHex(record: TaskRecord): string {
  return (record.task.cdb[0] ?? 0).toString(16).padStart(2, "0");
}
