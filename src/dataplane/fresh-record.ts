import type { Clock } from "../base/clock.js";
import type { Random } from "../base/random.js";
import { formatInitiatorSettings } from "../initiator/settings.js";
import type { AttachRequest } from "./api.js";
import type { ChapVault } from "./chap-vault.js";
import { checkSameIdentity } from "./check-request.js";
import { DataplaneError } from "./errors.js";
import type { Volume } from "./volume.js";
import type { VolumeRecord } from "./volume-record.js";
import type { VolumeRegistry } from "./volume-registry.js";

export interface FreshRecordDependencies {
  readonly registry: VolumeRegistry;
  readonly vault: ChapVault;
  readonly clock: Clock;
  readonly random: Random;
  readonly createIsid: (random: Random) => Buffer;
}

/**
 * The record of a volume that is attached now and was not before: the parameters are the request's; identity, ISID,
 * file system and generation go on from the record of earlier attaches. Throws VOLUME_MISMATCH when another identity is
 * demanded than the volume is known by, RECORD_NEWER.
 */
export function freshRecord(
  volume: Volume,
  request: AttachRequest,
  bootId: string,
  dependencies: FreshRecordDependencies,
): VolumeRecord {
  const { registry, vault, clock } = dependencies;
  const damage = registry.damageOf(volume.handle);
  if (damage?.isNewer === true) {
    throw new DataplaneError(
      "RECORD_NEWER",
      `volume ${volume.handle} cannot be attached: ${damage.path} was ${damage.reason}`,
    );
  }
  const { record } = volume;
  if (record !== undefined) checkSameIdentity(record, request);
  const nowMs = clock.wallTimeMs();
  // Of a volume whose record was damaged we do not know whether it was formatted: then it was, so that nobody formats
  // it again; and its generation is larger than any before.
  const lost = damage === undefined ? undefined : { wasFormatted: true, generation: Math.floor(nowMs / 1000) };
  const settings = formatInitiatorSettings(request.settings ?? {});
  const { chap, backend, volumeHandle, portals, targetName, lun, isReadOnly, headerDigest, dataDigest } = request;
  return {
    version: 1,
    phase: "attaching",
    ...{ volumeHandle, targetName, lun, isReadOnly, headerDigest, dataDigest },
    portals: portals.map(({ host, port }) => ({ host, port })),
    requestedId: request.expectedId,
    deviceId: record?.deviceId ?? "",
    ...(Object.keys(settings).length === 0 ? {} : { settings }),
    ...(backend === undefined ? {} : { requestedBackend: backend }),
    wasShared: request.isShared ?? false,
    ...(record?.sizeBytes === undefined ? {} : { sizeBytes: record.sizeBytes }),
    isids: record?.isids ?? [newIsid(dependencies)],
    ...(chap === undefined ? {} : { sealedChap: vault.seal(volume.handle, chap) }),
    publicationId: request.publicationId,
    generation: (record?.generation ?? lost?.generation ?? 0) + 1,
    bootId,
    wasFormatted: record?.wasFormatted ?? lost?.wasFormatted ?? false,
    fsType: record?.fsType ?? "",
    createdAtMs: record?.createdAtMs ?? nowMs,
    updatedAtMs: nowMs,
  };
}

function newIsid({ registry, createIsid, random }: FreshRecordDependencies): string {
  for (;;) {
    const isid = createIsid(random).toString("hex");
    if (!registry.hasIsid(isid)) return isid;
  }
}
