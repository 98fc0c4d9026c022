import type { ChapCredentials, DigestChoice, PortalAddress } from "../base/access.js";
import { sleep } from "../base/clock.js";
import { AppError, CancelledError, errorMessage } from "../base/errors.js";
import { lunFromNumber } from "../base/lun.js";
import { formatPortal } from "../base/portal.js";
import type { BlockDevice, BlockDeviceInfo, DeviceEvent } from "../block/device.js";
import { type IscsiLun, openIscsiLun } from "../block/iscsi-lun.js";
import { splitFilter } from "../block/split.js";
import { validateFilter } from "../block/validate.js";
import type { NetworkInterfaces } from "../host/network-interfaces.js";
import type { PathControl } from "../multipath/status.js";
import type { ConnectionPolicy } from "../session/connection-policy.js";
import type { SessionEvent } from "../session/session-events.js";
import type { ConnectionPlan, SessionDependencies, SessionOptions, SessionTimers } from "../session/session-options.js";
import { Session } from "../session/session.js";
import { followAdvertisedPortals } from "./advertised-portals.js";
import { connectPaths } from "./connect-paths.js";
import { isNetworkNotReady, isTransport, NETWORK_READY_DELAY_MS } from "./network-ready.js";
import type { ReservationStatus } from "./reservation-status.js";
import { type VolumeSessionStatus, volumeSessionStatus } from "./session-status.js";
import type { InitiatorSettings } from "./settings.js";
import { guardedDevice, VolumeAdmission } from "./volume-admission.js";
import type { ReservationOptions } from "./volume-reservation.js";
import { volumeSessionOptions } from "./volume-session.js";

export type { VolumeConnectionStatus, VolumeSessionStatus } from "./session-status.js";

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
  /** What the unit had when it was seen last, for one whose name is not its own alone; absent or 0: any size will do. */
  readonly expectedSizeBytes?: number;
  /** Reserve the unit for this node. Absent: reservations are left alone. */
  readonly reservation?: ReservationOptions;
  /**
   * An earlier process may have left sessions of this volume at the target: what they were asked for must be over before
   * the volume is used. Default no.
   */
  readonly hasFormerSessions?: boolean;
  /** Paths that the earlier process had (see rememberPaths). */
  readonly formerPathIds?: readonly string[];
  /** With several paths: told which there are, before anything is sent over one that is not among those told before. */
  readonly rememberPaths?: (pathIds: readonly string[]) => Promise<void>;
}

export interface ConnectVolumeDependencies extends SessionDependencies {
  /** Addresses of this node, for paths that are bound to interfaces. */
  readonly interfaces?: NetworkInterfaces;
}

export interface CloseOptions {
  /** The volume is given up by this node: its reservation goes. Default no: another process of this node goes on with it. */
  readonly isGivenUp?: boolean;
}

export type VolumeEvent =
  | { readonly source: "session"; readonly event: SessionEvent }
  | { readonly source: "device"; readonly event: DeviceEvent }
  | { readonly source: "reservation"; readonly event: ReservationEvent };

/** Another node has taken the unit: nothing is written by this one any more, for good. */
export interface ReservationEvent {
  readonly kind: "lost";
  readonly reason: AppError;
}

/** A LUN that is reached. */
export interface ConnectedVolume {
  /** Checks ranges, splits large transfers, waits while there is no path. */
  readonly device: BlockDevice;
  /** The ways to the unit; absent when there is one session alone. */
  readonly paths?: PathControl;
  /** How writers of other nodes are kept away; absent when nothing is done about them. */
  readonly reservation?: () => ReservationStatus;
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
  close(options?: CloseOptions): Promise<void>;
}

/**
 * Logs in to a target and opens one of its units. Rejects with the most telling error of the portals: one that
 * answered and refused before one that could not be reached. CancelledError when `signal` aborts. Nothing stays open
 * then. Once connected, a lost path is looked for at all portals in turn, for ever unless settings or timers set a limit.
 * With `multipath: mpio` there is a session for each path instead: see connectPaths.
 */
export async function connectVolume(
  request: ConnectVolumeRequest,
  dependencies: ConnectVolumeDependencies,
  signal?: AbortSignal,
): Promise<ConnectedVolume> {
  if (request.settings?.multipath === "mpio") return connectPaths(request, dependencies, signal);
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
  const session = await Session.open(volumeSessionOptions(request, portals), dependencies, signal);
  const onAbort = (): void => session.close();
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    const { lun, expectedId, expectedSizeBytes = 0, reservation } = request;
    const admission = reservation === undefined ? undefined : new VolumeAdmission(reservation, dependencies);
    const unit = await openIscsiLun(
      session,
      {
        lun: lunFromNumber(lun),
        ...{ expectedId, expectedSizeBytes },
        ...(admission === undefined ? {} : { admit: (commander) => admission.admit(commander, "") }),
      },
      dependencies,
    );
    return connectedVolume(session, { unit, admission }, request, dependencies);
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
  { unit, admission }: { readonly unit: IscsiLun; readonly admission: VolumeAdmission | undefined },
  request: ConnectVolumeRequest,
  dependencies: SessionDependencies,
): ConnectedVolume {
  const maxPieceBytes = request.settings?.maxTransferLengthBytes;
  const guarded = admission === undefined ? unit : guardedDevice(unit, admission, "");
  const device = validateFilter(splitFilter(guarded, maxPieceBytes === undefined ? {} : { maxPieceBytes }));
  let { chap } = request;
  const stopFollowing = followPortals(session, request, () => chap, dependencies);
  let closing: Promise<void> | undefined;
  const closeAll = async ({ isGivenUp = false }: CloseOptions): Promise<void> => {
    await stopFollowing();
    if (isGivenUp && session.state === "ready") await admission?.leave([{ pathId: "", commander: unit.commander }]);
    await device.close();
    await session.logout().catch((error: unknown) => {
      dependencies.logger.warn("logout failed, the connection was cut", { reason: errorMessage(error) });
    });
  };
  return {
    device,
    ...(admission === undefined ? {} : { reservation: () => admission.status() }),
    sessions: () => [volumeSessionStatus(session.status())],
    onEvent: (listener) => {
      const stopSession = session.events.on((event) => listener({ source: "session", event }));
      const stopDevice = unit.onEvent((event) => listener({ source: "device", event }));
      const stopReservation = admission?.onLost((reason) =>
        listener({ source: "reservation", event: { kind: "lost", reason } }),
      );
      return () => {
        stopSession();
        stopDevice();
        stopReservation?.();
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
    close: (options = {}) => (closing ??= closeAll(options)),
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

function cancelled(request: ConnectVolumeRequest, cause: unknown): CancelledError {
  return new CancelledError("initiator", "CONNECT_CANCELLED", `connecting ${request.targetName} was cancelled`, {
    cause,
  });
}
