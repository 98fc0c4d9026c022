import { byteAt, hasBit, readText, requireBytes, u16At, writeText } from "./bytes.js";

/** Standard INQUIRY data, SPC-5 §6.7.2. */
export interface InquiryData {
  /** 0: a logical unit is (or may be) there; 1: none now; 3: this LUN cannot have one. */
  readonly peripheralQualifier: number;
  /** 0: direct access block device; 0x1f: unknown or none. */
  readonly deviceType: number;
  readonly isRemovable: boolean;
  /** 6: SPC-4, 7: SPC-5. */
  readonly version: number;
  /** Target port group support (ALUA): 0 none, 1 implicit, 2 explicit, 3 both. */
  readonly targetPortGroupSupport: number;
  readonly supportsThirdPartyCopy: boolean;
  readonly supportsProtection: boolean;
  readonly hasMultiplePorts: boolean;
  readonly supportsCommandQueuing: boolean;
  readonly vendor: string;
  readonly product: string;
  readonly revision: string;
  /** VERSION DESCRIPTOR fields that are not zero, e.g. 0x0960 for iSCSI. */
  readonly versionDescriptors: readonly number[];
}

/** Bytes of standard INQUIRY data before the vendor-specific part: what to ask for at least. */
export const STANDARD_INQUIRY_BYTES = 36;

/** Allocation length that brings the version descriptors too. */
export const FULL_INQUIRY_BYTES = 96;

const VERSION_DESCRIPTORS_OFFSET = 58;
const MAX_VERSION_DESCRIPTORS = 8;

/** Reads standard INQUIRY data; 36 bytes are enough, and the five that every device sends are the least. */
export function decodeInquiry(bytes: Buffer): InquiryData {
  requireBytes(bytes, 5, "standard INQUIRY data");
  const end = Math.min(bytes.length, 5 + byteAt(bytes, 4));
  const data = bytes.subarray(0, end);
  const versionDescriptors: number[] = [];
  for (let index = 0; index < MAX_VERSION_DESCRIPTORS; index += 1) {
    const descriptor = u16At(data, VERSION_DESCRIPTORS_OFFSET + 2 * index);
    if (descriptor !== 0) versionDescriptors.push(descriptor);
  }
  return {
    peripheralQualifier: byteAt(data, 0) >>> 5,
    deviceType: byteAt(data, 0) & 0x1f,
    isRemovable: hasBit(data, 1, 0x80),
    version: byteAt(data, 2),
    targetPortGroupSupport: (byteAt(data, 5) >>> 4) & 3,
    supportsThirdPartyCopy: hasBit(data, 5, 0x08),
    supportsProtection: hasBit(data, 5, 0x01),
    hasMultiplePorts: hasBit(data, 6, 0x10),
    supportsCommandQueuing: hasBit(data, 7, 0x02),
    vendor: readText(data, 8, 16),
    product: readText(data, 16, 32),
    revision: readText(data, 32, 36),
    versionDescriptors,
  };
}

/** 96 bytes of standard INQUIRY data; the caller owns them and cuts them to the allocation length. */
export function encodeInquiry(data: InquiryData): Buffer {
  const bytes = Buffer.alloc(FULL_INQUIRY_BYTES);
  bytes[0] = (data.peripheralQualifier << 5) | (data.deviceType & 0x1f);
  bytes[1] = data.isRemovable ? 0x80 : 0;
  bytes[2] = data.version;
  // HISUP: LUNs are structured; response data format 2.
  bytes[3] = 0x12;
  bytes[4] = FULL_INQUIRY_BYTES - 5;
  bytes[5] =
    ((data.targetPortGroupSupport & 3) << 4) |
    (data.supportsThirdPartyCopy ? 0x08 : 0) |
    (data.supportsProtection ? 0x01 : 0);
  bytes[6] = data.hasMultiplePorts ? 0x10 : 0;
  bytes[7] = data.supportsCommandQueuing ? 0x02 : 0;
  writeText(data.vendor, bytes, 8, 8);
  writeText(data.product, bytes, 16, 16);
  writeText(data.revision, bytes, 32, 4);
  data.versionDescriptors.slice(0, MAX_VERSION_DESCRIPTORS).forEach((descriptor, index) => {
    bytes.writeUInt16BE(descriptor, VERSION_DESCRIPTORS_OFFSET + 2 * index);
  });
  return bytes;
}
