import type { ByteRange } from "../../../block/device.js";
import { byteAt, readBlockRange, readUint64, writeUint64 } from "../cdb-fields.js";
import { CheckCondition, Condition, invalidCdbField } from "../check-condition.js";
import type { CommandSpec, ScsiCommand } from "../command.js";
import { requireInside, requireNoProtection, withRange } from "./block-commands.js";

/** Descriptors in one UNMAP parameter list, reported in the block limits page. */
export const MAX_UNMAP_DESCRIPTORS = 256;

/** Largest parameter list that can hold them. */
const MAX_UNMAP_LIST_BYTES = 8 + 16 * MAX_UNMAP_DESCRIPTORS;

/** The pattern of WRITE SAME is written in pieces of this size. */
const PATTERN_PIECE_BYTES = 1_048_576;

/** Blocks one WRITE SAME may cover: bounds the time one command takes. Reported in the block limits page. */
export const MAX_WRITE_SAME_BLOCKS = 65_535;

function unmapBytes(command: ScsiCommand): number {
  if ((byteAt(command.cdb, 1) & 1) !== 0) throw invalidCdbField(1, 0);
  const length = command.cdb.readUInt16BE(7);
  if (length > MAX_UNMAP_LIST_BYTES) throw invalidCdbField(7);
  return length;
}

/** UNMAP, SBC-4 §5.31: an empty list is no error. */
async function executeUnmap(command: ScsiCommand): Promise<undefined> {
  const { dataOut, unit } = command;
  if (command.cdb.readUInt16BE(7) === 0) return;
  if (dataOut.length < 8 || dataOut.length < command.cdb.readUInt16BE(7)) {
    throw new CheckCondition(Condition.parameterListLengthError);
  }
  const descriptorBytes = Math.min(dataOut.readUInt16BE(2), dataOut.length - 8);
  const ranges: ByteRange[] = [];
  for (let at = 8; at + 16 <= 8 + descriptorBytes; at += 16) {
    const range = { lba: readUint64(dataOut, at), blocks: dataOut.readUInt32BE(at + 8) };
    if (range.blocks === 0 && range.lba <= unit.blockCount) continue;
    requireInside(command, range);
    ranges.push({ offsetBytes: range.lba * unit.blockBytes, lengthBytes: range.blocks * unit.blockBytes });
  }
  if (ranges.length === 0) return;
  await withRange(command, { lba: 0, blocks: unit.blockCount }, false, () => unit.device.unmap(ranges));
}

interface WriteSame {
  readonly lba: number;
  readonly blocks: number;
  readonly mayUnmap: boolean;
  readonly hasNoDataOut: boolean;
}

function readWriteSame(command: ScsiCommand): WriteSame {
  const { cdb, unit } = command;
  const flags = byteAt(cdb, 1);
  requireNoProtection(command);
  const mayUnmap = (flags & 0x08) !== 0;
  const isAnchor = (flags & 0x10) !== 0;
  if (isAnchor) throw invalidCdbField(1, 4);
  if (mayUnmap && !unit.info.canUnmap) throw invalidCdbField(1, 3);
  const hasNoDataOut = byteAt(cdb, 0) === 0x93 && (flags & 0x01) !== 0;
  const range = readBlockRange(cdb);
  requireInside(command, range);
  // WSNZ is set: no length means no blocks rather than all of them, a mistake not to be made by accident.
  if (range.blocks === 0 || range.blocks > MAX_WRITE_SAME_BLOCKS)
    throw invalidCdbField(byteAt(cdb, 0) === 0x93 ? 10 : 7);
  return { ...range, mayUnmap, hasNoDataOut };
}

function writeSameBytes(command: ScsiCommand): number {
  if (readWriteSame(command).hasNoDataOut) return 0;
  if (command.announcedOutBytes !== command.unit.blockBytes) throw invalidCdbField(7);
  return command.unit.blockBytes;
}

async function executeWriteSame(command: ScsiCommand): Promise<undefined> {
  const { unit, dataOut } = command;
  const { lba, blocks, mayUnmap, hasNoDataOut } = readWriteSame(command);
  const range = { offsetBytes: lba * unit.blockBytes, lengthBytes: blocks * unit.blockBytes };
  const isZero = hasNoDataOut || isAllZero(dataOut);
  const fua = unit.info.hasVolatileCache && !unit.isWriteCacheEnabled;
  await withRange(command, { lba, blocks }, false, async () => {
    if (isZero && unit.info.canWriteZeroes) {
      await unit.device.writeZeroes(range, { mayUnmap, fua });
      return;
    }
    await writePattern(command, range, isZero ? Buffer.alloc(unit.blockBytes) : dataOut);
  });
}

async function writePattern(command: ScsiCommand, range: ByteRange, block: Buffer): Promise<void> {
  const pieceBytes = Math.min(range.lengthBytes, PATTERN_PIECE_BYTES);
  const piece = command.allocate(pieceBytes);
  piece.fill(block);
  for (let done = 0; done < range.lengthBytes && !command.isAborted; done += pieceBytes) {
    const length = Math.min(pieceBytes, range.lengthBytes - done);
    await command.unit.write(range.offsetBytes + done, piece.subarray(0, length), false);
  }
}

function isAllZero(block: Buffer): boolean {
  return block.every((value) => value === 0);
}

/** GET LBA STATUS, SBC-4 §5.8: as many descriptors as the allocation length holds, at least one. */
async function executeGetLbaStatus(command: ScsiCommand): Promise<Buffer> {
  const { cdb, unit } = command;
  const lba = readUint64(cdb, 2);
  const allocation = cdb.readUInt32BE(10);
  if (lba >= unit.blockCount) throw new CheckCondition(Condition.lbaOutOfRange, { information: lba });
  const maxDescriptors = Math.max(1, Math.min(128, Math.floor((allocation - 8) / 16)));
  const remaining = { offsetBytes: lba * unit.blockBytes, lengthBytes: (unit.blockCount - lba) * unit.blockBytes };
  const extents = unit.info.canReportBlockStatus
    ? await unit.device.blockStatus(remaining)
    : [{ ...remaining, isAllocated: true, readsZeroes: false }];
  const listed = extents.slice(0, maxDescriptors);
  const data = Buffer.alloc(8 + 16 * listed.length);
  data.writeUInt32BE(4 + 16 * listed.length, 0);
  listed.forEach((extent, index) => {
    const at = 8 + 16 * index;
    writeUint64(extent.offsetBytes / unit.blockBytes, data, at);
    data.writeUInt32BE(Math.min(0xffff_ffff, Math.floor(extent.lengthBytes / unit.blockBytes)), at + 8);
    data[at + 12] = extent.isAllocated ? 0 : 1;
  });
  return command.cut(data, allocation);
}

/** SBC-4: commands about mapped and unmapped blocks. */
export const THIN_COMMANDS: readonly CommandSpec[] = [
  {
    name: "UNMAP",
    opcode: 0x42,
    usage: "42010000000000ffff00",
    reservation: "write",
    changesMedium: true,
    needsMedium: true,
    isAvailable: (unit) => unit.info.canUnmap,
    dataOutBytes: unmapBytes,
    execute: executeUnmap,
  },
  {
    name: "WRITE SAME(10)",
    opcode: 0x41,
    usage: "41f8ffffffff00ffff00",
    reservation: "write",
    changesMedium: true,
    needsMedium: true,
    dataOutBytes: writeSameBytes,
    execute: executeWriteSame,
  },
  {
    name: "WRITE SAME(16)",
    opcode: 0x93,
    usage: "93f9ffffffffffffffffffffffff0000",
    reservation: "write",
    changesMedium: true,
    needsMedium: true,
    dataOutBytes: writeSameBytes,
    execute: executeWriteSame,
  },
  {
    name: "GET LBA STATUS",
    opcode: 0x9e,
    serviceAction: 0x12,
    usage: "9e1fffffffffffffffffffffffff0000",
    reservation: "read",
    changesMedium: false,
    needsMedium: true,
    execute: executeGetLbaStatus,
  },
];
