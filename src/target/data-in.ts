import { RESERVED_TAG } from "../wire/constants.js";
import { NO_DATA } from "../wire/header.js";
import type { ScsiDataInPdu, ScsiResponsePdu } from "../wire/pdu.js";
import type { ConnectionSlot, Unnumbered } from "./connection-slot.js";
import { nextDataSnOf, piecesOf, type DataInPiece } from "./data-in-plan.js";
import { Status } from "./scsi/check-condition.js";
import type { ScsiOutcome } from "./scsi/device-server.js";
import type { TaskRecovery } from "./task-recovery.js";
import type { TargetTask } from "./task.js";

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

/** The Data-In bytes of an outcome that go to the initiator: no more than it expects. */
function sentBytesOf(task: TargetTask, outcome: ScsiOutcome): number {
  return outcome.dataIn === undefined ? 0 : Math.min(outcome.dataIn.length, task.expectedInBytes);
}

/** May the status go in the last Data-In PDU (RFC 7143 §11.7.3)? A SNACK tag needs a response (§11.16.3). */
function canCollapse(task: TargetTask, outcome: ScsiOutcome): boolean {
  return outcome.status === Status.good && !task.isWrite && (task.recovery?.snackTag ?? 0) === 0;
}

/**
 * Sends what a task ended with at error recovery level 0: Data-In PDUs with the status in the last one where the RFC
 * lets it (§11.7.3), else a SCSI Response. Data is borrowed until `onSent`.
 */
export function sendOutcome(slot: ConnectionSlot, task: TargetTask, outcome: ScsiOutcome, onSent?: () => void): void {
  const { dataIn } = outcome;
  const sentBytes = sentBytesOf(task, outcome);
  if (dataIn === undefined || sentBytes === 0) {
    sendResponse(slot, task, outcome, task.nextR2tSn, onSent);
    return;
  }
  const isCollapsed = canCollapse(task, outcome);
  const { initiatorMaxRecvDataSegmentLength: segmentBytes, maxBurstLength } = slot.parameters;
  const rest = residual(dataIn.length, task.expectedInBytes);
  // R2Ts and Data-In of a bidirectional command are numbered together (§4.2.2.4).
  let dataSn = task.nextR2tSn;
  let burstLeft = maxBurstLength;
  for (let offset = 0; offset < sentBytes; dataSn += 1) {
    const length = Math.min(segmentBytes, burstLeft, sentBytes - offset);
    const isLast = offset + length === sentBytes;
    burstLeft -= length;
    const hasStatus = isLast && isCollapsed;
    slot.connection.send(
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
        statSn: hasStatus ? slot.connection.takeStatSn() : 0,
        expCmdSn: slot.window.expCmdSn,
        maxCmdSn: slot.window.maxCmdSn,
        dataSn,
        bufferOffset: offset,
        residualCount: hasStatus ? rest.count : 0,
        data: length === dataIn.length ? dataIn : dataIn.subarray(offset, offset + length),
      },
      isLast ? onSent : undefined,
    );
    offset += length;
    if (burstLeft === 0) burstLeft = maxBurstLength;
  }
  if (!isCollapsed) sendResponse(slot, task, outcome, dataSn);
}

/**
 * Sends what a task ended with, all that is not acknowledged, in a way that can be repeated (RFC 7143 §11.16): the first
 * time, after TASK REASSIGN, after an R-Data SNACK. `takeTag` gives a tag for the A bit.
 */
export function sendRecoverable(slot: ConnectionSlot, task: TargetTask, takeTag: () => number): void {
  const { outcome, recovery } = task;
  if (outcome === undefined || recovery === undefined) return;
  const endOffset = sentBytesOf(task, outcome);
  recovery.plan ??= {
    firstDataSn: task.nextR2tSn,
    firstOffset: 0,
    endOffset,
    segmentBytes: slot.parameters.initiatorMaxRecvDataSegmentLength,
    burstBytes: slot.parameters.maxBurstLength,
  };
  const { plan } = recovery;
  if (recovery.dataAckTag === 0 && endOffset - plan.firstOffset >= plan.burstBytes) recovery.dataAckTag = takeTag();
  const hasDataLeft = plan.firstOffset < plan.endOffset;
  const isCollapsed = hasDataLeft && canCollapse(task, outcome);
  if (hasDataLeft)
    sendPieces(slot, task, { fromDataSn: plan.firstDataSn, toDataSn: Infinity, isCollapsed, isReplica: false });
  if (!isCollapsed) sendTaggedResponse(slot, task, outcome, recovery);
}

/** Sends Data-In once more, as exact replicas (RFC 7143 §11.16); the one with the status included. */
export function resendDataIn(slot: ConnectionSlot, task: TargetTask, fromDataSn: number, toDataSn: number): void {
  sendPieces(slot, task, { fromDataSn, toDataSn, isCollapsed: false, isReplica: true });
}

interface PieceRun {
  readonly fromDataSn: number;
  readonly toDataSn: number;
  /** The last piece carries the status, with a new StatSN. */
  readonly isCollapsed: boolean;
  /** The last piece is sent as it was sent before, its status included. */
  readonly isReplica: boolean;
}

function sendPieces(slot: ConnectionSlot, task: TargetTask, run: PieceRun): void {
  const { outcome, recovery } = task;
  const plan = recovery?.plan;
  if (outcome?.dataIn === undefined || recovery === undefined || plan === undefined) return;
  const lastDataSn = Math.min(run.toDataSn, nextDataSnOf(plan)) - 1;
  if (lastDataSn < run.fromDataSn) return;
  recovery.sendsInFlight += 1;
  const onSent = (): void => {
    recovery.sendsInFlight -= 1;
    task.onDataSent?.();
  };
  for (const piece of piecesOf(plan, run.fromDataSn, run.toDataSn)) {
    const onPieceSent = piece.dataSn === lastDataSn ? onSent : undefined;
    const keptStatSn = run.isReplica && piece.isLast ? recovery.statSn : undefined;
    const logged = keptStatSn === undefined ? undefined : slot.log?.at(keptStatSn);
    if (logged?.type === "scsi-data-in") slot.resend(logged, onPieceSent);
    else slot.sendDataIn(dataInPdu(slot, task, outcome.dataIn, piece, run.isCollapsed), task, onPieceSent);
  }
}

function dataInPdu(
  slot: ConnectionSlot,
  task: TargetTask,
  data: Buffer,
  piece: DataInPiece,
  isCollapsed: boolean,
): ScsiDataInPdu {
  const hasStatus = piece.isLast && isCollapsed;
  const rest = residual(data.length, task.expectedInBytes);
  const isAcknowledgeRequested = piece.isBurstEnd && (task.recovery?.dataAckTag ?? 0) !== 0;
  const statSn = hasStatus ? slot.connection.takeStatSn() : 0;
  if (hasStatus && task.recovery !== undefined) task.recovery.statSn = statSn;
  return {
    type: "scsi-data-in",
    isFinal: piece.isFinal,
    isAcknowledgeRequested,
    hasStatus,
    isOverflow: hasStatus && rest.isOverflow,
    isUnderflow: hasStatus && rest.isUnderflow,
    status: 0,
    lun: task.lun,
    initiatorTaskTag: task.initiatorTaskTag,
    targetTransferTag: isAcknowledgeRequested ? (task.recovery?.dataAckTag ?? RESERVED_TAG) : RESERVED_TAG,
    statSn,
    expCmdSn: slot.window.expCmdSn,
    maxCmdSn: slot.window.maxCmdSn,
    dataSn: piece.dataSn,
    bufferOffset: piece.offset,
    residualCount: hasStatus ? rest.count : 0,
    data: data.subarray(piece.offset, piece.offset + piece.length),
  };
}

/** A response above level 0; one after an R-Data SNACK keeps the StatSN that the status had (§11.4.4). */
function sendTaggedResponse(
  slot: ConnectionSlot,
  task: TargetTask,
  outcome: ScsiOutcome,
  recovery: TaskRecovery,
): void {
  const expDataSn = recovery.plan === undefined ? task.nextR2tSn : nextDataSnOf(recovery.plan);
  const response = responseOf(task, outcome, expDataSn);
  if (recovery.statSn === undefined) {
    recovery.statSn = slot.connection.statSn;
    slot.sendStatus(response, task);
    return;
  }
  const { expCmdSn, maxCmdSn } = slot.window;
  const pdu = { ...response, statSn: recovery.statSn, expCmdSn, maxCmdSn };
  slot.log?.keep(recovery.statSn, pdu, task);
  slot.connection.send(pdu);
}

function sendResponse(
  slot: ConnectionSlot,
  task: TargetTask,
  outcome: ScsiOutcome,
  expDataSn: number,
  onSent?: () => void,
): void {
  slot.sendStatus(responseOf(task, outcome, expDataSn), undefined, onSent);
}

function responseOf(task: TargetTask, outcome: ScsiOutcome, expDataSn: number): Unnumbered<ScsiResponsePdu> {
  const inBytes = outcome.dataIn?.length ?? 0;
  const isBidirectional = task.isWrite && task.expectedInBytes > 0;
  const rest = task.isWrite
    ? outResidual(task, outcome)
    : residual(inBytes + task.wantedOutBytes, task.expectedInBytes);
  const readRest = isBidirectional ? residual(inBytes, task.expectedInBytes) : residual(0, 0);
  return {
    type: "scsi-response",
    response: 0,
    status: outcome.status,
    initiatorTaskTag: task.initiatorTaskTag,
    snackTag: task.recovery?.snackTag ?? 0,
    expDataSn,
    isBidirectionalOverflow: readRest.isOverflow,
    isBidirectionalUnderflow: readRest.isUnderflow,
    isOverflow: rest.isOverflow,
    isUnderflow: rest.isUnderflow,
    bidirectionalResidualCount: readRest.count,
    residualCount: rest.count,
    data: outcome.sense === undefined ? NO_DATA : withSenseLength(outcome.sense),
  };
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
