import type { FilesystemType } from "./format-decision.js";

/** Where to look for the superblock: offset and length are multiples of 4096, as direct reads need. */
export const SUPERBLOCK_RANGES: Readonly<Record<FilesystemType, { offsetBytes: number; lengthBytes: number }>> = {
  ext4: { offsetBytes: 0, lengthBytes: 4096 },
  xfs: { offsetBytes: 0, lengthBytes: 4096 },
  btrfs: { offsetBytes: 65_536, lengthBytes: 4096 },
};

const TWO_TO_32 = 0x1_0000_0000;

/**
 * Bytes of its device that a file system uses, from the 4096 bytes of SUPERBLOCK_RANGES; undefined when there is no
 * superblock of that type or `bytes` is short. For btrfs: of the device the bytes were read from.
 */
export function filesystemSizeFromSuperblock(fsType: FilesystemType, bytes: Buffer): number | undefined {
  if (bytes.length < 4096) return undefined;
  switch (fsType) {
    case "ext4":
      return ext4SizeBytes(bytes.subarray(1024));
    case "xfs":
      return xfsSizeBytes(bytes);
    case "btrfs":
      return btrfsSizeBytes(bytes);
  }
}

/** ext4: little-endian; s_blocks_count in two halves, the upper valid with the 64bit feature; block = 1024 << n. */
function ext4SizeBytes(superblock: Buffer): number | undefined {
  if (superblock.readUInt16LE(0x38) !== 0xef53) return undefined;
  const has64Bit = (superblock.readUInt32LE(0x60) & 0x80) !== 0;
  const blocksHigh = has64Bit ? superblock.readUInt32LE(0x150) : 0;
  const blockShift = superblock.readUInt32LE(0x18);
  if (blockShift > 6) return undefined;
  return (blocksHigh * TWO_TO_32 + superblock.readUInt32LE(0x04)) * (1024 << blockShift);
}

/** XFS: big-endian; sb_blocksize at 4, sb_dblocks at 8. */
function xfsSizeBytes(superblock: Buffer): number | undefined {
  if (superblock.toString("latin1", 0, 4) !== "XFSB") return undefined;
  return (superblock.readUInt32BE(8) * TWO_TO_32 + superblock.readUInt32BE(12)) * superblock.readUInt32BE(4);
}

/** btrfs: little-endian; the device's own item is embedded at 0xc9, its total_bytes eight bytes into it. */
function btrfsSizeBytes(superblock: Buffer): number | undefined {
  if (superblock.toString("latin1", 0x40, 0x48) !== "_BHRfS_M") return undefined;
  return superblock.readUInt32LE(0xd5) * TWO_TO_32 + superblock.readUInt32LE(0xd1);
}
