import type { AppError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { DeviceEvent } from "../block/device.js";
import type { ConnectedVolume } from "../initiator/connect-volume.js";
import type { PathEvent } from "../multipath/status.js";
import type { SessionEvent } from "../session/session-events.js";
import { connectionNote } from "./volume-connections.js";
import { pathNote } from "./volume-paths.js";
import type { Volume } from "./volume.js";

export interface ListeningDependencies {
  /** Adds an event of the volume. */
  readonly note: (kind: string, message: string) => void;
  readonly logger: Logger;
}

/** Keeps the state of a volume in step with what its device, sessions and paths tell. Returns what ends it. */
export function listenTo(volume: Volume, connected: ConnectedVolume, dependencies: ListeningDependencies): () => void {
  const { note } = dependencies;
  const stops = [
    connected.device.onEvent((event) => onDeviceEvent(volume, event, note)),
    connected.onEvent(({ source, event }) => {
      if (source === "session") onSessionEvent(volume, event, note);
      else if (source === "reservation") onReservationLost(volume, event.reason, note);
    }),
    connected.paths?.onPathEvent((event) => onPathEvent(volume, event, dependencies)),
  ];
  return () => stops.forEach((stop) => stop?.());
}

function onDeviceEvent(volume: Volume, event: DeviceEvent, note: ListeningDependencies["note"]): void {
  switch (event.kind) {
    case "unavailable":
      // A refused unit is looked at again and again, each time over a new connection: its I/O does not wait meanwhile.
      if (volume.state !== "failed") volume.apply("connection-lost", event.reason);
      note("connection-lost", event.reason);
      break;
    case "available":
      volume.apply("connection-restored");
      note("connection-restored", "the target answers again");
      break;
    case "identity-changed": {
      const reason = `the LUN shows identity "${event.found.id}" instead of "${event.expected.id}": its I/O is refused`;
      volume.apply("failed", reason, "BLOCK_IDENTITY_MISMATCH");
      note("identity-changed", reason);
      break;
    }
    case "info-changed":
      volume.changed();
      note("device-changed", `the LUN has ${event.info.sizeBytes} bytes now`);
      break;
  }
}

/** While the target is looked for, the reason is why it was not found last: that is what an operator can mend. */
function onSessionEvent(volume: Volume, event: SessionEvent, note: ListeningDependencies["note"]): void {
  const told = connectionNote(event);
  if (told !== undefined) note(told.kind, told.message);
  if (event.kind === "closed" && event.reason !== undefined) {
    // It has tried as often as its settings allow: nothing brings it back but a new attach.
    const reason = `its session was given up: ${event.reason.message}`;
    volume.apply("failed", reason, event.reason.code);
    note("session-given-up", reason);
    return;
  }
  if (event.kind !== "reconnect-failed" && event.kind !== "path-refused") return;
  const { reason } = event;
  if (volume.state === "reconnecting") volume.apply("connection-lost", reason.message, reason.code);
}

/** The volume is another node's: what is still written here fails, and only a new attach may begin again. */
function onReservationLost(volume: Volume, { code, message }: AppError, note: ListeningDependencies["note"]): void {
  volume.apply("failed", message, code);
  note("reservation-lost", message);
}

function onPathEvent(volume: Volume, event: PathEvent, { note, logger }: ListeningDependencies): void {
  const { kind, message } = pathNote(event);
  note(kind, message);
  if (kind === "path-refused") {
    logger.error("a path is refused", { volumeHandle: volume.handle, path: event.pathId, reason: message });
  }
  volume.changed();
}
