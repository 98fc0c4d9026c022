import { AppError, CancelledError } from "../base/errors.js";
import { PATHS_USABLE_TIMEOUT_MS } from "../base/limits.js";
import { sleep } from "../base/clock.js";
import { splitFilter } from "../block/split.js";
import { validateFilter } from "../block/validate.js";
import type { ConnectedVolume, ConnectVolumeDependencies, ConnectVolumeRequest } from "./connect-volume.js";
import { isTransport } from "./network-ready.js";
import { PathVolume } from "./path-volume.js";

/**
 * Logs in to a target over several paths (sources × portals), a session each, and makes one device of them. Resolves as
 * soon as one path carries requests; the others join when they can. Rejects with the most telling error of the paths when
 * none came up at the first attempt, with PATH_NONE_POSSIBLE, PATH_FENCE_FAILED, and with CancelledError; nothing stays
 * open then.
 */
export async function connectPaths(
  request: ConnectVolumeRequest,
  dependencies: ConnectVolumeDependencies,
  signal?: AbortSignal,
): Promise<ConnectedVolume> {
  const volume = new PathVolume(request, dependencies);
  try {
    await volume.start();
    await firstUsable(volume, dependencies, signal);
    if (request.hasFormerSessions === true) await volume.fenceFormerSessions();
    if (signal?.aborted === true) throw cancelled(request);
    return connectedVolume(volume, request);
  } catch (error) {
    await volume.close();
    throw signal?.aborted === true ? cancelled(request, error) : error;
  }
}

/** Waits for the first path, but not when every one of them has failed, nor for ever for one that takes no requests. */
async function firstUsable(
  volume: PathVolume,
  { clock }: ConnectVolumeDependencies,
  signal: AbortSignal | undefined,
): Promise<void> {
  const over = new AbortController();
  const stop = (): void => over.abort(new CancelledError("initiator", "CONNECT_CANCELLED", "nobody waits any more"));
  signal?.addEventListener("abort", stop, { once: true });
  if (signal?.aborted === true) stop();
  const allFailed = volume.firstOutcomes().then((failures) => {
    const telling = failures.find((failure) => !isTransport(failure)) ?? failures[0];
    if (telling !== undefined) throw telling;
    return sleep(clock, PATHS_USABLE_TIMEOUT_MS, over.signal).then(() => {
      throw volume.notUsable();
    });
  });
  allFailed.catch(() => undefined);
  try {
    await Promise.race([volume.multipath.whenUsable(over.signal), allFailed]);
  } finally {
    signal?.removeEventListener("abort", stop);
    stop();
  }
}

function connectedVolume(volume: PathVolume, request: ConnectVolumeRequest): ConnectedVolume {
  const { multipath, admission } = volume;
  const maxPieceBytes = request.settings?.maxTransferLengthBytes;
  const device = validateFilter(splitFilter(multipath, maxPieceBytes === undefined ? {} : { maxPieceBytes }));
  let closing: Promise<void> | undefined;
  const refused = (what: string): AppError =>
    new AppError("initiator", "VOLUME_IS_MULTIPATH", `${what}: the volume has one connection for each of its paths`);
  return {
    device,
    paths: multipath,
    ...(admission === undefined ? {} : { reservation: () => admission.status() }),
    sessions: () => volume.sessions(),
    onEvent: (listener) => {
      const stopDevice = multipath.onEvent((event) => listener({ source: "device", event }));
      const stopReservation = admission?.onLost((reason) =>
        listener({ source: "reservation", event: { kind: "lost", reason } }),
      );
      return () => {
        stopDevice();
        stopReservation?.();
      };
    },
    refresh: async () => {
      await multipath.refresh();
      return device.info;
    },
    renewChap: (chap) => volume.renewChap(chap),
    setConnectionPolicy: () => {
      throw refused("connections have no policy here, paths have");
    },
    addConnection: () => Promise.reject(refused("no connection can be added")),
    removeConnection: () => Promise.reject(refused("no connection can be removed")),
    close: (options) => (closing ??= volume.close(options)),
  };
}

function cancelled(request: ConnectVolumeRequest, cause?: unknown): CancelledError {
  return new CancelledError("initiator", "CONNECT_CANCELLED", `connecting ${request.targetName} was cancelled`, {
    cause,
  });
}
