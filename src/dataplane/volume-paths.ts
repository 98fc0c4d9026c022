import type { PathPolicy } from "../multipath/path-policy.js";
import type { PathControl, PathEvent, PathState } from "../multipath/status.js";
import type { AskedPathChange, VolumeCondition } from "./api.js";
import { DataplaneError } from "./errors.js";
import { notAttached } from "./volume-answers.js";
import type { Volume } from "./volume.js";
import type { VolumeRegistry } from "./volume-registry.js";

/** What can be changed at the paths of a volume while it is in use. Each is called with the volume's lock held. */

/** Another policy from the next request on; the record remembers it. Throws VOLUME_NOT_FOUND, VOLUME_NOT_MULTIPATH, STATE_FAILED. */
export async function setPathPolicy(
  volume: Volume,
  policy: PathPolicy,
  registry: Pick<VolumeRegistry, "save">,
): Promise<void> {
  const paths = pathsOf(volume);
  const { record } = volume;
  if (record !== undefined) {
    await registry.save(volume, { ...record, settings: { ...record.settings, pathPolicy: policy } });
  }
  paths.setPolicy(policy);
}

/** Rejects with VOLUME_NOT_FOUND, VOLUME_NOT_MULTIPATH, and with those of PathControl. */
export async function changePath(volume: Volume, pathId: string, change: AskedPathChange): Promise<void> {
  const paths = pathsOf(volume);
  if (!("action" in change)) paths.changePath(pathId, change);
  else if (change.action === "fail") paths.failPath(pathId);
  else paths.restorePath(pathId);
  // A path out of service on purpose is not missed.
  volume.changed();
  return Promise.resolve();
}

/** What an operator should read about the paths of a volume. */
export function pathNote({ kind, pathId, message }: PathEvent): { readonly kind: string; readonly message: string } {
  return { kind, message: pathId === "" ? message : `path ${pathId}: ${message}` };
}

/** The part of a volume's condition that its paths decide. Those that an operator took out of service do not count. */
export function pathConditions(
  paths: PathControl | undefined,
): Pick<VolumeCondition, "pathsUp" | "pathsTotal" | "pathsMissing"> {
  const wanted = (paths?.status().paths ?? []).filter(({ state }) => state !== "failed");
  const missing = wanted.filter(({ state }) => state !== "up");
  return {
    pathsUp: wanted.length - missing.length,
    pathsTotal: wanted.length,
    pathsMissing: missing.map(({ id, state, reason }) => ({
      id,
      reason: reason === "" ? MEANINGS[state] : reason,
      isRefused: state === "refused",
    })),
  };
}

const MEANINGS: Readonly<Record<PathState, string>> = {
  up: "it carries requests",
  connecting: "it was never up yet",
  down: "it is looked for",
  suspect: "a check over it failed",
  damped: "it comes and goes, and is left alone for a while",
  refused: "what is behind it is not the volume",
  failed: "an operator took it out of service",
};

function pathsOf(volume: Volume): PathControl {
  if (volume.live === undefined) throw notAttached(volume.handle);
  const { paths } = volume.live.connected;
  if (paths !== undefined) return paths;
  throw new DataplaneError(
    "VOLUME_NOT_MULTIPATH",
    `volume ${volume.handle} has one session and no paths to look after; attach it with multipath: mpio`,
    { details: { volumeHandle: volume.handle } },
  );
}
