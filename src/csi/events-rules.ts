import { AppError } from "../base/errors.js";
import type {
  AttachedVolume,
  MissingPath,
  NodeCondition,
  NodeConditionKind,
  VolumeCondition,
} from "../dataplane/api.js";
import type { EventReason } from "./events-catalogue.js";

/** A reason and its words: an event without its object. */
export interface Finding {
  readonly reason: EventReason;
  readonly note: string;
  /** Of a node: what of it, when several things can have this reason. Of a volume it is the volume. */
  readonly subject?: string;
}

const byCode: Readonly<Record<string, EventReason>> = {
  LOGIN_AUTHENTICATION_FAILED: "VolumeLoginRefused",
  LOGIN_AUTHORIZATION_FAILED: "VolumeLoginRefused",
  AUTH_METHOD_REFUSED: "VolumeLoginRefused",
  AUTH_ALGORITHM_REFUSED: "VolumeLoginRefused",
  AUTH_EXCHANGE_BROKEN: "VolumeLoginRefused",
  AUTH_TARGET_NOT_PROVEN: "VolumeLoginRefused",
  AUTH_REFLECTED: "VolumeLoginRefused",
  AUTH_SECRETS_EQUAL: "VolumeLoginRefused",
  AUTH_SECRET_TOO_SHORT: "VolumeLoginRefused",
  AUTH_CREDENTIALS_INCOMPLETE: "VolumeLoginRefused",
  LOGIN_TARGET_NOT_FOUND: "VolumeTargetMissing",
  LOGIN_TARGET_REMOVED: "VolumeTargetMissing",
  BLOCK_NO_SUCH_LUN: "VolumeTargetMissing",
  // What a target without such a LUN may show instead: something there that is no disk.
  BLOCK_NOT_SUPPORTED: "VolumeTargetMissing",
  BLOCK_IDENTITY_MISMATCH: "VolumeIdentityMismatch",
  BLOCK_UNAVAILABLE: "VolumeUnreachable",
  RESERVATION_LOST: "VolumeReservationLost",
  RESERVATION_HELD: "VolumeReservationHeld",
  RESERVATION_KEY_SHARED: "VolumeReservationHeld",
  RESERVATION_UNSUPPORTED: "VolumeReservationHeld",
  VOLUME_SUPERSEDED: "VolumeSuperseded",
  VOLUME_DEVICE_LOST: "VolumeDeviceLost",
  VOLUME_FAILED: "VolumeFailed",
  VOLUME_SHRUNK: "VolumeShrunk",
  VOLUME_LIMIT: "VolumeLimitReached",
  DEVICE_BUSY: "VolumeDeviceBusy",
  SEALING_OPEN_FAILED: "VolumeCredentialsUnreadable",
  HOST_FILESYSTEM_DAMAGED: "FileSystemDamaged",
  HOST_FILESYSTEM_GROW_FAILED: "FileSystemGrowFailed",
  HOST_NBD_UNAVAILABLE: "NbdUnavailable",
  HOST_PROGRAM_MISSING: "HostProgramMissing",
};

const byNodeCondition: Readonly<Record<NodeConditionKind, EventReason>> = {
  "protection-missing": "ProtectionMissing",
  "record-damaged": "VolumeRecordDamaged",
  "orphan-in-use": "OrphanDeviceInUse",
};

/** What is behind these does not end with the outage: they are said instead of it. */
const TELLING: ReadonlySet<EventReason> = new Set([
  "VolumeLoginRefused",
  "VolumeTargetMissing",
  "VolumeReservationLost",
  "VolumeReservationHeld",
]);

/** An event has room for about a thousand characters. */
const MAX_PATHS_IN_NOTE = 4;

/** Set in the details of an error whose code says too little: the reason of its event. */
export const EVENT_REASON_DETAIL = "eventReason";

/**
 * What an operator must know of a failed call, or undefined: most failures end with the next try, and the kubelet shows
 * every one anyway. An error that is none of ours is never told: nobody knows what it says.
 */
export function findingOfError(volumeId: string, error: unknown): Finding | undefined {
  if (!(error instanceof AppError)) return undefined;
  const reason = reasonOfError(error);
  if (reason === undefined) return undefined;
  const note = error.message.includes(volumeId) ? error.message : `volume ${volumeId}: ${error.message}`;
  return { reason, note };
}

function reasonOfError(error: AppError): EventReason | undefined {
  if (error.details[EVENT_REASON_DETAIL] === ("FileSystemRefused" satisfies EventReason)) return "FileSystemRefused";
  return byCode[error.code] ?? (error.layer === "transport" ? "VolumeUnreachable" : undefined);
}

/** What is wrong with a volume that stands so, or undefined. States that pass by themselves say nothing. */
export function findingOfCondition(condition: VolumeCondition): Finding | undefined {
  const { volumeHandle, state, code, reason, targetName } = condition;
  const target = targetName === "" || reason.includes(targetName) ? "" : ` (target ${targetName})`;
  if (state === "reconnecting") {
    const known = byCode[code];
    return {
      reason: known !== undefined && TELLING.has(known) ? known : "VolumeUnreachable",
      note: `volume ${volumeHandle} cannot be reached${target}, its I/O waits until it can: ${reason}`,
    };
  }
  if (state === "failed") {
    return {
      reason: byCode[code] ?? "VolumeFailed",
      note: `volume ${volumeHandle} does not work${target}: ${reason}`,
    };
  }
  return undefined;
}

/** What is to be said of paths that are down, or undefined. */
export function findingOfLostPaths({
  volumeHandle,
  pathsUp,
  pathsTotal,
  pathsMissing,
}: VolumeCondition): Finding | undefined {
  const lost = pathsMissing.filter(({ isRefused }) => !isRefused);
  if (lost.length === 0) return undefined;
  const outcome = pathsUp === 0 ? "its I/O waits" : "its I/O goes over the others";
  return {
    reason: "VolumePathLost",
    note: `${pathsUp} of the ${pathsTotal} paths of volume ${volumeHandle} are up, ${outcome}; not up: ${namesOf(lost)}`,
  };
}

/** What is to be said of paths that do not lead to the volume, or must not be used, or undefined. */
export function findingOfRefusedPaths({ volumeHandle, pathsMissing }: VolumeCondition): Finding | undefined {
  const refused = pathsMissing.filter(({ isRefused }) => isRefused);
  if (refused.length === 0) return undefined;
  return {
    reason: "VolumePathRefused",
    note: `nothing is sent to volume ${volumeHandle} over ${namesOf(refused)}`,
  };
}

/** What is to be said of a LUN and its device that are not of one size, or undefined. */
export function findingOfSizes({ volumeHandle, deviceBytes, lunBytes }: VolumeCondition): Finding | undefined {
  if (deviceBytes === 0 || lunBytes === 0 || lunBytes === deviceBytes) return undefined;
  if (lunBytes < deviceBytes) {
    return {
      reason: "VolumeShrunk",
      note:
        `the LUN of volume ${volumeHandle} has ${lunBytes} bytes now, fewer than the ${deviceBytes} of its device: ` +
        "what lies beyond fails; restore the LUN's size",
    };
  }
  return {
    reason: "VolumeCapacityChanged",
    note:
      `the LUN of volume ${volumeHandle} has ${lunBytes} bytes now, its device ${deviceBytes}: ` +
      "the device follows when the claim is expanded or the volume is staged again",
  };
}

/** Did the device grow from one condition to the next? */
export function findingOfGrowth(before: VolumeCondition | undefined, now: VolumeCondition): Finding | undefined {
  if (before === undefined || before.deviceBytes === 0 || now.deviceBytes <= before.deviceBytes) return undefined;
  return { reason: "VolumeGrown", note: `the device of volume ${now.volumeHandle} has ${now.deviceBytes} bytes now` };
}

/** What staging a volume showed that its user should know before it matters. */
export function findingsOfStaged({ volumeHandle, backend, deviceId, devicePath }: AttachedVolume): readonly Finding[] {
  const findings: Finding[] = [];
  if (backend === "fuse") {
    findings.push({
      reason: "VolumeNotRestartSafe",
      note:
        `volume ${volumeHandle} is served through FUSE and ${devicePath}: it does not survive a restart of the ` +
        "dataplane on this node; load the kernel module nbd, use the nbd device, and drain the node once",
    });
  }
  if (deviceId === "") {
    findings.push({
      reason: "VolumeWithoutIdentity",
      note:
        `the device of volume ${volumeHandle} has no identity: another one mapped in its place would not be noticed; ` +
        "have the storage report a NAA or EUI identifier",
    });
  }
  return findings;
}

function namesOf(paths: readonly MissingPath[]): string {
  const named = paths.slice(0, MAX_PATHS_IN_NOTE).map(({ id, reason }) => `${id} (${reason})`);
  const others = paths.length - named.length;
  return [...named, ...(others === 0 ? [] : [`and ${others} more`])].join(", ");
}

/** The event of something of the node itself. */
export function findingOfNode({ kind, subject, message }: NodeCondition): Finding {
  return { reason: byNodeCondition[kind], subject, note: message };
}
