import { byteAt, readU64, requireBytes, writeU64 } from "./bytes.js";
import type { BlockRange } from "./cdb.js";

/** PROVISIONING STATUS of SBC-4 §5.5.2. `mapped` also stands for "mapped or unknown" (0h). */
export type ProvisioningStatus = "mapped" | "deallocated" | "anchored" | "unknown";

export interface LbaStatus extends BlockRange {
  readonly status: ProvisioningStatus;
}

const HEADER_BYTES = 8;
const DESCRIPTOR_BYTES = 16;
const statuses: readonly ProvisioningStatus[] = ["mapped", "deallocated", "anchored", "mapped", "unknown"];

/** Allocation length for an answer with up to `descriptors` extents. */
export function lbaStatusBytes(descriptors: number): number {
  return HEADER_BYTES + descriptors * DESCRIPTOR_BYTES;
}

/** The whole descriptors in GET LBA STATUS data: the device gives as many as fit, so a longer list is no error. */
export function decodeLbaStatus(bytes: Buffer): LbaStatus[] {
  requireBytes(bytes, HEADER_BYTES, "GET LBA STATUS data");
  const end = Math.min(bytes.length, 4 + bytes.readUInt32BE(0));
  const extents: LbaStatus[] = [];
  for (let at = HEADER_BYTES; at + DESCRIPTOR_BYTES <= end; at += DESCRIPTOR_BYTES) {
    extents.push({
      lba: readU64(bytes, at, "logical block address of an LBA status descriptor"),
      blocks: bytes.readUInt32BE(at + 8),
      status: statuses[byteAt(bytes, at + 12) & 0x0f] ?? "unknown",
    });
  }
  return extents;
}

/** GET LBA STATUS data; the caller cuts it to the allocation length. */
export function encodeLbaStatus(extents: readonly LbaStatus[]): Buffer {
  const bytes = Buffer.alloc(lbaStatusBytes(extents.length));
  bytes.writeUInt32BE(bytes.length - 4, 0);
  extents.forEach(({ lba, blocks, status }, index) => {
    const at = HEADER_BYTES + index * DESCRIPTOR_BYTES;
    writeU64(lba, bytes, at);
    bytes.writeUInt32BE(blocks, at + 8);
    bytes[at + 12] = statuses.indexOf(status);
  });
  return bytes;
}
