import { byteAt, readBlockRange, type BlockRange } from "../cdb-fields.js";
import { CheckCondition, Condition, invalidCdbField } from "../check-condition.js";
import type { CommandSpec, ScsiCommand } from "../command.js";

/** Longest atomic write, where a unit has them. */
export const ATOMIC_MAX_BLOCKS = 256;

/** Checks that the range lies in the unit and is not longer than one transfer may be. */
export function checkedRange(command: ScsiCommand, maxBlocks = command.unit.maxTransferBlocks): BlockRange {
  const range = readBlockRange(command.cdb);
  requireInside(command, range);
  if (range.blocks > maxBlocks) throw invalidCdbField(lengthFieldByte(command.cdb));
  return range;
}

export function requireInside(command: ScsiCommand, range: BlockRange): void {
  if (
    range.lba + range.blocks > command.unit.blockCount ||
    (range.blocks === 0 && range.lba >= command.unit.blockCount)
  ) {
    throw new CheckCondition(Condition.lbaOutOfRange, { information: range.lba });
  }
}

function lengthFieldByte(cdb: Buffer): number {
  return { 0: 4, 5: 6, 4: 10 }[byteAt(cdb, 0) >>> 5] ?? 7;
}

/** RDPROTECT, WRPROTECT, VRPROTECT and ORPROTECT ask for protection information, which no unit here has. */
export function requireNoProtection(command: ScsiCommand): void {
  if (byteAt(command.cdb, 0) >>> 5 !== 0 && byteAt(command.cdb, 1) >>> 5 !== 0) throw invalidCdbField(1, 7);
}

function wantsForceUnitAccess(cdb: Buffer): boolean {
  return byteAt(cdb, 0) >>> 5 !== 0 && (byteAt(cdb, 1) & 0x08) !== 0;
}

/** Holds the blocks against exclusive operations while `work` runs. */
export async function withRange<T>(
  command: ScsiCommand,
  range: BlockRange,
  isExclusive: boolean,
  work: () => Promise<T>,
): Promise<T> {
  const { ranges } = command.unit;
  const held =
    ranges.tryLock(range.lba, range.blocks, isExclusive) ?? (await ranges.wait(range.lba, range.blocks, isExclusive));
  try {
    return await work();
  } finally {
    ranges.unlock(held);
  }
}

async function executeRead(command: ScsiCommand): Promise<Buffer | undefined> {
  requireNoProtection(command);
  const range = checkedRange(command);
  if (range.blocks === 0) return undefined;
  const { blockBytes } = command.unit;
  const data = command.allocate(range.blocks * blockBytes);
  await withRange(command, range, false, () => command.unit.read(range.lba * blockBytes, data));
  return data;
}

function writeBytes(command: ScsiCommand): number {
  requireNoProtection(command);
  return checkedRange(command).blocks * command.unit.blockBytes;
}

/** The whole blocks that arrived: an initiator that announced less than the CDB says has only those written. */
function arrivedBlocks(command: ScsiCommand): Buffer {
  const { dataOut, unit } = command;
  const usable = dataOut.length - (dataOut.length % unit.blockBytes);
  return usable === dataOut.length ? dataOut : dataOut.subarray(0, usable);
}

async function writeArrived(command: ScsiCommand, fua: boolean, isExclusive: boolean): Promise<void> {
  const data = arrivedBlocks(command);
  if (data.length === 0) return;
  const { blockBytes } = command.unit;
  const { lba } = readBlockRange(command.cdb);
  await withRange(command, { lba, blocks: data.length / blockBytes }, isExclusive, () =>
    command.unit.write(lba * blockBytes, data, fua),
  );
}

async function executeWrite(command: ScsiCommand): Promise<undefined> {
  await writeArrived(command, wantsForceUnitAccess(command.cdb), false);
}

function atomicWriteBytes(command: ScsiCommand): number {
  requireNoProtection(command);
  const range = { lba: readBlockRange(command.cdb).lba, blocks: command.cdb.readUInt16BE(12) };
  if (command.cdb.readUInt16BE(10) !== 0) throw invalidCdbField(10);
  requireInside(command, range);
  if (range.blocks > ATOMIC_MAX_BLOCKS) throw invalidCdbField(12);
  return range.blocks * command.unit.blockBytes;
}

async function executeAtomicWrite(command: ScsiCommand): Promise<undefined> {
  await writeArrived(command, wantsForceUnitAccess(command.cdb), true);
}

/** BYTCHK, SBC-4 §5.33: 0 the medium alone, 1 all the data, 3 one block against every block. */
function byteCheck(command: ScsiCommand): number {
  const value = (byteAt(command.cdb, 1) >>> 1) & 3;
  if (value === 2) throw invalidCdbField(1, 2);
  return value;
}

function verifyBytes(command: ScsiCommand): number {
  requireNoProtection(command);
  const range = checkedRange(command);
  const check = byteCheck(command);
  if (check === 0 || range.blocks === 0) return 0;
  return (check === 3 ? 1 : range.blocks) * command.unit.blockBytes;
}

async function executeVerify(command: ScsiCommand): Promise<undefined> {
  const range = checkedRange(command);
  if (range.blocks === 0) return;
  const { unit, dataOut } = command;
  const found = command.allocate(range.blocks * unit.blockBytes);
  await withRange(command, range, false, () => unit.read(range.lba * unit.blockBytes, found));
  const check = byteCheck(command);
  if (check === 1) requireEqual(found.subarray(0, dataOut.length), dataOut);
  if (check !== 3 || dataOut.length < unit.blockBytes) return;
  for (let at = 0; at < found.length; at += unit.blockBytes) {
    requireEqual(found.subarray(at, at + unit.blockBytes), dataOut, at);
  }
}

function requireEqual(found: Buffer, expected: Buffer, baseOffset = 0): void {
  if (found.equals(expected)) return;
  let offset = 0;
  while (offset < found.length && found[offset] === expected[offset]) offset += 1;
  throw new CheckCondition(Condition.miscompare, { information: baseOffset + offset });
}

function writeAndVerifyBytes(command: ScsiCommand): number {
  requireNoProtection(command);
  byteCheck(command);
  return checkedRange(command).blocks * command.unit.blockBytes;
}

async function executeWriteAndVerify(command: ScsiCommand): Promise<undefined> {
  const data = arrivedBlocks(command);
  if (data.length === 0) return;
  const { unit } = command;
  const { lba } = readBlockRange(command.cdb);
  const range = { lba, blocks: data.length / unit.blockBytes };
  await withRange(command, range, true, async () => {
    await unit.write(lba * unit.blockBytes, data, true);
    const found = command.allocate(data.length);
    await unit.read(lba * unit.blockBytes, found);
    requireEqual(found, data);
  });
}

async function executeOrWrite(command: ScsiCommand): Promise<undefined> {
  const data = arrivedBlocks(command);
  if (data.length === 0) return;
  const { unit } = command;
  const { lba } = readBlockRange(command.cdb);
  const range = { lba, blocks: data.length / unit.blockBytes };
  await withRange(command, range, true, async () => {
    const merged = command.allocate(data.length);
    await unit.read(lba * unit.blockBytes, merged);
    for (let at = 0; at < data.length; at += 1) merged[at] = byteAt(merged, at) | byteAt(data, at);
    await unit.write(lba * unit.blockBytes, merged, wantsForceUnitAccess(command.cdb));
  });
}

function compareAndWriteBytes(command: ScsiCommand): number {
  requireNoProtection(command);
  const range = { lba: readBlockRange(command.cdb).lba, blocks: byteAt(command.cdb, 13) };
  requireInside(command, range);
  const wanted = 2 * range.blocks * command.unit.blockBytes;
  if (command.announcedOutBytes !== wanted) throw invalidCdbField(13);
  return wanted;
}

async function executeCompareAndWrite(command: ScsiCommand): Promise<undefined> {
  const { unit, dataOut } = command;
  const range = { lba: readBlockRange(command.cdb).lba, blocks: byteAt(command.cdb, 13) };
  if (range.blocks === 0) return;
  const half = dataOut.length / 2;
  await withRange(command, range, true, async () => {
    const found = command.allocate(half);
    await unit.read(range.lba * unit.blockBytes, found);
    requireEqual(found, dataOut.subarray(0, half));
    await unit.write(range.lba * unit.blockBytes, dataOut.subarray(half), wantsForceUnitAccess(command.cdb));
  });
}

/** A length of 0 in SYNCHRONIZE CACHE and PRE-FETCH means "to the end", and longer than one transfer is allowed. */
function checkOpenRange(command: ScsiCommand): void {
  requireInside(command, readBlockRange(command.cdb));
}

async function executeSynchronizeCache(command: ScsiCommand): Promise<undefined> {
  checkOpenRange(command);
  await command.unit.device.flush();
}

function executePrefetch(command: ScsiCommand): undefined {
  checkOpenRange(command);
  return undefined;
}

const reads = { reservation: "read", changesMedium: false, needsMedium: true } as const;
const writes = { reservation: "write", changesMedium: true, needsMedium: true } as const;

/** SBC-4 §5: commands that move or check blocks. */
export const BLOCK_COMMANDS: readonly CommandSpec[] = [
  { name: "READ(6)", opcode: 0x08, usage: "081fffffff00", ...reads, execute: executeRead },
  { name: "READ(10)", opcode: 0x28, usage: "28f8ffffffff00ffff00", ...reads, execute: executeRead },
  { name: "READ(12)", opcode: 0xa8, usage: "a8f8ffffffffffffffff0000", ...reads, execute: executeRead },
  { name: "READ(16)", opcode: 0x88, usage: "88f8ffffffffffffffffffffffff0000", ...reads, execute: executeRead },
  { name: "WRITE(6)", opcode: 0x0a, usage: "0a1fffffff00", ...writes, dataOutBytes: writeBytes, execute: executeWrite },
  {
    name: "WRITE(10)",
    opcode: 0x2a,
    usage: "2af8ffffffff00ffff00",
    ...writes,
    dataOutBytes: writeBytes,
    execute: executeWrite,
  },
  {
    name: "WRITE(12)",
    opcode: 0xaa,
    usage: "aaf8ffffffffffffffff0000",
    ...writes,
    dataOutBytes: writeBytes,
    execute: executeWrite,
  },
  {
    name: "WRITE(16)",
    opcode: 0x8a,
    usage: "8af8ffffffffffffffffffffffff0000",
    ...writes,
    dataOutBytes: writeBytes,
    execute: executeWrite,
  },
  {
    name: "WRITE ATOMIC(16)",
    opcode: 0x9c,
    usage: "9cf8ffffffffffffffffffffffff0000",
    ...writes,
    isAvailable: (unit) => unit.hasAtomicWrites,
    dataOutBytes: atomicWriteBytes,
    execute: executeAtomicWrite,
  },
  ...[
    { name: "WRITE AND VERIFY(10)", opcode: 0x2e, usage: "2ef2ffffffff00ffff00" },
    { name: "WRITE AND VERIFY(12)", opcode: 0xae, usage: "aef2ffffffffffffffff0000" },
    { name: "WRITE AND VERIFY(16)", opcode: 0x8e, usage: "8ef2ffffffffffffffffffffffff0000" },
  ].map((entry) => ({ ...entry, ...writes, dataOutBytes: writeAndVerifyBytes, execute: executeWriteAndVerify })),
  ...[
    { name: "VERIFY(10)", opcode: 0x2f, usage: "2ff6ffffffff00ffff00" },
    { name: "VERIFY(12)", opcode: 0xaf, usage: "aff6ffffffffffffffff0000" },
    { name: "VERIFY(16)", opcode: 0x8f, usage: "8ff6ffffffffffffffffffffffff0000" },
  ].map((entry) => ({ ...entry, ...reads, dataOutBytes: verifyBytes, execute: executeVerify })),
  {
    name: "ORWRITE(16)",
    opcode: 0x8b,
    usage: "8bf8ffffffffffffffffffffffff0000",
    ...writes,
    dataOutBytes: writeBytes,
    execute: executeOrWrite,
  },
  {
    name: "COMPARE AND WRITE",
    opcode: 0x89,
    usage: "89f8ffffffffffffffff000000ff0000",
    ...writes,
    dataOutBytes: compareAndWriteBytes,
    execute: executeCompareAndWrite,
  },
  ...[
    { name: "SYNCHRONIZE CACHE(10)", opcode: 0x35, usage: "3502ffffffff00ffff00" },
    { name: "SYNCHRONIZE CACHE(16)", opcode: 0x91, usage: "9102ffffffffffffffffffffffff0000" },
  ].map((entry) => ({ ...entry, ...writes, changesMedium: false, execute: executeSynchronizeCache })),
  ...[
    { name: "PRE-FETCH(10)", opcode: 0x34, usage: "3402ffffffff00ffff00" },
    { name: "PRE-FETCH(16)", opcode: 0x90, usage: "9002ffffffffffffffffffffffff0000" },
  ].map((entry) => ({ ...entry, ...reads, execute: executePrefetch })),
];
