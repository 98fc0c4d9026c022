import { byteAt, hasBit, readU64Rounded, requireBytes } from "./bytes.js";
import { ScsiError } from "./errors.js";
import { commandName, ScsiOpcode } from "./opcodes.js";

/** What a medium access command asks, whatever its length. */
export interface BlockCommand {
  /** Beyond 2^53 the low bits are lost, which stays outside every device. */
  readonly lba: number;
  readonly blocks: number;
  readonly fua: boolean;
  readonly dpo: boolean;
  /** RDPROTECT, WRPROTECT, VRPROTECT: 0 unless protection information is asked. */
  readonly protect: number;
}

const sixByteCommands: ReadonlySet<number> = new Set([ScsiOpcode.read6, ScsiOpcode.write6]);

/** Bytes of the CDB that starts with `opcode` by its group code (SPC-5 §4.2.5.1); 0 for variable and vendor groups. */
export function cdbLengthBytes(opcode: number): number {
  switch (opcode >>> 5) {
    case 0:
      return 6;
    case 1:
    case 2:
      return 10;
    case 4:
      return 16;
    case 5:
      return 12;
    default:
      return 0;
  }
}

/**
 * The range of READ, WRITE, VERIFY, WRITE AND VERIFY, SYNCHRONIZE CACHE, PRE-FETCH, WRITE SAME, COMPARE AND WRITE and
 * their kin in their 6, 10, 12 and 16 byte forms (SBC-4 §5). READ(6) and WRITE(6) with length 0 mean 256 blocks.
 * Fails with ScsiError on a cut CDB and on commands without a range.
 */
export function parseBlockCommand(cdb: Buffer): BlockCommand {
  const opcode = byteAt(cdb, 0);
  const lengthBytes = cdbLengthBytes(opcode);
  requireBytes(cdb, Math.max(lengthBytes, 6), "CDB");
  if (sixByteCommands.has(opcode)) {
    const length = byteAt(cdb, 4);
    const lba = cdb.readUIntBE(1, 3) & 0x1f_ffff;
    return { lba, blocks: length === 0 ? 256 : length, fua: false, dpo: false, protect: 0 };
  }
  if (lengthBytes < 10) {
    throw new ScsiError("SCSI_DATA_INVALID", `${commandName(cdb)} names no range of blocks`, { details: { opcode } });
  }
  const flags = { fua: hasBit(cdb, 1, 0x08), dpo: hasBit(cdb, 1, 0x10), protect: byteAt(cdb, 1) >>> 5 };
  if (opcode === ScsiOpcode.compareAndWrite) {
    return { lba: readU64Rounded(cdb, 2), blocks: byteAt(cdb, 13), ...flags };
  }
  // WRITE ATOMIC(16) has a 16-bit length behind its atomic boundary field.
  if (opcode === ScsiOpcode.writeAtomic16) {
    return { lba: readU64Rounded(cdb, 2), blocks: cdb.readUInt16BE(12), ...flags };
  }
  if (lengthBytes === 16) return { lba: readU64Rounded(cdb, 2), blocks: cdb.readUInt32BE(10), ...flags };
  if (lengthBytes === 12) return { lba: cdb.readUInt32BE(2), blocks: cdb.readUInt32BE(6), ...flags };
  return { lba: cdb.readUInt32BE(2), blocks: cdb.readUInt16BE(7), ...flags };
}

/** INQUIRY, SPC-5 §6.7. */
export function parseInquiry(cdb: Buffer): { readonly vpdPage: number | undefined; readonly allocationLength: number } {
  requireBytes(cdb, 6, "INQUIRY CDB");
  return { vpdPage: hasBit(cdb, 1, 1) ? byteAt(cdb, 2) : undefined, allocationLength: cdb.readUInt16BE(3) };
}

/** REPORT LUNS, SPC-5 §6.33. */
export function parseReportLuns(cdb: Buffer): { readonly selectReport: number; readonly allocationLength: number } {
  requireBytes(cdb, 12, "REPORT LUNS CDB");
  return { selectReport: byteAt(cdb, 2), allocationLength: cdb.readUInt32BE(6) };
}

/** The service action and the address and length of SERVICE ACTION IN(16). */
export function parseServiceActionIn16(cdb: Buffer): {
  readonly action: number;
  readonly lba: number;
  readonly allocationLength: number;
} {
  requireBytes(cdb, 16, "SERVICE ACTION IN(16) CDB");
  return { action: byteAt(cdb, 1) & 0x1f, lba: readU64Rounded(cdb, 2), allocationLength: cdb.readUInt32BE(10) };
}

export interface ModeSenseCommand {
  readonly page: number;
  readonly subpage: number;
  /** 0 current, 1 changeable, 2 default, 3 saved values. */
  readonly pageControl: number;
  readonly disableBlockDescriptors: boolean;
  readonly allowLongLba: boolean;
  readonly allocationLength: number;
}

/** MODE SENSE(6) and (10), SPC-5 §6.14, §6.15. */
export function parseModeSense(cdb: Buffer): ModeSenseCommand {
  const isTen = byteAt(cdb, 0) === ScsiOpcode.modeSense10;
  requireBytes(cdb, isTen ? 10 : 6, "MODE SENSE CDB");
  return {
    page: byteAt(cdb, 2) & 0x3f,
    subpage: byteAt(cdb, 3),
    pageControl: byteAt(cdb, 2) >>> 6,
    disableBlockDescriptors: hasBit(cdb, 1, 0x08),
    allowLongLba: isTen && hasBit(cdb, 1, 0x10),
    allocationLength: isTen ? cdb.readUInt16BE(7) : byteAt(cdb, 4),
  };
}

/** The flags of WRITE SAME(10) and (16), SBC-4 §5.49, §5.50. */
export function parseWriteSameFlags(cdb: Buffer): {
  readonly unmap: boolean;
  readonly anchor: boolean;
  readonly ndob: boolean;
} {
  const hasNdob = byteAt(cdb, 0) === ScsiOpcode.writeSame16;
  return { unmap: hasBit(cdb, 1, 0x08), anchor: hasBit(cdb, 1, 0x10), ndob: hasNdob && hasBit(cdb, 1, 0x01) };
}

/** UNMAP, SBC-4 §5.35. */
export function parseUnmapCommand(cdb: Buffer): { readonly anchor: boolean; readonly parameterListLength: number } {
  requireBytes(cdb, 10, "UNMAP CDB");
  return { anchor: hasBit(cdb, 1, 1), parameterListLength: cdb.readUInt16BE(7) };
}

/** PERSISTENT RESERVE IN, SPC-5 §6.16. */
export function parsePersistentReserveIn(cdb: Buffer): { readonly action: number; readonly allocationLength: number } {
  requireBytes(cdb, 10, "PERSISTENT RESERVE IN CDB");
  return { action: byteAt(cdb, 1) & 0x1f, allocationLength: cdb.readUInt16BE(7) };
}

/** PERSISTENT RESERVE OUT, SPC-5 §6.17. */
export function parsePersistentReserveOut(cdb: Buffer): {
  readonly action: number;
  readonly scope: number;
  readonly type: number;
  readonly parameterListLength: number;
} {
  requireBytes(cdb, 10, "PERSISTENT RESERVE OUT CDB");
  return {
    action: byteAt(cdb, 1) & 0x1f,
    scope: byteAt(cdb, 2) >>> 4,
    type: byteAt(cdb, 2) & 0x0f,
    parameterListLength: cdb.readUInt32BE(5),
  };
}

/** MAINTENANCE IN and OUT: the service action, the bits before it (PARAMETER DATA FORMAT) and the length. */
export function parseMaintenance(cdb: Buffer): {
  readonly action: number;
  readonly parameterDataFormat: number;
  readonly lengthBytes: number;
} {
  requireBytes(cdb, 12, "MAINTENANCE CDB");
  return {
    action: byteAt(cdb, 1) & 0x1f,
    parameterDataFormat: byteAt(cdb, 1) >>> 5,
    lengthBytes: cdb.readUInt32BE(6),
  };
}
