import { z } from "zod";
import type { ReservationStatus } from "../initiator/reservation-status.js";
import { PATH_POLICIES } from "../multipath/path-policy.js";
import type { MultipathStatus, PathState, PathStatus } from "../multipath/status.js";
import type { AluaState } from "../scsi/alua.js";
import type { AskedPathChange, MissingPath } from "./api.js";

/** The messages about paths of proto/hawser/dataplane/v1: see control-messages.ts. */

const PATH_STATES = [
  "up",
  "connecting",
  "down",
  "suspect",
  "damped",
  "refused",
  "failed",
] as const satisfies readonly PathState[];

const ACCESS_STATES = [
  ...(["active-optimized", "active-non-optimized", "standby", "unavailable"] as const),
  ...(["lba-dependent", "offline", "transitioning", "unknown"] as const),
] as const satisfies readonly AluaState[];

const pathMessage = z
  .object({
    id: z.string(),
    state: z.enum(PATH_STATES),
    reason: z.string(),
    chosen: z.boolean(),
    standby: z.boolean(),
    weight: z.number(),
    rank: z.number(),
    accessState: z.enum(["", ...ACCESS_STATES]),
    portGroup: z.number().nullish(),
    requestsInFlight: z.number(),
    bytesInFlight: z.number(),
    readOperations: z.number(),
    writeOperations: z.number(),
    readBytes: z.number(),
    writtenBytes: z.number(),
    bytesPerSecond: z.number(),
    errors: z.number(),
    failures: z.number(),
    lastEvent: z.string(),
    lastEventTimeMs: z.number(),
  })
  .transform(({ chosen, standby, accessState, portGroup, ...rest }): PathStatus => ({
    ...rest,
    isChosen: chosen,
    isStandby: standby,
    accessState: accessState === "" ? undefined : accessState,
    portGroup: portGroup ?? undefined,
  }));

export const multipathMessage = z.object({
  policy: z.enum(PATH_POLICIES),
  heldRequests: z.number(),
  paths: z.array(pathMessage),
}) satisfies z.ZodType<MultipathStatus>;

export const reservationMessage = z.object({
  mode: z.string(),
  state: z.string(),
  key: z.string(),
  holderKey: z.string(),
}) satisfies z.ZodType<ReservationStatus>;

export const missingPathMessage = z
  .object({ id: z.string(), reason: z.string(), refused: z.boolean() })
  .transform(({ refused, ...rest }): MissingPath => ({ ...rest, isRefused: refused }));

export const setPathPolicyMessage = z.object({ volumeHandle: z.string(), policy: z.enum(PATH_POLICIES) });

export const changePathMessage = z
  .object({
    volumeHandle: z.string(),
    pathId: z.string(),
    action: z.enum(["", "fail", "restore"]),
    weight: z.int().min(0).max(65_535).nullish(),
    standby: z.boolean().nullish(),
  })
  // One message, one meaning: with an action nothing else is changed, and without one something is.
  .refine(({ action, weight, standby }) => (action === "") !== ((weight ?? standby ?? undefined) === undefined), {
    path: ["action"],
  })
  .transform(({ volumeHandle, pathId, action, weight, standby }) => ({
    volumeHandle,
    pathId,
    change: pathChangeOf(action, weight ?? undefined, standby ?? undefined),
  }));

export function changePathToMessage(volumeHandle: string, pathId: string, change: AskedPathChange): object {
  if ("action" in change) return { volumeHandle, pathId, action: change.action };
  const { weight, isStandby } = change;
  return {
    ...{ volumeHandle, pathId, action: "" },
    ...(weight === undefined ? {} : { weight }),
    ...(isStandby === undefined ? {} : { standby: isStandby }),
  };
}

export function multipathToMessage({ paths, ...multipath }: MultipathStatus): object {
  return { ...multipath, paths: paths.map(pathToMessage) };
}

export function missingPathToMessage({ isRefused, ...rest }: MissingPath): object {
  return { ...rest, refused: isRefused };
}

function pathToMessage({ isChosen, isStandby, accessState, portGroup, ...rest }: PathStatus): object {
  return {
    ...{ ...rest, chosen: isChosen, standby: isStandby, accessState: accessState ?? "" },
    ...(portGroup === undefined ? {} : { portGroup }),
  };
}

function pathChangeOf(
  action: "" | "fail" | "restore",
  weight: number | undefined,
  isStandby: boolean | undefined,
): AskedPathChange {
  if (action !== "") return { action };
  return { ...(weight === undefined ? {} : { weight }), ...(isStandby === undefined ? {} : { isStandby }) };
}
