import type { TargetConnectionStatus, TargetSessionStatus } from "./api.js";
import type { ConnectionSlot } from "./connection-slot.js";
import type { TargetSession } from "./session.js";

/** A session as it stands, for those who ask the server. */
export function sessionStatus(session: TargetSession, targetName: string): TargetSessionStatus {
  const there = session.slots.map((slot) => connectionStatus(slot, "logged-in"));
  const gone = session.goneSlots.map((slot) =>
    connectionStatus(slot, slot.state === "recovering" ? "recovering" : "lost"),
  );
  return {
    targetName,
    initiatorName: session.initiatorName,
    isid: session.isid.toString("hex"),
    tsih: session.tsih,
    remoteAddress: there[0]?.remoteAddress ?? "",
    portalGroupTag: session.portalGroupTag,
    errorRecoveryLevel: session.parameters.errorRecoveryLevel,
    connections: [...there, ...gone],
  };
}

function connectionStatus(slot: ConnectionSlot, state: TargetConnectionStatus["state"]): TargetConnectionStatus {
  return { cid: slot.cid, remoteAddress: slot.connection.remoteAddress, state };
}
