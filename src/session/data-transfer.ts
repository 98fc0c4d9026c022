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

/**
 * Checks one Data-In against its task before a byte of it is placed: in sequence, without a gap, inside the buffer
 * (RFC 7143 §11.7.5, §11.7.6, §13.18, §13.19: we negotiate both orders to Yes). Throws SessionError.
 */
export function checkDataIn(record: TaskRecord, dataSn: number, bufferOffset: number, lengthBytes: number): void {
  const target = record.task.dataIn;
  if (target === undefined) {
    throw protocolError("§11.7", "Data-In for a task that reads nothing", { cdb: record.task.cdb[0] });
  }
  if (dataSn !== record.nextDataSn) {
    throw protocolError("§11.7.5", `Data-In with DataSN ${dataSn} where ${record.nextDataSn} was due`);
  }
  if (bufferOffset !== record.receivedBytes) {
    throw protocolError("§13.18", `Data-In at offset ${bufferOffset} where ${record.receivedBytes} was due`);
  }
  if (lengthBytes > target.length - bufferOffset) {
    throw protocolError(
      "§11.7.6",
      `Data-In of ${lengthBytes} bytes at ${bufferOffset} in a buffer of ${target.length}`,
    );
  }
}

/** Checks an R2T against its task and takes note of it (RFC 7143 §11.8). Throws SessionError. */
export function acceptReadyToTransfer(
  record: TaskRecord,
  pdu: ReadyToTransferPdu,
  parameters: NegotiatedParameters,
): Buffer {
  const source = record.task.dataOut;
  if (source === undefined) throw protocolError("§11.8", "R2T for a task that writes nothing");
  if (pdu.r2tSn !== record.nextR2tSn) {
    throw protocolError("§11.8.1", `R2T with R2TSN ${pdu.r2tSn} where ${record.nextR2tSn} was due`);
  }
  const length = pdu.desiredDataTransferLength;
  if (length > parameters.maxBurstLength) {
    throw protocolError("§11.8.4", `R2T for ${length} bytes, MaxBurstLength is ${parameters.maxBurstLength}`);
  }
  if (pdu.bufferOffset > source.length || length > source.length - pdu.bufferOffset) {
    throw protocolError("§11.8.4", `R2T for ${length} bytes at ${pdu.bufferOffset} of a write of ${source.length}`);
  }
  if (pdu.bufferOffset !== record.sentBytes) {
    throw protocolError("§13.19", `R2T at offset ${pdu.bufferOffset} where ${record.sentBytes} was due`);
  }
  record.nextR2tSn = (record.nextR2tSn + 1) >>> 0;
  return source;
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
