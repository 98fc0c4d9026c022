import type { ChapCredentials, DigestChoice, PortalAddress } from "../base/access.js";
import { sleep } from "../base/clock.js";
import { AppError, CancelledError, errorCode, errorMessage } from "../base/errors.js";
import { lunFromNumber } from "../base/lun.js";
import { formatPortal } from "../base/portal.js";
import type { BlockDevice, BlockDeviceInfo, DeviceEvent } from "../block/device.js";
import { type IscsiLun, openIscsiLun } from "../block/iscsi-lun.js";
import { splitFilter } from "../block/split.js";
import { validateFilter } from "../block/validate.js";
import type { ConnectionPolicy } from "../session/connection-policy.js";
import type { SessionEvent } from "../session/session-events.js";
import type { ConnectionPlan, SessionDependencies, SessionOptions, SessionTimers } from "../session/session-options.js";
import { Session } from "../session/session.js";
import { followAdvertisedPortals } from "./advertised-portals.js";
import { planSession } from "./session-plan.js";
import { type VolumeSessionStatus, volumeSessionStatus } from "./session-status.js";
import type { InitiatorSettings } from "./settings.js";

export type { VolumeConnectionStatus, VolumeSessionStatus } from "./session-status.js";

/** Between attempts while the network is not ready. */
const NETWORK_READY_DELAY_MS = 1_000;

const NETWORK_NOT_READY: ReadonlySet<string> = new Set([
  "TRANSPORT_UNREACHABLE",
  "TRANSPORT_ADDRESS_NOT_AVAILABLE",
  "TRANSPORT_NAME_NOT_FOUND",
]);

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
  /** Where the initiator shall not go by its defaults: connections, recovery, portals, times. */
  readonly settings?: InitiatorSettings;
  /** Keys of our own to offer the target (RFC 7143 §13.22), as checkExtensionKeys has them; the status has its answers. */
  readonly extensionKeys?: NonNullable<SessionOptions["extensionKeys"]>;
  /** The volume has other sessions: while this one has no path, its requests wait for LinkDownTime. */
  readonly isOneOfSeveralPaths?: boolean;
  /** Take precedence over `settings`, like `maxTasks`. */
  readonly timers?: Partial<SessionTimers>;
  readonly maxTasks?: number;
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
  /** Another policy from the next command on. */
  setConnectionPolicy(policy: ConnectionPolicy): void;
  /**
   * One more connection, until the volume is closed or the session has to begin anew; resolves with its CID. Rejects
   * with the error of the login, and with SessionError when the target admits no more.
   */
  addConnection(plan: ConnectionPlan): Promise<number>;
  /** Takes a connection out of service in order. Rejects with SessionError for one that is not there, and for the last. */
  removeConnection(cid: number): Promise<void>;
  /** Lets outstanding operations settle while there is a path, then logs out. Does not fail. */
  close(): Promise<void>;
}

/**
 * Logs in to a target and opens one of its units. Rejects with the most telling error of the portals: one that
 * answered and refused before one that could not be reached. CancelledError when `signal` aborts. Nothing stays open
 * then. Once connected, a lost path is looked for at all portals in turn, for ever unless settings or timers set a limit.
 */
export async function connectVolume(
  request: ConnectVolumeRequest,
  dependencies: SessionDependencies,
  signal?: AbortSignal,
): Promise<ConnectedVolume> {
  const retries = request.settings?.networkReadyRetryCount ?? 0;
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await connectAnywhere(request, dependencies, signal);
    } catch (error) {
      if (attempt >= retries || !isNetworkNotReady(error)) throw error;
      dependencies.logger.info("the network is not ready yet", { attempt: attempt + 1, reason: errorMessage(error) });
    }
    await sleep(dependencies.clock, NETWORK_READY_DELAY_MS, signal).catch((error: unknown) => {
      throw cancelled(request, error);
    });
  }
}

async function connectAnywhere(
  request: ConnectVolumeRequest,
  dependencies: SessionDependencies,
  signal: AbortSignal | undefined,
): Promise<ConnectedVolume> {
  let failure: Error | undefined;
  const isPinned = request.settings?.portalHopping === "pinned";
  for (const [index, portal] of (isPinned ? request.portals.slice(0, 1) : request.portals).entries()) {
    try {
      const before = request.portals.slice(0, index);
      return await connectAt(request, [portal, ...request.portals.slice(index + 1), ...before], dependencies, signal);
    } catch (error) {
      if (signal?.aborted === true) throw cancelled(request, error);
      dependencies.logger.warn("volume cannot be reached through a portal", {
        target: request.targetName,
        portal: formatPortal(portal),
        reason: errorMessage(error),
      });
      if (!(error instanceof Error)) throw error;
      if (failure === undefined || isTransport(failure)) failure = error;
    }
  }
  throw failure ?? new AppError("initiator", "PORTAL_MISSING", `no portal is named for ${request.targetName}`);
}

async function connectAt(
  request: ConnectVolumeRequest,
  portals: readonly [PortalAddress, ...PortalAddress[]],
  dependencies: SessionDependencies,
  signal: AbortSignal | undefined,
): Promise<ConnectedVolume> {
  const session = await Session.open(sessionOptions(request, portals), dependencies, signal);
  const onAbort = (): void => session.close();
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    const { lun, expectedId } = request;
    const unit = await openIscsiLun(session, { lun: lunFromNumber(lun), expectedId }, dependencies);
    return connectedVolume(session, unit, request, dependencies);
  } catch (error) {
    // What is worth telling is why the unit could not be opened.
    await session.logout().catch(() => undefined);
    throw error;
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}

function connectedVolume(
  session: Session,
  unit: IscsiLun,
  request: ConnectVolumeRequest,
  dependencies: SessionDependencies,
): ConnectedVolume {
  const maxPieceBytes = request.settings?.maxTransferLengthBytes;
  const device = validateFilter(splitFilter(unit, maxPieceBytes === undefined ? {} : { maxPieceBytes }));
  let { chap } = request;
  const stopFollowing = followPortals(session, request, () => chap, dependencies);
  let closing: Promise<void> | undefined;
  const closeAll = async (): Promise<void> => {
    await stopFollowing();
    await device.close();
    await session.logout().catch((error: unknown) => {
      dependencies.logger.warn("logout failed, the connection was cut", { reason: errorMessage(error) });
    });
  };
  return {
    device,
    sessions: () => [volumeSessionStatus(session.status())],
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
    renewChap: (renewed) => {
      chap = renewed;
      session.renewChap(renewed);
    },
    setConnectionPolicy: (policy) => session.setPolicy(policy),
    addConnection: (plan) => session.addConnection(plan),
    removeConnection: (cid) => session.removeConnection(cid),
    close: () => (closing ??= closeAll()),
  };
}

/** Asks the target for its portals where the settings want that. Returns what ends it. */
function followPortals(
  session: Session,
  { settings, targetName, initiatorName }: ConnectVolumeRequest,
  chap: () => ChapCredentials | undefined,
  dependencies: SessionDependencies,
): () => Promise<void> {
  if (settings?.portalHopping !== "advertised") return () => Promise.resolve();
  return followAdvertisedPortals(session, { targetName, initiatorName, chap }, dependencies);
}

function sessionOptions(
  request: ConnectVolumeRequest,
  portals: readonly [PortalAddress, ...PortalAddress[]],
): SessionOptions {
  const { targetName, initiatorName, isid, headerDigest, dataDigest, chap, timers, maxTasks, extensionKeys } = request;
  return {
    portal: portals[0],
    ...{ targetName, initiatorName, isid, headerDigest, dataDigest },
    ...(chap === undefined ? {} : { chap }),
    ...(extensionKeys === undefined ? {} : { extensionKeys }),
    ...planSession({
      portals,
      settings: request.settings ?? {},
      isOneOfSeveralPaths: request.isOneOfSeveralPaths ?? false,
      ...(timers === undefined ? {} : { timers }),
      ...(maxTasks === undefined ? {} : { maxTasks }),
    }),
  };
}

/** This machine has no address or no way out yet, as while it boots; that the target does not answer is another matter. */
function isNetworkNotReady(error: unknown): boolean {
  return isTransport(error) && NETWORK_NOT_READY.has(errorCode(error) ?? "");
}

function isTransport(error: unknown): boolean {
  return error instanceof AppError && error.layer === "transport";
}

function cancelled(request: ConnectVolumeRequest, cause: unknown): CancelledError {
  return new CancelledError("initiator", "CONNECT_CANCELLED", `connecting ${request.targetName} was cancelled`, {
    cause,
  });
}
