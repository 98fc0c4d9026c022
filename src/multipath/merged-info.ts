import type { BlockDeviceInfo } from "../block/device.js";
import { MultipathError } from "./errors.js";

/**
 * What the unit says over all of its paths, as one: what it is, from the first; what it can do, only if it can do it over
 * each of them. The size is not for one path to say. `infos` is not empty.
 */
export function mergeInfos(
  infos: readonly [BlockDeviceInfo, ...BlockDeviceInfo[]],
  sizeBytes: number,
): BlockDeviceInfo {
  const every = (fact: (info: BlockDeviceInfo) => boolean): boolean => infos.every(fact);
  const some = (fact: (info: BlockDeviceInfo) => boolean): boolean => infos.some(fact);
  return Object.freeze({
    ...infos[0],
    sizeBytes,
    maxTransferBytes: Math.min(...infos.map((info) => info.maxTransferBytes)),
    isReadOnly: some((info) => info.isReadOnly),
    hasVolatileCache: some((info) => info.hasVolatileCache),
    canUnmap: every((info) => info.canUnmap),
    unmapReadsZeroes: every((info) => info.unmapReadsZeroes),
    canWriteZeroes: every((info) => info.canWriteZeroes),
    canReportBlockStatus: every((info) => info.canReportBlockStatus),
    unmapGranularityBytes: Math.max(...infos.map((info) => info.unmapGranularityBytes)),
  });
}

/**
 * Why a path that shows `found` must not be used for the device `expected`; undefined: it may. Where the unit has no name
 * of its own (VPD 83), all that it says of itself has to be the same.
 */
export function otherUnit(
  pathId: string,
  expected: BlockDeviceInfo,
  found: BlockDeviceInfo,
): MultipathError | undefined {
  if (nameOf(expected) !== nameOf(found)) return refusal(pathId, nameOf(expected), nameOf(found));
  if (expected.logicalBlockBytes === found.logicalBlockBytes) return undefined;
  return refusal(pathId, `blocks of ${expected.logicalBlockBytes} bytes`, `blocks of ${found.logicalBlockBytes} bytes`);
}

/** The same for a path that comes up: a unit that has become smaller unseen may have lost data, or be another one. */
export function smallerUnit(
  pathId: string,
  expected: BlockDeviceInfo,
  found: BlockDeviceInfo,
): MultipathError | undefined {
  if (found.sizeBytes >= expected.sizeBytes) return undefined;
  return refusal(pathId, `${expected.sizeBytes} bytes`, `${found.sizeBytes} bytes`);
}

function nameOf({ identity }: BlockDeviceInfo): string {
  if (identity.id !== "") return identity.id;
  return `${identity.vendor} ${identity.product}, serial "${identity.serial}"`;
}

function refusal(pathId: string, expected: string, found: string): MultipathError {
  const message = `path ${pathId} leads to ${found}, expected ${expected}; check how the array maps its volumes`;
  return new MultipathError("MULTIPATH_PATH_REFUSED", message, { retry: "other-path", details: { expected, found } });
}
