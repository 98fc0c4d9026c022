import { formatLun } from "../base/lun.js";
import { AsyncEvent, BHS_BYTES, Opcode, RESERVED_TAG, RejectReason, SnackType } from "../wire/constants.js";
import { OPCODE_MASK } from "../wire/header.js";
import type { AsyncMessagePdu, RejectPdu } from "../wire/pdu.js";
import type { Connection } from "./connection.js";
import { plugCommandGap } from "./command-retry.js";
import { SessionError, protocolError } from "./errors.js";
import type { AnnouncedTimes, SessionContext } from "./session-context.js";

const MS_PER_SECOND = 1000;
const NO_DATA = Buffer.alloc(0);

/** §11.9.1: from here on events belong to the vendor. */
const FIRST_VENDOR_EVENT = 248;

/** Acts on an Asynchronous Message (RFC 7143 §11.9.1). Throws SessionError when the connection must end. */
export function handleAsyncMessage(context: SessionContext, connection: Connection, pdu: AsyncMessagePdu): void {
  const { logger } = context.dependencies;
  logger.info("async message", { event: pdu.asyncEvent, vendorCode: pdu.asyncVCode, lun: formatLun(pdu.lun) });
  if (pdu.asyncEvent === AsyncEvent.scsiAsync) {
    const senseLength = pdu.data.length >= 2 ? pdu.data.readUInt16BE(0) : 0;
    const sense = pdu.data.subarray(2, 2 + senseLength);
    context.emit({ kind: "scsi-event", lun: pdu.lun, sense });
    return;
  }
  context.emit({ kind: "async-message", event: pdu.asyncEvent, vendorCode: pdu.asyncVCode });
  if (pdu.asyncEvent >= FIRST_VENDOR_EVENT) return;
  switch (pdu.asyncEvent) {
    case AsyncEvent.logoutRequested:
      context.beginLogoutOnRequest(connection, pdu.parameter3 * MS_PER_SECOND);
      return;
    case AsyncEvent.connectionWillDrop:
      // Of another connection it may come late, when that one stands again: its own end will tell.
      if (pdu.parameter1 !== connection.connectionId) return;
      context.dropConnection(connection, announced(), timesOf(context, pdu));
      return;
    case AsyncEvent.allConnectionsWillDrop:
      context.drop(announced(), timesOf(context, pdu));
      return;
    case AsyncEvent.renegotiate:
      renegotiate(context, connection);
      return;
    case AsyncEvent.fastAbort:
      onTaskTermination(context, connection, pdu);
      return;
    default:
      throw protocolError("§11.9.1", `AsyncEvent ${pdu.asyncEvent}, which has no meaning`);
  }
}

function announced(): SessionError {
  return new SessionError("SESSION_CONNECTION_LOST", "the target announced that it drops the connection", {
    retry: "same-path",
  });
}

/** Parameter2 is the time to wait before we may come back, Parameter3 how long after that our tasks are kept. */
function timesOf({ timers }: SessionContext, pdu: AsyncMessagePdu): AnnouncedTimes {
  const waitMs = Math.max(pdu.parameter2 * MS_PER_SECOND, timers.asyncLogoutPauseMs);
  return { waitMs, retainMs: pdu.parameter3 * MS_PER_SECOND };
}

/** An empty negotiation says that what we have is fine with us; failing it the target will drop the connection. */
function renegotiate(context: SessionContext, connection: Connection): void {
  context.text([], connection).catch((error: unknown) => {
    context.dependencies.logger.warn("text negotiation that the target asked for failed", { error });
  });
}

/**
 * Somebody else's task management ends our tasks of a unit: acknowledged by a NOP-Out that is no ping and names the unit
 * (§11.9.1, event 5), then each task is aborted, so that it is certain that it has ended, and tried again.
 */
function onTaskTermination(context: SessionContext, connection: Connection, pdu: AsyncMessagePdu): void {
  if (connection.parameters.taskReporting !== "FastAbort") {
    throw protocolError("§11.9.1", "AsyncEvent 5 although TaskReporting is not FastAbort");
  }
  connection.sendControl({
    build: (cmdSn, expStatSn) => ({
      type: "nop-out",
      isImmediate: true,
      lun: pdu.lun,
      initiatorTaskTag: RESERVED_TAG,
      targetTransferTag: RESERVED_TAG,
      cmdSn,
      // The event itself is acknowledged with it.
      expStatSn: ((pdu.statSn - expStatSn) | 0) >= 0 ? (pdu.statSn + 1) >>> 0 : expStatSn,
      data: NO_DATA,
    }),
  });
  context.beginEscalation(pdu.lun, connection);
}

/** Acts on a Reject (RFC 7143 §7.3, §11.17). Throws SessionError when the connection must end. */
export function handleReject(context: SessionContext, connection: Connection, pdu: RejectPdu): void {
  const { dispatcher, controls, dependencies } = context;
  if (pdu.data.length < BHS_BYTES) throw protocolError("§11.17.4", "Reject without the header of the rejected PDU");
  const opcode = pdu.data.readUInt8(0) & OPCODE_MASK;
  const initiatorTaskTag = pdu.data.readUInt32BE(16);
  dependencies.logger.warn("the target rejected a PDU", { reason: pdu.reason, opcode, initiatorTaskTag });
  if (pdu.reason === RejectReason.waitingForLogout) {
    context.beginLogoutOnRequest(connection, 0);
    return;
  }
  const isRecoverable = connection.parameters.errorRecoveryLevel > 0;
  if (pdu.reason === RejectReason.dataDigestError) {
    if (isRecoverable) {
      onDigestReject(context, connection, opcode, initiatorTaskTag);
      return;
    }
    throw new SessionError("SESSION_DIGEST", "the target found a data digest error in what we sent", {
      retry: "same-path",
    });
  }
  if (opcode === Opcode.snackRequest && isRecoverable) {
    onSnackReject(context, connection, pdu);
    return;
  }
  // §7.2.1: the target has the command already.
  if (pdu.reason === RejectReason.taskInProgress && dispatcher.find(initiatorTaskTag) !== undefined) return;
  const error = new SessionError("SESSION_TASK_REJECTED", `the target rejected the request, reason ${pdu.reason}`, {
    details: { reason: pdu.reason, opcode },
  });
  if (controls.fail(initiatorTaskTag, error)) return;
  const record = dispatcher.find(initiatorTaskTag);
  // A reply to the target's own ping has no task behind it, and nothing is lost with it.
  if (record === undefined && opcode === Opcode.nopOut) return;
  if (record === undefined) throw protocolError("§11.17", "Reject of a PDU that we did not send");
  // An instantiated task is answered by a SCSI Response after the Reject (§11.17.1): that answer decides.
  if (opcode !== Opcode.scsiCommand) return;
  if (dispatcher.window.isAcknowledged(record.cmdSn)) return;
  plugCommandGap(context, connection, record.cmdSn);
  dispatcher.complete(record, { kind: "failed", error });
}

/**
 * Something of ours arrived damaged (§7.8). Data is asked for by a recovery R2T or ends the task: the target's move. A
 * command was not taken, and goes out again with its number, immediate data and all.
 */
function onDigestReject(context: SessionContext, connection: Connection, opcode: number, tag: number): void {
  const { dispatcher, controls } = context;
  const record = dispatcher.find(tag);
  if (opcode === Opcode.scsiCommand && record?.connection === connection) {
    const isMissing = !dispatcher.window.isAcknowledged(record.cmdSn);
    // One behind a gap may have been taken: its turn comes when the gap is filled (see CommandRetry).
    if (isMissing && record.cmdSn === dispatcher.window.expCmdSn) {
      context.counters.commandRetries += 1;
      dispatcher.retry(record, connection);
    }
    return;
  }
  controls.fail(
    tag,
    new SessionError("SESSION_DIGEST", "the target found a data digest error in the request", { retry: "same-path" }),
  );
}

/** What we asked for again will not come (§7.8, a). */
function onSnackReject(context: SessionContext, connection: Connection, pdu: RejectPdu): void {
  const type = pdu.data.readUInt8(1) & 0x0f;
  if (type === SnackType.dataAck) return;
  if (type === SnackType.status) {
    throw new SessionError("SESSION_DIGEST", "the target does not send lost status again", { retry: "same-path" });
  }
  const record = context.dispatcher.find(pdu.data.readUInt32BE(16));
  if (record?.connection === connection) connection.giveUpLost(record);
}
