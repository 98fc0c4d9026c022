import { MAX_CHAP_BINARY_BYTES, MAX_PORTALS_PER_VOLUME, MAX_VOLUME_HANDLE_BYTES } from "../base/limits.js";
import { isNodeName } from "../login/node-name.js";
import type { AttachRequest } from "./api.js";
import { DataplaneError } from "./errors.js";
import type { VolumeRecord } from "./volume-record.js";

/** Throws VOLUME_INVALID, naming the field, for a request that can never be fulfilled. */
export function checkAttachRequest(request: AttachRequest): void {
  checkVolumeHandle(request.volumeHandle);
  if (request.portals.length === 0 || request.portals.length > MAX_PORTALS_PER_VOLUME) {
    refuse(request, `it names ${request.portals.length} portals; 1 to ${MAX_PORTALS_PER_VOLUME} are possible`);
  }
  for (const { host, port } of request.portals) {
    if (host === "" || host.length > 255) refuse(request, "a portal has no host name or address");
    if (!Number.isInteger(port) || port < 1 || port > 65_535) refuse(request, `port ${port} of ${host} does not exist`);
  }
  if (!isNodeName(request.targetName)) refuse(request, `"${request.targetName}" is not an iSCSI target name`);
  if (!Number.isInteger(request.lun) || request.lun < 0 || request.lun > 0xff_ffff) {
    refuse(request, `LUN ${request.lun} is not a whole number from 0 to 16777215`);
  }
  if (request.publicationId.length > 256) refuse(request, "the publication id is longer than 256 characters");
  if (request.expectedId.length > 512) refuse(request, "the expected identity is longer than 512 characters");
  const { chap } = request;
  if (chap === undefined) return;
  const isComplete = (chap.mutualUser === undefined) === (chap.mutualSecret === undefined);
  if (!isComplete) refuse(request, "mutual CHAP needs both a user and a secret");
  if (chap.user === "") refuse(request, "the CHAP user is empty");
  for (const secret of [chap.secret, chap.mutualSecret]) {
    if (secret !== undefined && (secret.lengthBytes === 0 || secret.lengthBytes > MAX_CHAP_BINARY_BYTES)) {
      refuse(request, `a CHAP secret has ${secret.lengthBytes} bytes; 1 to ${MAX_CHAP_BINARY_BYTES} are possible`);
    }
  }
}

/** Throws VOLUME_INVALID for an empty, overlong or unprintable handle. */
export function checkVolumeHandle(volumeHandle: string): void {
  const lengthBytes = Buffer.byteLength(volumeHandle);
  const isPrintable = !/\p{Cc}|\p{Cs}/u.test(volumeHandle);
  if (lengthBytes > 0 && lengthBytes <= MAX_VOLUME_HANDLE_BYTES && isPrintable) return;
  throw new DataplaneError(
    "VOLUME_INVALID",
    `a volume handle has 1 to ${MAX_VOLUME_HANDLE_BYTES} printable bytes; this one has ${lengthBytes}`,
  );
}

/**
 * Throws VOLUME_MISMATCH, naming what differs, when an attached volume is asked for with other parameters. CHAP does
 * not count: it may be renewed while the volume is attached. Neither does the order of portals.
 */
export function checkSameParameters(record: VolumeRecord, request: AttachRequest): void {
  const differing: string[] = [];
  if (portalKey(record) !== portalKey(request)) differing.push("portals");
  if (record.targetName !== request.targetName) differing.push("target name");
  if (record.lun !== request.lun) differing.push("LUN");
  if (record.isReadOnly !== request.isReadOnly) differing.push("read-only");
  const { wasShared } = record;
  if (wasShared !== undefined && wasShared !== (request.isShared ?? false))
    differing.push("access mode (one node, several)");
  if (record.headerDigest !== request.headerDigest) differing.push("header digest");
  if (record.dataDigest !== request.dataDigest) differing.push("data digest");
  const backend = record.backend ?? record.requestedBackend;
  if (request.backend !== undefined && backend !== undefined && backend !== request.backend) differing.push("backend");
  if (differing.length > 0) {
    throw new DataplaneError(
      "VOLUME_MISMATCH",
      `volume ${request.volumeHandle} is attached with another ${differing.join(", ")}; detach it first`,
      { details: { volumeHandle: request.volumeHandle, differing } },
    );
  }
  checkSameIdentity(record, request);
}

/** Throws VOLUME_MISMATCH when the caller demands another identity than the volume is known by. */
export function checkSameIdentity(record: VolumeRecord, request: AttachRequest): void {
  const known = record.deviceId === "" ? record.requestedId : record.deviceId;
  if (request.expectedId === "" || known === "" || known === request.expectedId) return;
  throw new DataplaneError(
    "VOLUME_MISMATCH",
    `volume ${request.volumeHandle} is device ${known} on this node, but ${request.expectedId} is demanded; if it was ` +
      "replaced on purpose, give it a new volume handle",
    { details: { volumeHandle: request.volumeHandle, known, demanded: request.expectedId } },
  );
}

function portalKey({ portals }: Pick<AttachRequest, "portals">): string {
  return portals
    .map(({ host, port }) => `${host.toLowerCase()} ${port}`)
    .sort()
    .join(",");
}

function refuse(request: AttachRequest, reason: string): never {
  throw new DataplaneError("VOLUME_INVALID", `volume ${request.volumeHandle} cannot be attached: ${reason}`, {
    details: { volumeHandle: request.volumeHandle },
  });
}
