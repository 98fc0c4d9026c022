import { MAX_EARLY_DATA_PDUS } from "../base/limits.js";
import type { ScsiDataInPdu } from "../wire/pdu.js";
import { protocolError } from "./errors.js";
import type { TaskRecord } from "./task-record.js";

/** Where a Data-In stands in its task: `duplicate` data must not be used. */
export type DataInPlace = "next" | "early" | "duplicate";

/**
 * Checks one Data-In against its task before a byte of it is placed: inside the buffer (§11.7.6), and where it stands
 * in the sequence (§11.7.5, §13.18, §13.19: we negotiate both orders to Yes). Throws SessionError.
 */
export function judgeDataIn(
  record: TaskRecord,
  dataSn: number,
  bufferOffset: number,
  lengthBytes: number,
): DataInPlace {
  const target = record.task.dataIn;
  if (target === undefined) {
    throw protocolError("§11.7", "Data-In for a task that reads nothing", { cdb: record.task.cdb[0] });
  }
  if (lengthBytes > target.length - bufferOffset) {
    throw protocolError(
      "§11.7.6",
      `Data-In of ${lengthBytes} bytes at ${bufferOffset} in a buffer of ${target.length}`,
    );
  }
  const distance = (dataSn - record.nextDataSn) | 0;
  if (distance === 0) {
    if (bufferOffset === record.receivedBytes) return "next";
    // Of before an R-Data SNACK, which has the target number its PDUs anew.
    if (record.snackTag !== 0) return "duplicate";
    throw protocolError("§13.18", `Data-In at offset ${bufferOffset} where ${record.receivedBytes} was due`);
  }
  if (distance < 0) {
    if (!record.isReassigned || dataSn !== 0 || bufferOffset !== 0) return "duplicate";
    // §7.2.2: after a reassignment a target may send all of the data again.
    rewind(record, 0, 0);
    return "next";
  }
  if (bufferOffset < record.receivedBytes && record.snackTag === 0) {
    throw protocolError(
      "§13.18",
      `Data-In at offset ${bufferOffset}, before ${record.receivedBytes} received in order`,
    );
  }
  return "early";
}

/** Takes note of a Data-In that has been placed; its data begins at `bufferOffset`. */
export function acceptDataIn(record: TaskRecord, pdu: ScsiDataInPdu, place: "next" | "early"): void {
  const lengthBytes = pdu.data.length;
  if (place === "next") {
    record.receivedBytes += lengthBytes;
    record.nextDataSn = (record.nextDataSn + 1) >>> 0;
    record.isReassigned = false;
    if (record.early !== undefined) closeGap(record, record.early);
    return;
  }
  record.early ??= new Map();
  if (record.early.size >= MAX_EARLY_DATA_PDUS) {
    throw protocolError("§11.7.5", `more than ${MAX_EARLY_DATA_PDUS} Data-In PDUs wait for a missing one`);
  }
  record.early.set(pdu.dataSn, { bufferOffset: pdu.bufferOffset, lengthBytes });
}

/** The run of Data-In that is missing, and not asked for yet, when those before `endDataSn` must have been sent. */
export function missingRun(record: TaskRecord, endDataSn: number): { readonly begin: number; readonly count: number } {
  const isAsked = ((record.requestedDataSn - record.nextDataSn) | 0) > 0;
  const begin = isAsked ? record.requestedDataSn : record.nextDataSn;
  let count = 0;
  let dataSn = begin;
  while (((endDataSn - dataSn) | 0) > 0 && record.early?.has(dataSn) !== true) {
    count += 1;
    dataSn = (dataSn + 1) >>> 0;
  }
  return { begin, count };
}

/** Goes back to what has been acknowledged: all after it is sent again (§11.16.3). */
export function rewindToAcknowledged(record: TaskRecord): void {
  rewind(record, record.acknowledgedDataSn, record.acknowledgedBytes);
}

function rewind(record: TaskRecord, dataSn: number, bytes: number): void {
  record.nextDataSn = dataSn;
  record.requestedDataSn = dataSn;
  record.receivedBytes = bytes;
  record.early = undefined;
}

/** Counts what had come early and now follows without a gap. */
function closeGap(record: TaskRecord, early: NonNullable<TaskRecord["early"]>): void {
  for (let next = early.get(record.nextDataSn); next !== undefined; next = early.get(record.nextDataSn)) {
    early.delete(record.nextDataSn);
    if (next.bufferOffset !== record.receivedBytes) {
      if (record.snackTag !== 0) return;
      throw protocolError("§13.18", `Data-In at offset ${next.bufferOffset} where ${record.receivedBytes} was due`);
    }
    record.receivedBytes += next.lengthBytes;
    record.nextDataSn = (record.nextDataSn + 1) >>> 0;
  }
  if (early.size === 0) record.early = undefined;
}
