import { checkField, writeU64 } from "./bytes.js";
import { MaintenanceIn, MaintenanceOut, ScsiOpcode, ServiceActionIn16 } from "./opcodes.js";

/**
 * Builders of command descriptor blocks (SPC-5 §6, SBC-4 §5). Each returns a fresh Buffer of the command's own length
 * that the caller owns; arguments that do not fit their field fail with ScsiError SCSI_ARGUMENT_INVALID.
 */

const U16 = 0xffff;
const U32 = 0xffff_ffff;

/** The blocks one command works on. */
export interface BlockRange {
  /** First logical block address. */
  readonly lba: number;
  /** How many logical blocks. */
  readonly blocks: number;
}

export interface ReadWriteOptions extends BlockRange {
  /** Force unit access: bypass the volatile cache. Default false. */
  readonly fua?: boolean;
}

export interface ModeSenseOptions {
  /** Page code, 0x3f for all pages. */
  readonly page: number;
  readonly subpage?: number;
  readonly allocationLength: number;
  /** Leave out block descriptors; default true. */
  readonly disableBlockDescriptors?: boolean;
}

export function testUnitReady(): Buffer {
  return Buffer.alloc(6);
}

/** INQUIRY: standard data, or one vital product data page. */
export function inquiry(options: { readonly allocationLength: number; readonly vpdPage?: number }): Buffer {
  const { allocationLength, vpdPage } = options;
  checkField("allocationLength", allocationLength, U16);
  const cdb = Buffer.alloc(6);
  cdb[0] = ScsiOpcode.inquiry;
  if (vpdPage !== undefined) {
    checkField("vpdPage", vpdPage, 0xff);
    cdb[1] = 1;
    cdb[2] = vpdPage;
  }
  cdb.writeUInt16BE(allocationLength, 3);
  return cdb;
}

/** REPORT LUNS with SELECT REPORT 00h: all logical units but the well-known ones. */
export function reportLuns(allocationLength: number): Buffer {
  checkField("allocationLength", allocationLength, U32);
  const cdb = Buffer.alloc(12);
  cdb[0] = ScsiOpcode.reportLuns;
  cdb.writeUInt32BE(allocationLength, 6);
  return cdb;
}

export function readCapacity10(): Buffer {
  const cdb = Buffer.alloc(10);
  cdb[0] = ScsiOpcode.readCapacity10;
  return cdb;
}

export function readCapacity16(allocationLength: number): Buffer {
  return serviceActionIn16(ServiceActionIn16.readCapacity16, 0, allocationLength);
}

/** GET LBA STATUS from `lba` on. */
export function getLbaStatus(lba: number, allocationLength: number): Buffer {
  return serviceActionIn16(ServiceActionIn16.getLbaStatus, lba, allocationLength);
}

export function read10(options: ReadWriteOptions): Buffer {
  return readWrite10(ScsiOpcode.read10, options);
}

export function write10(options: ReadWriteOptions): Buffer {
  return readWrite10(ScsiOpcode.write10, options);
}

export function read16(options: ReadWriteOptions): Buffer {
  return readWrite16(ScsiOpcode.read16, options);
}

export function write16(options: ReadWriteOptions): Buffer {
  return readWrite16(ScsiOpcode.write16, options);
}

/** READ(10) where address and count fit it, else READ(16). */
export function readCdb(lba: number, blocks: number, fua = false): Buffer {
  return lba + blocks <= U32 && blocks <= U16 ? read10({ lba, blocks, fua }) : read16({ lba, blocks, fua });
}

/** WRITE(10) where address and count fit it, else WRITE(16). */
export function writeCdb(lba: number, blocks: number, fua = false): Buffer {
  return lba + blocks <= U32 && blocks <= U16 ? write10({ lba, blocks, fua }) : write16({ lba, blocks, fua });
}

/** SYNCHRONIZE CACHE(10). Without a range: the whole device. IMMED is never set: GOOD means it is done. */
export function synchronizeCache10(range: BlockRange = { lba: 0, blocks: 0 }): Buffer {
  return readWrite10(ScsiOpcode.synchronizeCache10, range);
}

/** SYNCHRONIZE CACHE(16). Without a range: the whole device. */
export function synchronizeCache16(range: BlockRange = { lba: 0, blocks: 0 }): Buffer {
  return readWrite16(ScsiOpcode.synchronizeCache16, range);
}

export function unmap(parameterListLength: number): Buffer {
  checkField("parameterListLength", parameterListLength, U16);
  const cdb = Buffer.alloc(10);
  cdb[0] = ScsiOpcode.unmap;
  cdb.writeUInt16BE(parameterListLength, 7);
  return cdb;
}

export interface WriteSameOptions extends BlockRange {
  /** The device may deallocate the blocks if they then read as the pattern. */
  readonly unmap?: boolean;
  /** No data-out buffer: the pattern is one block of zeroes. */
  readonly ndob?: boolean;
  /** Anchor instead of deallocate; only with `unmap`. */
  readonly anchor?: boolean;
}

export function writeSame16(options: WriteSameOptions): Buffer {
  const cdb = readWrite16(ScsiOpcode.writeSame16, { lba: options.lba, blocks: options.blocks });
  cdb[1] = (options.anchor === true ? 0x10 : 0) | (options.unmap === true ? 0x08 : 0) | (options.ndob === true ? 1 : 0);
  return cdb;
}

/** COMPARE AND WRITE of up to 255 blocks; the data-out buffer holds the compare data, then the write data. */
export function compareAndWrite(options: ReadWriteOptions): Buffer {
  checkField("blocks", options.blocks, 0xff);
  checkField("lba", options.lba, Number.MAX_SAFE_INTEGER);
  const cdb = Buffer.alloc(16);
  cdb[0] = ScsiOpcode.compareAndWrite;
  cdb[1] = options.fua === true ? 0x08 : 0;
  writeU64(options.lba, cdb, 2);
  cdb[13] = options.blocks;
  return cdb;
}

/** REQUEST SENSE; `useDescriptorFormat` asks for 72h. */
export function requestSense(allocationLength = 252, useDescriptorFormat = false): Buffer {
  checkField("allocationLength", allocationLength, 0xff);
  return Buffer.from([ScsiOpcode.requestSense, useDescriptorFormat ? 1 : 0, 0, 0, allocationLength, 0]);
}

export function modeSense6(options: ModeSenseOptions): Buffer {
  checkField("allocationLength", options.allocationLength, 0xff);
  const cdb = Buffer.alloc(6);
  cdb[0] = ScsiOpcode.modeSense6;
  fillModeSense(cdb, options);
  cdb[4] = options.allocationLength;
  return cdb;
}

export function modeSense10(options: ModeSenseOptions): Buffer {
  checkField("allocationLength", options.allocationLength, U16);
  const cdb = Buffer.alloc(10);
  cdb[0] = ScsiOpcode.modeSense10;
  fillModeSense(cdb, options);
  cdb.writeUInt16BE(options.allocationLength, 7);
  return cdb;
}

/** REPORT TARGET PORT GROUPS; `useExtendedHeader` asks for the header with the implicit transition time. */
export function reportTargetPortGroups(allocationLength: number, useExtendedHeader = false): Buffer {
  const cdb = maintenance(ScsiOpcode.maintenanceIn, MaintenanceIn.reportTargetPortGroups, allocationLength);
  if (useExtendedHeader) cdb[1] = 0x20 | MaintenanceIn.reportTargetPortGroups;
  return cdb;
}

export function setTargetPortGroups(parameterListLength: number): Buffer {
  return maintenance(ScsiOpcode.maintenanceOut, MaintenanceOut.setTargetPortGroups, parameterListLength);
}

export interface ReportSupportedOperationCodesOptions {
  readonly allocationLength: number;
  /** One command instead of all. */
  readonly opcode?: number;
  readonly serviceAction?: number;
  /** Ask for the command timeouts descriptor; default false. */
  readonly withTimeouts?: boolean;
}

/** REPORT SUPPORTED OPERATION CODES: all (REPORTING OPTIONS 000b), one opcode (001b) or one service action (010b). */
export function reportSupportedOperationCodes(options: ReportSupportedOperationCodesOptions): Buffer {
  const { allocationLength, opcode, serviceAction, withTimeouts } = options;
  const cdb = maintenance(ScsiOpcode.maintenanceIn, MaintenanceIn.reportSupportedOperationCodes, allocationLength);
  const reportingOptions = opcode === undefined ? 0 : serviceAction === undefined ? 1 : 2;
  checkField("opcode", opcode ?? 0, 0xff);
  checkField("serviceAction", serviceAction ?? 0, U16);
  cdb[2] = (withTimeouts === true ? 0x80 : 0) | reportingOptions;
  cdb[3] = opcode ?? 0;
  cdb.writeUInt16BE(serviceAction ?? 0, 4);
  return cdb;
}

export function persistentReserveIn(action: number, allocationLength: number): Buffer {
  checkField("action", action, 0x1f);
  checkField("allocationLength", allocationLength, U16);
  const cdb = Buffer.alloc(10);
  cdb[0] = ScsiOpcode.persistentReserveIn;
  cdb[1] = action;
  cdb.writeUInt16BE(allocationLength, 7);
  return cdb;
}

export interface PersistentReserveOutOptions {
  readonly action: number;
  /** A ReservationType; 0 where the action takes none. */
  readonly type?: number;
  /** 0: the logical unit, the only scope there is. */
  readonly scope?: number;
  readonly parameterListLength: number;
}

export function persistentReserveOut(options: PersistentReserveOutOptions): Buffer {
  const { action, type = 0, scope = 0, parameterListLength } = options;
  checkField("action", action, 0x1f);
  checkField("type", type, 0xf);
  checkField("scope", scope, 0xf);
  checkField("parameterListLength", parameterListLength, U32);
  const cdb = Buffer.alloc(10);
  cdb[0] = ScsiOpcode.persistentReserveOut;
  cdb[1] = action;
  cdb[2] = (scope << 4) | type;
  cdb.writeUInt32BE(parameterListLength, 5);
  return cdb;
}

function readWrite10(opcode: number, { lba, blocks, fua }: ReadWriteOptions): Buffer {
  checkField("lba", lba, U32);
  checkField("blocks", blocks, U16);
  const cdb = Buffer.alloc(10);
  cdb[0] = opcode;
  cdb[1] = fua === true ? 0x08 : 0;
  cdb.writeUInt32BE(lba, 2);
  cdb.writeUInt16BE(blocks, 7);
  return cdb;
}

function readWrite16(opcode: number, { lba, blocks, fua }: ReadWriteOptions): Buffer {
  checkField("lba", lba, Number.MAX_SAFE_INTEGER);
  checkField("blocks", blocks, U32);
  const cdb = Buffer.alloc(16);
  cdb[0] = opcode;
  cdb[1] = fua === true ? 0x08 : 0;
  writeU64(lba, cdb, 2);
  cdb.writeUInt32BE(blocks, 10);
  return cdb;
}

function serviceActionIn16(action: number, lba: number, allocationLength: number): Buffer {
  const cdb = readWrite16(ScsiOpcode.serviceActionIn16, { lba, blocks: allocationLength });
  cdb[1] = action;
  return cdb;
}

function maintenance(opcode: number, action: number, lengthBytes: number): Buffer {
  checkField("length", lengthBytes, U32);
  const cdb = Buffer.alloc(12);
  cdb[0] = opcode;
  cdb[1] = action;
  cdb.writeUInt32BE(lengthBytes, 6);
  return cdb;
}

function fillModeSense(cdb: Buffer, options: ModeSenseOptions): void {
  checkField("page", options.page, 0x3f);
  checkField("subpage", options.subpage ?? 0, 0xff);
  cdb[1] = options.disableBlockDescriptors === false ? 0 : 0x08;
  cdb[2] = options.page;
  cdb[3] = options.subpage ?? 0;
}
