import { byteAt, hasBit, readU64, requireBytes, writeU64 } from "./bytes.js";
import { ScsiError } from "./errors.js";

/** What READ CAPACITY tells; the 10-byte form knows only the first two and leaves the rest at their defaults. */
export interface Capacity {
  /** Number of logical blocks (RETURNED LOGICAL BLOCK ADDRESS plus one). */
  readonly blocks: number;
  readonly logicalBlockBytes: number;
  /** Logical blocks per physical block, as power of two. */
  readonly physicalBlockExponent: number;
  readonly lowestAlignedLba: number;
  /** LBPME: thin or resource provisioned; UNMAP may work. */
  readonly isProvisioned: boolean;
  /** LBPRZ: unmapped blocks read as zeroes. */
  readonly unmapReadsZeroes: boolean;
  /** PROT_EN: formatted with protection information. */
  readonly hasProtection: boolean;
}

export const READ_CAPACITY_10_BYTES = 8;
export const READ_CAPACITY_16_BYTES = 32;

/** READ CAPACITY(10) data, SBC-4 §5.20. Undefined when the device is too large for it: ask with the 16-byte form. */
export function decodeReadCapacity10(bytes: Buffer): Capacity | undefined {
  requireBytes(bytes, READ_CAPACITY_10_BYTES, "READ CAPACITY(10) data");
  const lastLba = bytes.readUInt32BE(0);
  if (lastLba === 0xffff_ffff) return undefined;
  return {
    blocks: lastLba + 1,
    logicalBlockBytes: checkBlockBytes(bytes.readUInt32BE(4)),
    physicalBlockExponent: 0,
    lowestAlignedLba: 0,
    isProvisioned: false,
    unmapReadsZeroes: false,
    hasProtection: false,
  };
}

/** READ CAPACITY(16) data, SBC-4 §5.21. */
export function decodeReadCapacity16(bytes: Buffer): Capacity {
  requireBytes(bytes, 12, "READ CAPACITY(16) data");
  return {
    blocks: readU64(bytes, 0, "last logical block address") + 1,
    logicalBlockBytes: checkBlockBytes(bytes.readUInt32BE(8)),
    hasProtection: hasBit(bytes, 12, 0x01),
    physicalBlockExponent: byteAt(bytes, 13) & 0x0f,
    lowestAlignedLba: ((byteAt(bytes, 14) & 0x3f) << 8) | byteAt(bytes, 15),
    isProvisioned: hasBit(bytes, 14, 0x80),
    unmapReadsZeroes: hasBit(bytes, 14, 0x40),
  };
}

/** Eight bytes; a device beyond 2^32 blocks answers ffffffffh as SBC-4 §5.20 asks. */
export function encodeReadCapacity10(capacity: Pick<Capacity, "blocks" | "logicalBlockBytes">): Buffer {
  const bytes = Buffer.alloc(READ_CAPACITY_10_BYTES);
  bytes.writeUInt32BE(Math.min(capacity.blocks - 1, 0xffff_ffff), 0);
  bytes.writeUInt32BE(capacity.logicalBlockBytes, 4);
  return bytes;
}

/** 32 bytes. */
export function encodeReadCapacity16(capacity: Capacity): Buffer {
  const bytes = Buffer.alloc(READ_CAPACITY_16_BYTES);
  writeU64(capacity.blocks - 1, bytes, 0);
  bytes.writeUInt32BE(capacity.logicalBlockBytes, 8);
  bytes[12] = capacity.hasProtection ? 1 : 0;
  bytes[13] = capacity.physicalBlockExponent & 0x0f;
  bytes.writeUInt16BE(
    (capacity.isProvisioned ? 0x8000 : 0) |
      (capacity.unmapReadsZeroes ? 0x4000 : 0) |
      (capacity.lowestAlignedLba & 0x3fff),
    14,
  );
  return bytes;
}

/** Hawser carries 512 and 4096 byte blocks; anything else is refused here, once, with the number named. */
function checkBlockBytes(logicalBlockBytes: number): number {
  if (logicalBlockBytes === 512 || logicalBlockBytes === 4096) return logicalBlockBytes;
  throw new ScsiError(
    "SCSI_DATA_INVALID",
    `the device has blocks of ${logicalBlockBytes} bytes; only 512 and 4096 are supported`,
    { details: { logicalBlockBytes } },
  );
}
