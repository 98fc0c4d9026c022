import type { BlockRange } from "../scsi/cdb.js";
import type { LbaStatus } from "../scsi/lba-status.js";
import type { BlockDevice, BlockDeviceInfo, BlockExtent, ByteRange, WriteOptions } from "./device.js";
import { BlockError } from "./errors.js";

/** A range in blocks of the device: it is whole blocks, which the validate filter sees to. */
export function toBlocks(range: ByteRange, { logicalBlockBytes }: BlockDeviceInfo): BlockRange {
  return { lba: range.offsetBytes / logicalBlockBytes, blocks: range.lengthBytes / logicalBlockBytes };
}

/** A range in pieces of at most `maxBlocks`. */
export function splitRange(range: BlockRange, maxBlocks: number): BlockRange[] {
  const pieces: BlockRange[] = [];
  for (let done = 0; done < range.blocks; done += maxBlocks) {
    pieces.push({ lba: range.lba + done, blocks: Math.min(maxBlocks, range.blocks - done) });
  }
  return pieces;
}

/** Ranges in batches for one UNMAP each: no more blocks and no more descriptors than the unit takes (VPD B0h). */
export function unmapBatches(
  ranges: readonly BlockRange[],
  limits: { readonly maxUnmapBlocks: number; readonly maxUnmapDescriptors: number },
): BlockRange[][] {
  const batches: BlockRange[][] = [];
  let batch: BlockRange[] = [];
  let batchBlocks = 0;
  for (const piece of ranges.flatMap((range) => splitRange(range, limits.maxUnmapBlocks))) {
    const isFull = batch.length >= limits.maxUnmapDescriptors || batchBlocks + piece.blocks > limits.maxUnmapBlocks;
    if (isFull && batch.length > 0) {
      batches.push(batch);
      batch = [];
      batchBlocks = 0;
    }
    batch.push(piece);
    batchBlocks += piece.blocks;
  }
  if (batch.length > 0) batches.push(batch);
  return batches;
}

/**
 * What GET LBA STATUS says, as extents that begin where `range` begins and follow each other without a gap, cut to
 * `range`; neighbours in the same state are joined. Throws BLOCK_IO when the answer does not begin there.
 */
export function blockExtents(
  statuses: readonly LbaStatus[],
  range: ByteRange,
  info: Pick<BlockDeviceInfo, "logicalBlockBytes" | "unmapReadsZeroes">,
): BlockExtent[] {
  const extents: BlockExtent[] = [];
  const endBytes = range.offsetBytes + range.lengthBytes;
  let atBytes = range.offsetBytes;
  for (const { lba, blocks, status } of statuses) {
    const startBytes = lba * info.logicalBlockBytes;
    const stopBytes = Math.min(endBytes, startBytes + blocks * info.logicalBlockBytes);
    if (startBytes > atBytes || atBytes >= endBytes) break;
    if (stopBytes <= atBytes) continue;
    const isAllocated = status !== "deallocated";
    const readsZeroes = !isAllocated && info.unmapReadsZeroes;
    const last = extents.at(-1);
    if (last !== undefined && last.isAllocated === isAllocated) {
      extents[extents.length - 1] = { ...last, lengthBytes: last.lengthBytes + stopBytes - atBytes };
    } else {
      extents.push({ offsetBytes: atBytes, lengthBytes: stopBytes - atBytes, isAllocated, readsZeroes });
    }
    atBytes = stopBytes;
  }
  if (extents.length > 0) return extents;
  throw new BlockError("BLOCK_IO", `GET LBA STATUS says nothing about offset ${range.offsetBytes}`);
}

/** Zeroes as ordinary writes, one after the other: for a device that has no shorter way. */
export async function writePlainZeroes(
  device: Pick<BlockDevice, "info" | "write">,
  range: ByteRange,
  options?: WriteOptions,
): Promise<void> {
  const step = Math.min(range.lengthBytes, device.info.maxTransferBytes);
  const zeroes = Buffer.alloc(step);
  for (let done = 0; done < range.lengthBytes; done += step) {
    const length = Math.min(step, range.lengthBytes - done);
    await device.write(range.offsetBytes + done, zeroes.subarray(0, length), options);
  }
}
