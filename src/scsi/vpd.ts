import { byteAt, hasBit, readText, requireBytes, u16At, u32At, readU64Rounded, writeU64 } from "./bytes.js";
import { ScsiError } from "./errors.js";

/** Vital product data page codes, SPC-5 §7.7 and SBC-4 §6.6. */
export const VpdPage = {
  supportedPages: 0x00,
  unitSerialNumber: 0x80,
  deviceIdentification: 0x83,
  blockLimits: 0xb0,
  blockDeviceCharacteristics: 0xb1,
  logicalBlockProvisioning: 0xb2,
} as const;
export type VpdPage = (typeof VpdPage)[keyof typeof VpdPage];

/** Bytes the whole page has, from its first four: ask again with this allocation length when it is more. */
export function vpdRequiredBytes(bytes: Buffer): number {
  requireBytes(bytes, 4, "VPD page");
  return 4 + bytes.readUInt16BE(2);
}

/** The payload of page `page`: checks the code and that all of it is there. The result borrows from `bytes`. */
export function vpdPayload(bytes: Buffer, page: number): Buffer {
  const end = vpdRequiredBytes(bytes);
  const found = byteAt(bytes, 1);
  if (found !== page) {
    const hex = (value: number): string => value.toString(16).padStart(2, "0");
    throw new ScsiError("SCSI_DATA_INVALID", `asked for VPD page ${hex(page)}, the device gave page ${hex(found)}`, {
      details: { page, found },
    });
  }
  requireBytes(bytes, end, `VPD page ${page.toString(16).padStart(2, "0")}`);
  return bytes.subarray(4, end);
}

/** A whole VPD page of a connected direct access block device. */
export function encodeVpd(page: number, payload: Buffer): Buffer {
  const header = Buffer.from([0, page, payload.length >>> 8, payload.length & 0xff]);
  return Buffer.concat([header, payload]);
}

/** Page 00h: the page codes the device has, ascending. */
export function decodeSupportedPages(bytes: Buffer): number[] {
  return [...vpdPayload(bytes, VpdPage.supportedPages)];
}

export function encodeSupportedPages(pages: readonly number[]): Buffer {
  return encodeVpd(VpdPage.supportedPages, Buffer.from([...pages].sort((a, b) => a - b)));
}

/** Page 80h: the serial number of the logical unit, without padding. */
export function decodeUnitSerialNumber(bytes: Buffer): string {
  const payload = vpdPayload(bytes, VpdPage.unitSerialNumber);
  return readText(payload, 0, payload.length);
}

export function encodeUnitSerialNumber(serial: string): Buffer {
  return encodeVpd(VpdPage.unitSerialNumber, Buffer.from(serial, "latin1"));
}

/** Page B0h, SBC-4 §6.6.4. Zero means "not reported" everywhere but in `maxUnmapBlocks` and `maxUnmapDescriptors`. */
export interface BlockLimits {
  /** WSNZ: WRITE SAME with a count of zero is not allowed. */
  readonly refusesZeroWriteSame: boolean;
  readonly maxCompareAndWriteBlocks: number;
  readonly optimalGranularityBlocks: number;
  readonly maxTransferBlocks: number;
  readonly optimalTransferBlocks: number;
  /** 0: UNMAP is not supported; ffffffffh: no limit. */
  readonly maxUnmapBlocks: number;
  readonly maxUnmapDescriptors: number;
  readonly optimalUnmapGranularityBlocks: number;
  /** Absent when the device does not tell (UGAVALID 0). */
  readonly unmapAlignmentBlocks?: number;
  readonly maxWriteSameBlocks: number;
  readonly maxAtomicBlocks: number;
  readonly atomicAlignmentBlocks: number;
  readonly atomicGranularityBlocks: number;
}

const BLOCK_LIMITS_BYTES = 0x3c;

export function decodeBlockLimits(bytes: Buffer): BlockLimits {
  const payload = vpdPayload(bytes, VpdPage.blockLimits);
  const alignment = u32At(payload, 28);
  return {
    refusesZeroWriteSame: hasBit(payload, 0, 0x01),
    maxCompareAndWriteBlocks: byteAt(payload, 1),
    optimalGranularityBlocks: u16At(payload, 2),
    maxTransferBlocks: u32At(payload, 4),
    optimalTransferBlocks: u32At(payload, 8),
    maxUnmapBlocks: u32At(payload, 16),
    maxUnmapDescriptors: u32At(payload, 20),
    optimalUnmapGranularityBlocks: u32At(payload, 24),
    ...(alignment >= 0x8000_0000 ? { unmapAlignmentBlocks: alignment - 0x8000_0000 } : {}),
    // Some arrays give 2^64 - 1 for "no limit"; rounding keeps it larger than every device.
    maxWriteSameBlocks: payload.length >= 40 ? readU64Rounded(payload, 32) : 0,
    maxAtomicBlocks: u32At(payload, 40),
    atomicAlignmentBlocks: u32At(payload, 44),
    atomicGranularityBlocks: u32At(payload, 48),
  };
}

export function encodeBlockLimits(limits: BlockLimits): Buffer {
  const payload = Buffer.alloc(BLOCK_LIMITS_BYTES);
  payload[0] = limits.refusesZeroWriteSame ? 1 : 0;
  payload[1] = limits.maxCompareAndWriteBlocks;
  payload.writeUInt16BE(limits.optimalGranularityBlocks, 2);
  payload.writeUInt32BE(limits.maxTransferBlocks, 4);
  payload.writeUInt32BE(limits.optimalTransferBlocks, 8);
  payload.writeUInt32BE(limits.maxUnmapBlocks, 16);
  payload.writeUInt32BE(limits.maxUnmapDescriptors, 20);
  payload.writeUInt32BE(limits.optimalUnmapGranularityBlocks, 24);
  const alignment = limits.unmapAlignmentBlocks;
  if (alignment !== undefined) payload.writeUInt32BE(0x8000_0000 + alignment, 28);
  writeU64(Math.min(limits.maxWriteSameBlocks, Number.MAX_SAFE_INTEGER), payload, 32);
  payload.writeUInt32BE(limits.maxAtomicBlocks, 40);
  payload.writeUInt32BE(limits.atomicAlignmentBlocks, 44);
  payload.writeUInt32BE(limits.atomicGranularityBlocks, 48);
  return encodeVpd(VpdPage.blockLimits, payload);
}

/** Page B1h, SBC-4 §6.6.3: the parts Hawser uses. */
export interface BlockDeviceCharacteristics {
  /** 0 not reported, 1 solid state, else revolutions per minute. */
  readonly rotationRate: number;
  /** FUAB: SYNCHRONIZE CACHE and FUA act on non-volatile caches too. */
  readonly flushesNonVolatileCache: boolean;
}

export function decodeBlockDeviceCharacteristics(bytes: Buffer): BlockDeviceCharacteristics {
  const payload = vpdPayload(bytes, VpdPage.blockDeviceCharacteristics);
  return { rotationRate: u16At(payload, 0), flushesNonVolatileCache: hasBit(payload, 4, 0x02) };
}

export function encodeBlockDeviceCharacteristics(data: BlockDeviceCharacteristics): Buffer {
  const payload = Buffer.alloc(0x3c);
  payload.writeUInt16BE(data.rotationRate, 0);
  payload[4] = data.flushesNonVolatileCache ? 0x02 : 0;
  return encodeVpd(VpdPage.blockDeviceCharacteristics, payload);
}

/** PROVISIONING TYPE of page B2h. */
export type ProvisioningType = "not-reported" | "resource" | "thin" | "unknown";
const provisioningTypes: readonly ProvisioningType[] = ["not-reported", "resource", "thin"];

/** Page B2h, SBC-4 §6.6.7. */
export interface LogicalBlockProvisioning {
  /** LBPU: UNMAP. LBPWS and LBPWS10: WRITE SAME(16) and (10) with the UNMAP bit. */
  readonly supportsUnmap: boolean;
  readonly supportsWriteSame16Unmap: boolean;
  readonly supportsWriteSame10Unmap: boolean;
  /** LBPRZ xx1b: unmapped blocks read as zeroes. */
  readonly unmapReadsZeroes: boolean;
  readonly supportsAnchor: boolean;
  readonly type: ProvisioningType;
  /** Soft thresholds are counted in units of 2^n blocks; 0: no threshold. */
  readonly thresholdExponent: number;
}

export function decodeLogicalBlockProvisioning(bytes: Buffer): LogicalBlockProvisioning {
  const payload = vpdPayload(bytes, VpdPage.logicalBlockProvisioning);
  requireBytes(payload, 3, "VPD page b2");
  return {
    thresholdExponent: byteAt(payload, 0),
    supportsUnmap: hasBit(payload, 1, 0x80),
    supportsWriteSame16Unmap: hasBit(payload, 1, 0x40),
    supportsWriteSame10Unmap: hasBit(payload, 1, 0x20),
    unmapReadsZeroes: hasBit(payload, 1, 0x04),
    supportsAnchor: hasBit(payload, 1, 0x02),
    type: provisioningTypes[byteAt(payload, 2) & 0x07] ?? "unknown",
  };
}

export function encodeLogicalBlockProvisioning(data: LogicalBlockProvisioning): Buffer {
  const payload = Buffer.alloc(4);
  payload[0] = data.thresholdExponent;
  payload[1] =
    (data.supportsUnmap ? 0x80 : 0) |
    (data.supportsWriteSame16Unmap ? 0x40 : 0) |
    (data.supportsWriteSame10Unmap ? 0x20 : 0) |
    (data.unmapReadsZeroes ? 0x04 : 0) |
    (data.supportsAnchor ? 0x02 : 0);
  payload[2] = Math.max(0, provisioningTypes.indexOf(data.type));
  return encodeVpd(VpdPage.logicalBlockProvisioning, payload);
}
