import { AppError } from "../base/errors.js";
import { type Lun, formatLun } from "../base/lun.js";
import type { BlockDeviceInfo, DeviceIdentity } from "./device.js";
import { BlockError } from "./errors.js";

/** What tells one unit from another, as read from it. */
export type FoundUnit = Pick<BlockDeviceInfo, "identity" | "sizeBytes" | "logicalBlockBytes">;

export interface ExpectedUnit {
  readonly lun: Lun;
  /** Empty: any. */
  readonly expectedId: string;
  /** Counts for units whose name is not their own alone; 0: any. */
  readonly expectedSizeBytes: number;
}

/** Throws BLOCK_IDENTITY_MISMATCH unless the unit is the one that is expected. */
export function requireExpected(info: FoundUnit, { lun, expectedId, expectedSizeBytes }: ExpectedUnit): void {
  if (expectedId !== "" && expectedId !== info.identity.id) throw identityMismatch(lun, expectedId, info);
  // A volume may have grown since it was seen last; it does not shrink.
  if (isWeak(info.identity.id) && info.sizeBytes < expectedSizeBytes) {
    throw identityMismatch(lun, `${expectedId === "" ? "a unit" : expectedId} of ${expectedSizeBytes} bytes`, info);
  }
}

/**
 * By identity; where that is no name of VPD page 83h, by everything the unit says, and it must not be smaller. Another block
 * size makes another device of it.
 */
export function isSameUnit(before: FoundUnit, now: FoundUnit): boolean {
  if (before.logicalBlockBytes !== now.logicalBlockBytes) return false;
  if (before.identity.id !== now.identity.id) return false;
  if (!isWeak(before.identity.id)) return true;
  const { vendor, product, serial } = before.identity;
  const isAlike = vendor === now.identity.vendor && product === now.identity.product && serial === now.identity.serial;
  return isAlike && now.sizeBytes >= before.sizeBytes;
}

/**
 * The same for a unit of which nothing but the name can be read now: throws unless that is its own alone, and the one of
 * `reference`.
 */
export function requireSameName(lun: Lun, reference: FoundUnit, identity: DeviceIdentity): void {
  if (!isWeak(identity.id) && identity.id === reference.identity.id) return;
  throw identityMismatch(lun, reference.identity.id, { ...reference, identity, sizeBytes: 0 });
}

/** Names the unit expected and the unit found. Another path may lead to the right one. */
export function identityMismatch(lun: Lun, expected: string, found: FoundUnit): BlockError {
  const { id } = found.identity;
  return new BlockError(
    "BLOCK_IDENTITY_MISMATCH",
    `LUN ${formatLun(lun)} is ${id === "" ? "a unit without identity" : id} of ${found.sizeBytes} bytes, ` +
      `expected ${expected}; check how the array maps its volumes`,
    { retry: "other-path", details: { expected, found: id, foundSizeBytes: found.sizeBytes } },
  );
}

/** Is it certain that the unit must not be used? Every other error means that it could not be told. */
export function isRefusal(error: unknown): error is AppError {
  if (!(error instanceof AppError)) return false;
  return error.code === "BLOCK_IDENTITY_MISMATCH" || error.layer === "initiator";
}

/** What commands to a refused unit fail with. */
export function refusalOf(reason: AppError): BlockError {
  if (reason instanceof BlockError) return reason;
  const { message, details } = reason;
  return new BlockError("BLOCK_RESERVATION_CONFLICT", message, { retry: "other-path", cause: reason, details });
}

/** A serial number is unique to its vendor at best, and no name is none: there the size counts too. */
function isWeak(id: string): boolean {
  return id === "" || id.startsWith("serial.");
}
