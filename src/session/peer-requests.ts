import { LUN_ZERO, formatLun } from "../base/lun.js";
import { AsyncEvent, BHS_BYTES, Opcode, RESERVED_TAG, RejectReason } from "../wire/constants.js";
import type { AsyncMessagePdu, RejectPdu } from "../wire/pdu.js";
import type { Connection } from "./connection.js";
import { SessionError, protocolError } from "./errors.js";
import type { SessionContext } from "./session-context.js";

const MS_PER_SECOND = 1000;
const NO_DATA = Buffer.alloc(0);

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
  switch (pdu.asyncEvent) {
    case AsyncEvent.logoutRequested:
      context.beginLogoutOnRequest(pdu.parameter3 * MS_PER_SECOND);
      return;
    case AsyncEvent.connectionWillDrop:
      if (pdu.parameter1 === connection.connectionId) dropAsAnnounced(context, pdu);
      return;
    case AsyncEvent.allConnectionsWillDrop:
      dropAsAnnounced(context, pdu);
      return;
    case AsyncEvent.renegotiate:
      renegotiate(context);
      return;
    case AsyncEvent.vendorSpecific:
      return;
    default:
      // Among them FastAbort, which we never agree to: tasks may be gone without an answer, so start afresh.
      throw protocolError("§11.9.1", `AsyncEvent ${pdu.asyncEvent}, which nobody agreed to`);
  }
}

/** Parameter2 is the time to wait before we may come back. */
function dropAsAnnounced(context: SessionContext, pdu: AsyncMessagePdu): void {
  const reason = new SessionError("SESSION_CONNECTION_LOST", "the target announced that it drops the connection", {
    retry: "same-path",
  });
  context.drop(reason, pdu.parameter2 * MS_PER_SECOND);
}

/** An empty negotiation says that what we have is fine with us; failing it the target will drop the connection. */
function renegotiate(context: SessionContext): void {
  context.text([]).catch((error: unknown) => {
    context.dependencies.logger.warn("text negotiation that the target asked for failed", { error });
  });
}

/** Acts on a Reject (RFC 7143 §7.3, §11.17). Throws SessionError when the connection must end. */
export function handleReject(context: SessionContext, connection: Connection, pdu: RejectPdu): void {
  const { dispatcher, controls, dependencies } = context;
  if (pdu.data.length < BHS_BYTES) throw protocolError("§11.17.4", "Reject without the header of the rejected PDU");
  const opcode = (pdu.data[0] ?? 0) & 0x3f;
  const initiatorTaskTag = pdu.data.readUInt32BE(16);
  dependencies.logger.warn("the target rejected a PDU", { reason: pdu.reason, opcode, initiatorTaskTag });
  if (pdu.reason === RejectReason.dataDigestError) {
    throw new SessionError("SESSION_DIGEST", "the target found a data digest error in what we sent", {
      retry: "same-path",
    });
  }
  if (pdu.reason === RejectReason.waitingForLogout) {
    context.beginLogoutOnRequest(0);
    return;
  }
  const error = new SessionError("SESSION_TASK_REJECTED", `the target rejected the request, reason ${pdu.reason}`, {
    details: { reason: pdu.reason, opcode },
  });
  if (controls.fail(initiatorTaskTag, error)) return;
  const record = dispatcher.find(initiatorTaskTag);
  // A reply to the target's own ping has no task behind it, and nothing is lost with it.
  if (record === undefined && opcode === Opcode.nopOut) return;
  if (record === undefined) throw protocolError("§11.17", "Reject of a PDU that we did not send");
  // An instantiated task is answered by a SCSI Response after the Reject (§11.17.1): that answer decides.
  if (opcode !== Opcode.scsiCommand || dispatcher.window.isAcknowledged(record.cmdSn)) return;
  plugCommandGap(context, connection, record.cmdSn);
  dispatcher.complete(record, { kind: "failed", error });
}

/** A hole in the command sequence stops the target; a ping with the missing number fills it (RFC 7143 §7.3). */
function plugCommandGap({ controls, timers }: SessionContext, connection: Connection, cmdSn: number): void {
  const tag = controls.allocateTag();
  const plug = controls.run(
    connection,
    { tag, what: "NOP-Out", timeoutMs: timers.nopTimeoutMs },
    (_nextCmdSn, expStatSn) => ({
      type: "nop-out",
      isImmediate: false,
      lun: LUN_ZERO,
      initiatorTaskTag: tag,
      targetTransferTag: RESERVED_TAG,
      cmdSn,
      expStatSn,
      data: NO_DATA,
    }),
  );
  // If it does not work the window stays shut, and the keepalive or a task's deadline ends the connection.
  plug.catch(() => undefined);
}
