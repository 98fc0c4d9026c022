import { byteAt, readUint64, type BlockRange } from "../cdb-fields.js";
import {
  CheckCondition,
  CommandStatus,
  Condition,
  invalidCdbField,
  invalidParameterField,
  Status,
} from "../check-condition.js";
import type { CommandSpec, ScsiCommand } from "../command.js";
import type { LogicalUnit } from "../logical-unit.js";
import { ascii } from "./inquiry-commands.js";

const HEADER_BYTES = 16;
const TARGET_DESCRIPTOR_BYTES = 32;
const BLOCK_SEGMENT_BYTES = 28;
const MAX_TARGET_DESCRIPTORS = 2;
const MAX_SEGMENT_DESCRIPTORS = 16;
const MAX_DESCRIPTOR_LIST_BYTES = 1024;
/** A segment counts its blocks in 16 bits. */
const MAX_SEGMENT_BLOCKS = 0xffff;
/** Data is copied in pieces of this size. */
const COPY_PIECE_BYTES = 1_048_576;

const IDENTIFICATION_DESCRIPTOR = 0xe4;
const BLOCK_TO_BLOCK = 0x02;

interface Segment {
  readonly source: LogicalUnit;
  readonly destination: LogicalUnit;
  readonly sourceRange: BlockRange;
  readonly destinationRange: BlockRange;
}

function extendedCopyBytes(command: ScsiCommand): number {
  const length = command.cdb.readUInt32BE(10);
  if (length > HEADER_BYTES + MAX_DESCRIPTOR_LIST_BYTES + TARGET_DESCRIPTOR_BYTES * 4) {
    throw new CheckCondition(Condition.parameterListLengthError);
  }
  return length;
}

/** EXTENDED COPY(LID1), SPC-4 §6.4.4: block-to-block segments between units of this target. */
async function executeExtendedCopy(command: ScsiCommand): Promise<undefined> {
  const { dataOut, cdb, unit, nexus } = command;
  if (cdb.readUInt32BE(10) === 0) return;
  if (dataOut.length < HEADER_BYTES || dataOut.length < cdb.readUInt32BE(10)) {
    throw new CheckCondition(Condition.parameterListLengthError);
  }
  const targetBytes = dataOut.readUInt16BE(2);
  const segmentBytes = dataOut.readUInt32BE(8);
  const inlineBytes = dataOut.readUInt32BE(12);
  if (targetBytes + segmentBytes > MAX_DESCRIPTOR_LIST_BYTES || inlineBytes > 0) {
    throw new CheckCondition(Condition.parameterListLengthError);
  }
  if (HEADER_BYTES + targetBytes + segmentBytes > dataOut.length) {
    throw new CheckCondition(Condition.parameterListLengthError);
  }
  const targets = readTargets(command, dataOut.subarray(HEADER_BYTES, HEADER_BYTES + targetBytes));
  const segments = dataOut.subarray(HEADER_BYTES + targetBytes, HEADER_BYTES + targetBytes + segmentBytes);
  const results = { listId: byteAt(dataOut, 0), status: 0, segmentsDone: 0 };
  unit.copyResults.set(nexus.id, results);
  try {
    for (const segment of readSegments(segments)) {
      await copySegment(command, locate(segment, targets));
      results.segmentsDone += 1;
    }
    results.status = 1;
  } catch (error) {
    results.status = 2;
    throw error;
  }
}

/** The units named, undefined for one that is not here: an error only when a segment uses it. */
function readTargets(command: ScsiCommand, list: Buffer): (LogicalUnit | undefined)[] {
  if (list.length % TARGET_DESCRIPTOR_BYTES !== 0) throw new CheckCondition(Condition.parameterListLengthError);
  if (list.length > MAX_TARGET_DESCRIPTORS * TARGET_DESCRIPTOR_BYTES) {
    throw new CheckCondition(Condition.tooManyTargetDescriptors);
  }
  const targets: (LogicalUnit | undefined)[] = [];
  for (let at = 0; at < list.length; at += TARGET_DESCRIPTOR_BYTES) {
    const descriptor = list.subarray(at, at + TARGET_DESCRIPTOR_BYTES);
    if (byteAt(descriptor, 0) !== IDENTIFICATION_DESCRIPTOR) {
      throw new CheckCondition(Condition.unsupportedTargetDescriptor);
    }
    if ((byteAt(descriptor, 1) & 0x1f) !== 0) throw invalidParameterField(HEADER_BYTES + at + 1);
    targets.push(findUnit(command.units, descriptor));
  }
  return targets;
}

function findUnit(units: ReadonlyMap<number, LogicalUnit>, descriptor: Buffer): LogicalUnit | undefined {
  const type = byteAt(descriptor, 5) & 0x0f;
  const length = Math.min(byteAt(descriptor, 7), 20);
  const designator = descriptor.subarray(8, 8 + length);
  for (const unit of units.values()) {
    if (type === 3 && designator.equals(unit.naa)) return unit;
    const vendorName = Buffer.concat([ascii("HAWSER", 8), Buffer.from(unit.serial, "latin1")]);
    if (type === 1 && designator.equals(vendorName)) return unit;
  }
  return undefined;
}

function readSegments(list: Buffer): Buffer[] {
  const segments: Buffer[] = [];
  for (let at = 0; at < list.length;) {
    if (at + 4 > list.length) throw new CheckCondition(Condition.parameterListLengthError);
    if (byteAt(list, at) !== BLOCK_TO_BLOCK) throw new CheckCondition(Condition.unsupportedSegmentDescriptor);
    const end = at + 4 + list.readUInt16BE(at + 2);
    if (end - at !== BLOCK_SEGMENT_BYTES || end > list.length) {
      throw new CheckCondition(Condition.parameterListLengthError);
    }
    segments.push(list.subarray(at, end));
    at = end;
  }
  if (segments.length > MAX_SEGMENT_DESCRIPTORS) throw new CheckCondition(Condition.tooManySegmentDescriptors);
  return segments;
}

function locate(segment: Buffer, targets: readonly (LogicalUnit | undefined)[]): Segment {
  const sourceIndex = segment.readUInt16BE(4);
  const destinationIndex = segment.readUInt16BE(6);
  if (sourceIndex >= targets.length || destinationIndex >= targets.length) {
    throw new CheckCondition(Condition.unreachableCopyTarget);
  }
  const source = targets[sourceIndex];
  const destination = targets[destinationIndex];
  if (source === undefined || destination === undefined) throw new CheckCondition(Condition.copyTargetNotReachable);
  if (source.blockBytes !== destination.blockBytes) throw new CheckCondition(Condition.copyTargetNotReachable);
  const blocks = segment.readUInt16BE(10);
  return {
    source,
    destination,
    sourceRange: { lba: readUint64(segment, 12), blocks },
    destinationRange: { lba: readUint64(segment, 20), blocks },
  };
}

async function copySegment(command: ScsiCommand, segment: Segment): Promise<void> {
  const { source, destination, sourceRange, destinationRange } = segment;
  for (const [unit, range] of [[source, sourceRange] as const, [destination, destinationRange] as const]) {
    if (range.lba + range.blocks > unit.blockCount) throw new CheckCondition(Condition.copyAborted);
    const isFree = unit.legacyHolder === undefined || unit.legacyHolder === command.nexus.id;
    const wanted = unit === destination ? "write" : "read";
    if (!isFree || !unit.reservations.allows(command.nexus.id, wanted)) {
      throw new CommandStatus(Status.reservationConflict);
    }
  }
  if (destination.isWriteProtected) throw new CheckCondition(Condition.copyAborted);
  const { blockBytes } = source;
  const piece = command.allocate(Math.min(COPY_PIECE_BYTES, sourceRange.blocks * blockBytes));
  const lengthBytes = sourceRange.blocks * blockBytes;
  const locked = await lockRange(destination, destinationRange);
  try {
    for (let done = 0; done < lengthBytes && !command.isAborted; done += piece.length) {
      const part = piece.subarray(0, Math.min(piece.length, lengthBytes - done));
      await source.read(sourceRange.lba * blockBytes + done, part);
      await destination.write(destinationRange.lba * blockBytes + done, part, false);
    }
  } finally {
    destination.ranges.unlock(locked);
  }
}

async function lockRange(
  unit: LogicalUnit,
  range: BlockRange,
): Promise<Parameters<LogicalUnit["ranges"]["unlock"]>[0]> {
  return (
    unit.ranges.tryLock(range.lba, range.blocks, false) ?? (await unit.ranges.wait(range.lba, range.blocks, false))
  );
}

/** COPY STATUS, SPC-4 §6.19: told once, as the results are dropped when they have been read. */
function executeCopyStatus(command: ScsiCommand): Buffer {
  const { cdb, unit, nexus } = command;
  const results = unit.copyResults.get(nexus.id);
  if (results?.listId !== byteAt(cdb, 2)) throw invalidCdbField(2);
  if (results.status !== 0) unit.copyResults.delete(nexus.id);
  const data = Buffer.alloc(12);
  data.writeUInt32BE(8, 0);
  data[4] = results.status;
  data.writeUInt16BE(results.segmentsDone, 5);
  return command.cut(data, cdb.readUInt32BE(10));
}

/** OPERATING PARAMETERS, SPC-4 §6.19.4. */
function executeOperatingParameters(command: ScsiCommand): Buffer {
  const data = Buffer.alloc(46);
  data.writeUInt32BE(data.length - 4, 0);
  data[4] = 0x01; // SNLID: a list without identifier is taken
  data.writeUInt16BE(MAX_TARGET_DESCRIPTORS, 8);
  data.writeUInt16BE(MAX_SEGMENT_DESCRIPTORS, 10);
  data.writeUInt32BE(MAX_DESCRIPTOR_LIST_BYTES, 12);
  data.writeUInt32BE(MAX_SEGMENT_BLOCKS * command.unit.blockBytes, 16);
  data.writeUInt16BE(1, 34);
  data[36] = 1;
  data[37] = Math.round(Math.log2(command.unit.blockBytes));
  data[43] = 2;
  data[44] = BLOCK_TO_BLOCK;
  data[45] = IDENTIFICATION_DESCRIPTOR;
  return command.cut(data, command.cdb.readUInt32BE(10));
}

/** SPC-4 §6.4, §6.19. */
export const COPY_COMMANDS: readonly CommandSpec[] = [
  {
    name: "EXTENDED COPY(LID1)",
    opcode: 0x83,
    serviceAction: 0x00,
    usage: "831f0000000000000000ffffffff0000",
    reservation: "read",
    changesMedium: false,
    needsMedium: true,
    dataOutBytes: extendedCopyBytes,
    execute: executeExtendedCopy,
  },
  {
    name: "RECEIVE COPY RESULTS, COPY STATUS",
    opcode: 0x84,
    serviceAction: 0x00,
    usage: "841fff00000000000000ffffffff0000",
    reservation: "read",
    changesMedium: false,
    needsMedium: false,
    execute: executeCopyStatus,
  },
  {
    name: "RECEIVE COPY RESULTS, OPERATING PARAMETERS",
    opcode: 0x84,
    serviceAction: 0x03,
    usage: "841f0000000000000000ffffffff0000",
    reservation: "always",
    changesMedium: false,
    needsMedium: false,
    execute: executeOperatingParameters,
  },
];
