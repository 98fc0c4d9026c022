import type { ChapCredentials, DigestChoice, PortalAddress } from "../base/access.js";
import { AppError, CancelledError } from "../base/errors.js";
import { lunFromNumber } from "../base/lun.js";
import { formatPortal } from "../base/portal.js";
import type { BlockDevice, BlockDeviceInfo, DeviceEvent } from "../block/device.js";
import { type IscsiLun, openIscsiLun } from "../block/iscsi-lun.js";
import { splitFilter } from "../block/split.js";
import { validateFilter } from "../block/validate.js";
import type { SessionEvent } from "../session/session-events.js";
import type { SessionDependencies, SessionOptions, SessionTimers } from "../session/session-options.js";
import { Session } from "../session/session.js";

export interface ConnectVolumeRequest {
  /** At least one; tried in this order, one that works is enough. */
  readonly portals: readonly PortalAddress[];
  readonly targetName: string;
  readonly lun: number;
  /** Identity that the unit must show (`naa.…`); empty: any. */
  readonly expectedId: string;
  readonly initiatorName: string;
  /** Six bytes, the same for the life of the volume's record: see createIsid. */
  readonly isid: Buffer;
  readonly chap?: ChapCredentials;
  readonly headerDigest: DigestChoice;
  readonly dataDigest: DigestChoice;
  readonly timers?: Partial<SessionTimers>;
  readonly maxTasks?: number;
}

/** One session of a volume as a table shows it. */
export interface VolumeSessionStatus {
  readonly portal: string;
  readonly targetName: string;
  readonly state: string;
  readonly tsih: number;
  readonly isid: string;
  readonly headerDigest: string;
  readonly dataDigest: string;
  readonly reconnects: number;
  readonly commandsInFlight: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly readOperations: number;
  readonly writeOperations: number;
}

export type VolumeEvent =
  | { readonly source: "session"; readonly event: SessionEvent }
  | { readonly source: "device"; readonly event: DeviceEvent };

/** A LUN that is reached. */
export interface ConnectedVolume {
  /** Checks ranges, splits large transfers, waits while there is no path. */
  readonly device: BlockDevice;
  sessions(): readonly VolumeSessionStatus[];
  onEvent(listener: (event: VolumeEvent) => void): () => void;
  /** Reads the capacity again; resolves with what the device says now. Rejects with BlockError. */
  refresh(): Promise<BlockDeviceInfo>;
  /** Other CHAP credentials from the next login on. */
  renewChap(chap: ChapCredentials): void;
  /** Lets outstanding operations settle while there is a path, then logs out. Does not fail. */
  close(): Promise<void>;
}

/**
 * Logs in to a target and opens one of its units. Rejects with the most telling error of the portals: one that
 * answered and refused before one that could not be reached. CancelledError when `signal` aborts. Nothing stays open
 * then. Once connected, a lost path is looked for at all portals in turn, for ever unless `timers` set a limit.
 */
export async function connectVolume(
  request: ConnectVolumeRequest,
  dependencies: SessionDependencies,
  signal?: AbortSignal,
): Promise<ConnectedVolume> {
  let failure: Error | undefined;
  for (const [index, portal] of request.portals.entries()) {
    try {
      return await connectAt(request, index, dependencies, signal);
    } catch (error) {
      if (signal?.aborted === true) throw cancelled(request, error);
      dependencies.logger.warn("volume cannot be reached through a portal", {
        target: request.targetName,
        portal: formatPortal(portal),
        reason: error instanceof Error ? error.message : String(error),
      });
      if (!(error instanceof Error)) throw error;
      if (failure === undefined || isTransport(failure)) failure = error;
    }
  }
  throw failure ?? new AppError("initiator", "PORTAL_MISSING", `no portal is named for ${request.targetName}`);
}

async function connectAt(
  request: ConnectVolumeRequest,
  index: number,
  dependencies: SessionDependencies,
  signal: AbortSignal | undefined,
): Promise<ConnectedVolume> {
  const session = await Session.open(sessionOptions(request, index), dependencies, signal);
  const onAbort = (): void => session.close();
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    const { lun, expectedId } = request;
    const unit = await openIscsiLun(session, { lun: lunFromNumber(lun), expectedId }, dependencies);
    return connectedVolume(session, unit, dependencies);
  } catch (error) {
    // What is worth telling is why the unit could not be opened.
    await session.logout().catch(() => undefined);
    throw error;
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}

function connectedVolume(session: Session, unit: IscsiLun, { logger }: SessionDependencies): ConnectedVolume {
  const device = validateFilter(splitFilter(unit));
  let closing: Promise<void> | undefined;
  const closeAll = async (): Promise<void> => {
    await device.close();
    await session.logout().catch((error: unknown) => {
      logger.warn("logout failed, the connection was cut", { reason: error instanceof Error ? error.message : "" });
    });
  };
  return {
    device,
    sessions: () => [statusOf(session)],
    onEvent: (listener) => {
      const stopSession = session.events.on((event) => listener({ source: "session", event }));
      const stopDevice = unit.onEvent((event) => listener({ source: "device", event }));
      return () => {
        stopSession();
        stopDevice();
      };
    },
    refresh: async () => {
      await unit.refresh();
      return device.info;
    },
    renewChap: (chap) => session.renewChap(chap),
    close: () => (closing ??= closeAll()),
  };
}

function statusOf(session: Session): VolumeSessionStatus {
  const { portal, ...snapshot } = session.status();
  return {
    portal: formatPortal(portal),
    targetName: snapshot.targetName,
    state: snapshot.state,
    tsih: snapshot.tsih,
    isid: snapshot.isid,
    headerDigest: snapshot.headerDigest,
    dataDigest: snapshot.dataDigest,
    reconnects: snapshot.reconnects,
    commandsInFlight: snapshot.commandsInFlight,
    readBytes: snapshot.readBytes,
    writtenBytes: snapshot.writtenBytes,
    readOperations: snapshot.readOperations,
    writeOperations: snapshot.writeOperations,
  };
}

function sessionOptions(request: ConnectVolumeRequest, index: number): SessionOptions {
  const { portals, targetName, initiatorName, isid, headerDigest, dataDigest } = request;
  const portal = portals[index];
  if (portal === undefined) throw new RangeError("no such portal");
  return {
    portal,
    alternatePortals: [...portals.slice(index + 1), ...portals.slice(0, index)],
    targetName,
    initiatorName,
    isid,
    headerDigest,
    dataDigest,
    ...(request.chap === undefined ? {} : { chap: request.chap }),
    ...(request.timers === undefined ? {} : { timers: request.timers }),
    ...(request.maxTasks === undefined ? {} : { maxTasks: request.maxTasks }),
  };
}

function isTransport(error: unknown): boolean {
  return error instanceof AppError && error.layer === "transport";
}

function cancelled(request: ConnectVolumeRequest, cause: unknown): CancelledError {
  return new CancelledError("initiator", "CONNECT_CANCELLED", `connecting ${request.targetName} was cancelled`, {
    cause,
  });
}
