import { formatPortal } from "../base/portal.js";
import type { ConnectedVolume } from "../initiator/connect-volume.js";
import type { ConnectionPolicy } from "../session/connection-policy.js";
import type { SessionEvent } from "../session/session-events.js";
import type { AddedConnection } from "./api.js";
import { notAttached } from "./volume-answers.js";
import type { Volume } from "./volume.js";
import type { VolumeRegistry } from "./volume-registry.js";

/** What can be changed at the session of a volume while it is in use. Each is called with the volume's lock held. */

/** Another policy from the next command on; the record remembers it. Throws VOLUME_NOT_FOUND, STATE_FAILED. */
export async function setConnectionPolicy(
  volume: Volume,
  policy: ConnectionPolicy,
  registry: Pick<VolumeRegistry, "save">,
): Promise<void> {
  const connected = connectedOf(volume);
  const { record } = volume;
  if (record !== undefined) {
    await registry.save(volume, { ...record, settings: { ...record.settings, connectionPolicy: policy } });
  }
  connected.setConnectionPolicy(policy);
}

/** Rejects with VOLUME_NOT_FOUND, and with the errors of the login. */
export async function addConnection(volume: Volume, { portal, ...plan }: AddedConnection): Promise<number> {
  return connectedOf(volume).addConnection({ portal, ...plan });
}

/** Rejects with VOLUME_NOT_FOUND, and with those of the session. */
export async function removeConnection(volume: Volume, cid: number): Promise<void> {
  await connectedOf(volume).removeConnection(cid);
}

/** What an operator should read about the connections of a session; undefined for events that are told otherwise. */
export function connectionNote(event: SessionEvent): { readonly kind: string; readonly message: string } | undefined {
  switch (event.kind) {
    case "connection-added":
      return {
        kind: event.kind,
        message: `connection ${event.cid} over ${formatPortal(event.portal)} carries commands`,
      };
    case "connection-lost": {
      const outcome = event.isRecovering ? "its commands go on over the others" : "the session begins anew";
      const where = `connection ${event.cid} over ${formatPortal(event.portal)}`;
      return { kind: event.kind, message: `${where} is lost (${event.reason.message}); ${outcome}` };
    }
    case "connection-recovered":
      return {
        kind: event.kind,
        message: `${event.reassignedTasks} commands of connection ${event.cid} were moved to others`,
      };
    case "connection-removed":
      return { kind: event.kind, message: `connection ${event.cid} over ${formatPortal(event.portal)} was taken away` };
    default:
      return undefined;
  }
}

function connectedOf(volume: Volume): ConnectedVolume {
  if (volume.live === undefined) throw notAttached(volume.handle);
  return volume.live.connected;
}
