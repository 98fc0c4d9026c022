import { checkField, readU64Rounded, requireBytes, writeU64 } from "./bytes.js";
import type { BlockRange } from "./cdb.js";
import { ScsiError } from "./errors.js";

const HEADER_BYTES = 8;
const DESCRIPTOR_BYTES = 16;

/** Block descriptors that fit one UNMAP parameter list: its length has 16 bits. */
export const MAX_UNMAP_DESCRIPTORS = Math.floor((0xffff - HEADER_BYTES) / DESCRIPTOR_BYTES);

/** Bytes of an UNMAP parameter list with `descriptors` block descriptors. */
export function unmapListBytes(descriptors: number): number {
  return HEADER_BYTES + descriptors * DESCRIPTOR_BYTES;
}

/** The parameter list of UNMAP, SBC-4 §5.35.2. */
export function encodeUnmapList(ranges: readonly BlockRange[]): Buffer {
  checkField("number of ranges", ranges.length, MAX_UNMAP_DESCRIPTORS);
  const bytes = Buffer.alloc(unmapListBytes(ranges.length));
  bytes.writeUInt16BE(bytes.length - 2, 0);
  bytes.writeUInt16BE(bytes.length - HEADER_BYTES, 2);
  ranges.forEach(({ lba, blocks }, index) => {
    checkField("lba", lba, Number.MAX_SAFE_INTEGER);
    checkField("blocks", blocks, 0xffff_ffff);
    writeU64(lba, bytes, HEADER_BYTES + index * DESCRIPTOR_BYTES);
    bytes.writeUInt32BE(blocks, HEADER_BYTES + index * DESCRIPTOR_BYTES + 8);
  });
  return bytes;
}

/**
 * The ranges of an UNMAP parameter list. A block descriptor length that is not a multiple of 16 counts only whole
 * descriptors, as SBC-4 asks; lists shorter than they say fail with ScsiError. Addresses beyond 2^53 are rounded.
 */
export function decodeUnmapList(bytes: Buffer): BlockRange[] {
  requireBytes(bytes, HEADER_BYTES, "UNMAP parameter list");
  const dataLength = bytes.readUInt16BE(0);
  const descriptorsLength = bytes.readUInt16BE(2);
  if (descriptorsLength > dataLength) {
    throw new ScsiError("SCSI_DATA_INVALID", "UNMAP parameter list whose descriptors are longer than the list", {
      details: { dataLength, descriptorsLength },
    });
  }
  requireBytes(bytes, HEADER_BYTES + descriptorsLength, "UNMAP parameter list");
  const ranges: BlockRange[] = [];
  for (let at = HEADER_BYTES; at + DESCRIPTOR_BYTES <= HEADER_BYTES + descriptorsLength; at += DESCRIPTOR_BYTES) {
    ranges.push({ lba: readU64Rounded(bytes, at), blocks: bytes.readUInt32BE(at + 8) });
  }
  return ranges;
}
