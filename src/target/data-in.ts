import type { NegotiatedParameters } from "../login/parameters.js";
import { RESERVED_TAG } from "../wire/constants.js";
import { NO_DATA } from "../wire/header.js";
import type { ScsiResponsePdu } from "../wire/pdu.js";
import type { CommandWindow } from "./command-window.js";
import type { TargetConnection } from "./connection.js";
import { Status } from "./scsi/check-condition.js";
import type { ScsiOutcome } from "./scsi/device-server.js";
import type { TargetTask } from "./task.js";

export interface ResponseContext {
  readonly connection: TargetConnection;
  readonly window: CommandWindow<unknown>;
  /** As they stand now: text in full feature phase may change them. */
  readonly parameters: () => NegotiatedParameters;
}

/** The data that is to move minus the data the initiator expected (RFC 7143 §11.4.5). */
interface Residual {
  readonly isOverflow: boolean;
  readonly isUnderflow: boolean;
  readonly count: number;
}

function residual(wantedBytes: number, expectedBytes: number): Residual {
  const difference = wantedBytes - expectedBytes;
  return { isOverflow: difference > 0, isUnderflow: difference < 0, count: Math.abs(difference) };
}

/**
 * Sends what a task ended with: Data-In PDUs with the status in the last one where the RFC lets it (§11.7.3), else
 * a SCSI Response. Data is borrowed until `onSent`.
 */
export function sendOutcome(
  context: ResponseContext,
  task: TargetTask,
  outcome: ScsiOutcome,
  onSent?: () => void,
): void {
  const { dataIn } = outcome;
  const sentBytes = dataIn === undefined ? 0 : Math.min(dataIn.length, task.expectedInBytes);
  if (dataIn !== undefined && sentBytes > 0) {
    const canCollapse = outcome.status === Status.good && !task.isWrite;
    const count = sendDataIn(context, task, dataIn, sentBytes, canCollapse, onSent);
    if (!canCollapse) sendResponse(context, task, outcome, count);
    return;
  }
  sendResponse(context, task, outcome, 0, onSent);
}

/** Returns the number of Data-In PDUs. A sequence ends (F) every MaxBurstLength bytes (§11.7.1). */
function sendDataIn(
  context: ResponseContext,
  task: TargetTask,
  data: Buffer,
  sentBytes: number,
  canCollapse: boolean,
  onSent: (() => void) | undefined,
): number {
  const { connection, window } = context;
  const { initiatorMaxRecvDataSegmentLength: segmentBytes, maxBurstLength } = context.parameters();
  const rest = residual(data.length, task.expectedInBytes);
  let dataSn = 0;
  let burstLeft = maxBurstLength;
  for (let offset = 0; offset < sentBytes; dataSn += 1) {
    const length = Math.min(segmentBytes, burstLeft, sentBytes - offset);
    const isLast = offset + length === sentBytes;
    burstLeft -= length;
    const hasStatus = isLast && canCollapse;
    const isWhole = length === data.length;
    connection.send(
      {
        type: "scsi-data-in",
        isFinal: isLast || burstLeft === 0,
        isAcknowledgeRequested: false,
        hasStatus,
        isOverflow: hasStatus && rest.isOverflow,
        isUnderflow: hasStatus && rest.isUnderflow,
        status: 0,
        lun: task.lun,
        initiatorTaskTag: task.initiatorTaskTag,
        targetTransferTag: RESERVED_TAG,
        statSn: hasStatus ? connection.takeStatSn() : 0,
        expCmdSn: window.expCmdSn,
        maxCmdSn: window.maxCmdSn,
        dataSn,
        bufferOffset: offset,
        residualCount: hasStatus ? rest.count : 0,
        data: isWhole ? data : data.subarray(offset, offset + length),
      },
      isLast ? onSent : undefined,
    );
    offset += length;
    if (burstLeft === 0) burstLeft = maxBurstLength;
  }
  return dataSn;
}

function sendResponse(
  context: ResponseContext,
  task: TargetTask,
  outcome: ScsiOutcome,
  dataInCount: number,
  onSent?: () => void,
): void {
  const { connection, window } = context;
  const inBytes = outcome.dataIn?.length ?? 0;
  const isBidirectional = task.isWrite && task.expectedInBytes > 0;
  const rest = task.isWrite
    ? outResidual(task, outcome)
    : residual(inBytes + task.wantedOutBytes, task.expectedInBytes);
  const readRest = isBidirectional ? residual(inBytes, task.expectedInBytes) : residual(0, 0);
  const response: ScsiResponsePdu = {
    type: "scsi-response",
    response: 0,
    status: outcome.status,
    initiatorTaskTag: task.initiatorTaskTag,
    snackTag: 0,
    statSn: connection.takeStatSn(),
    expCmdSn: window.expCmdSn,
    maxCmdSn: window.maxCmdSn,
    expDataSn: dataInCount + task.nextR2tSn,
    isBidirectionalOverflow: readRest.isOverflow,
    isBidirectionalUnderflow: readRest.isUnderflow,
    isOverflow: rest.isOverflow,
    isUnderflow: rest.isUnderflow,
    bidirectionalResidualCount: readRest.count,
    residualCount: rest.count,
    data: outcome.sense === undefined ? NO_DATA : withSenseLength(outcome.sense),
  };
  connection.send(response, onSent);
}

/** A command that failed before it took data leaves all of it: underflow by what was announced. */
function outResidual(task: TargetTask, outcome: ScsiOutcome): Residual {
  if (outcome.status === Status.good) return residual(task.wantedOutBytes, task.expectedOutBytes);
  return residual(Math.min(task.receivedBytes, task.expectedOutBytes), task.expectedOutBytes);
}

/** SenseLength, sense (§11.4.7). */
function withSenseLength(sense: Buffer): Buffer {
  const data = Buffer.alloc(2 + sense.length);
  data.writeUInt16BE(sense.length, 0);
  sense.copy(data, 2);
  return data;
}
