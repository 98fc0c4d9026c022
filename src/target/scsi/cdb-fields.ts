/** A run of logical blocks named by a CDB or a descriptor. */
export interface BlockRange {
  /** May exceed every device: up to 2^64 - 1, exact only below 2^53, which is enough to refuse it. */
  readonly lba: number;
  readonly blocks: number;
}

/** A 64-bit field as a number; exact up to 2^53. */
export function readUint64(bytes: Buffer, offset: number): number {
  return bytes.readUInt32BE(offset) * 0x1_0000_0000 + bytes.readUInt32BE(offset + 4);
}

export function writeUint64(value: number, bytes: Buffer, offset: number): void {
  bytes.writeUInt32BE(Math.floor(value / 0x1_0000_0000), offset);
  bytes.writeUInt32BE(value >>> 0, offset + 4);
}

/** A byte of a CDB or parameter list whose presence was checked before. */
export function byteAt(bytes: Buffer, offset: number): number {
  return bytes[offset] ?? 0;
}

/**
 * LBA and length of the regular 6, 10, 12 and 16 byte CDBs, told apart by the group code in the opcode's upper
 * three bits (SPC-5 §4.2.5.1). A length of 0 in a 6-byte CDB means 256 blocks (SBC-4 §5.13).
 */
export function readBlockRange(cdb: Buffer): BlockRange {
  switch (byteAt(cdb, 0) >>> 5) {
    case 0:
      return { lba: cdb.readUInt32BE(0) & 0x1f_ffff, blocks: byteAt(cdb, 4) === 0 ? 256 : byteAt(cdb, 4) };
    case 5:
      return { lba: cdb.readUInt32BE(2), blocks: cdb.readUInt32BE(6) };
    case 4:
      return { lba: readUint64(cdb, 2), blocks: cdb.readUInt32BE(10) };
    default:
      return { lba: cdb.readUInt32BE(2), blocks: cdb.readUInt16BE(7) };
  }
}
