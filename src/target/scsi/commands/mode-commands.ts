import { byteAt } from "../cdb-fields.js";
import { CheckCondition, Condition, invalidCdbField, invalidParameterField } from "../check-condition.js";
import type { CommandSpec, ScsiCommand } from "../command.js";
import type { LogicalUnit } from "../logical-unit.js";

const PageControl = { current: 0, changeable: 1, default: 2, saved: 3 } as const;

const CACHING_PAGE = 0x08;
const CONTROL_PAGE = 0x0a;
const INFORMATIONAL_EXCEPTIONS_PAGE = 0x1c;
const ALL_PAGES = 0x3f;
const ALL_SUBPAGES = 0xff;

/** Read-write error recovery, SBC-4 §6.5.10: nothing is remapped, nothing changeable. */
function errorRecoveryPage(): Buffer {
  const page = Buffer.alloc(12);
  page[0] = 0x01;
  page[1] = 10;
  return page;
}

/** Caching, SBC-4 §6.5.6: WCE may be cleared where there is a cache, and every write is then written through. */
function cachingPage(unit: LogicalUnit, control: number): Buffer {
  const page = Buffer.alloc(20);
  page[0] = CACHING_PAGE;
  page[1] = 18;
  const isEnabled = control === PageControl.current ? unit.isWriteCacheEnabled : unit.info.hasVolatileCache;
  if (isEnabled) page[2] = 0x04;
  return page;
}

/** Control, SPC-5 §7.5.10: D_SENSE and SWP are changeable; tasks are reordered freely; one task set for all. */
function controlPage(unit: LogicalUnit, control: number): Buffer {
  const page = Buffer.alloc(12);
  page[0] = CONTROL_PAGE;
  page[1] = 10;
  if (control === PageControl.changeable) {
    page[2] = 0x04;
    page[4] = 0x08;
    return page;
  }
  page.writeUInt16BE(0xffff, 8); // BUSY TIMEOUT PERIOD: unlimited
  page[3] = 0x10; // queue algorithm modifier 1: unrestricted reordering
  if (control === PageControl.current) {
    page[2] = unit.usesDescriptorSense ? 0x04 : 0;
    page[4] = unit.isSoftwareProtected ? 0x08 : 0;
  }
  return page;
}

/** Informational exceptions control, SPC-5 §7.5.14: DEXCPT, nothing is reported this way. */
function exceptionsPage(control: number): Buffer {
  const page = Buffer.alloc(12);
  page[0] = INFORMATIONAL_EXCEPTIONS_PAGE;
  page[1] = 10;
  if (control !== PageControl.changeable) page[2] = 0x08;
  return page;
}

function pages(unit: LogicalUnit, control: number, wanted: number): Buffer[] {
  const all: [number, () => Buffer][] = [
    [0x01, errorRecoveryPage],
    [CACHING_PAGE, () => cachingPage(unit, control)],
    [CONTROL_PAGE, () => controlPage(unit, control)],
    [INFORMATIONAL_EXCEPTIONS_PAGE, () => exceptionsPage(control)],
  ];
  return all.filter(([code]) => wanted === ALL_PAGES || wanted === code).map(([, build]) => build());
}

/** WP where the unit is write-protected; DPOFUA always, SBC-4 §6.5.1. */
function deviceSpecificParameter(unit: LogicalUnit): number {
  return (unit.isWriteProtected ? 0x80 : 0) | 0x10;
}

function shortBlockDescriptor(unit: LogicalUnit): Buffer {
  const descriptor = Buffer.alloc(8);
  descriptor.writeUInt32BE(Math.min(0xffff_ffff, unit.blockCount), 0);
  descriptor.writeUInt32BE(unit.blockBytes, 4);
  descriptor[4] = 0;
  return descriptor;
}

function longBlockDescriptor(unit: LogicalUnit): Buffer {
  const descriptor = Buffer.alloc(16);
  descriptor.writeUInt32BE(Math.floor(unit.blockCount / 0x1_0000_0000), 0);
  descriptor.writeUInt32BE(unit.blockCount >>> 0, 4);
  descriptor.writeUInt32BE(unit.blockBytes, 12);
  return descriptor;
}

function senseBody(command: ScsiCommand): Buffer {
  const { cdb, unit } = command;
  const control = byteAt(cdb, 2) >>> 6;
  const subpage = byteAt(cdb, 3);
  if (control === PageControl.saved) throw new CheckCondition(Condition.savingNotSupported);
  if (subpage !== 0 && subpage !== ALL_SUBPAGES) throw invalidCdbField(3);
  const found = pages(unit, control, byteAt(cdb, 2) & 0x3f);
  if (found.length === 0) throw invalidCdbField(2, 5);
  return Buffer.concat(found);
}

function executeModeSense6(command: ScsiCommand): Buffer {
  const { cdb, unit } = command;
  const body = senseBody(command);
  const descriptor = (byteAt(cdb, 1) & 0x08) === 0 ? shortBlockDescriptor(unit) : Buffer.alloc(0);
  const header = Buffer.from([
    3 + descriptor.length + body.length,
    0,
    deviceSpecificParameter(unit),
    descriptor.length,
  ]);
  return command.cut(Buffer.concat([header, descriptor, body]), byteAt(cdb, 4));
}

function executeModeSense10(command: ScsiCommand): Buffer {
  const { cdb, unit } = command;
  const body = senseBody(command);
  const isLong = (byteAt(cdb, 1) & 0x10) !== 0;
  const hasNone = (byteAt(cdb, 1) & 0x08) !== 0;
  const descriptor = hasNone ? Buffer.alloc(0) : isLong ? longBlockDescriptor(unit) : shortBlockDescriptor(unit);
  const header = Buffer.alloc(8);
  header.writeUInt16BE(6 + descriptor.length + body.length, 0);
  header[3] = deviceSpecificParameter(unit);
  if (isLong && !hasNone) header[4] = 1;
  header.writeUInt16BE(descriptor.length, 6);
  return command.cut(Buffer.concat([header, descriptor, body]), cdb.readUInt16BE(7));
}

/** Longest parameter list MODE SELECT takes: every page of ours with descriptors is far shorter. */
const MAX_MODE_LIST_BYTES = 1024;

function modeSelectBytes(command: ScsiCommand): number {
  const { cdb } = command;
  if ((byteAt(cdb, 1) & 0x01) !== 0) throw invalidCdbField(1, 0); // SP: nothing can be saved
  if ((byteAt(cdb, 1) & 0x10) === 0) throw invalidCdbField(1, 4); // PF
  const isSix = byteAt(cdb, 0) === 0x15;
  const length = isSix ? byteAt(cdb, 4) : cdb.readUInt16BE(7);
  if (length > MAX_MODE_LIST_BYTES) throw invalidCdbField(isSix ? 4 : 7);
  return length;
}

function executeModeSelect(command: ScsiCommand): undefined {
  const { cdb, dataOut } = command;
  const isSix = byteAt(cdb, 0) === 0x15;
  const announced = isSix ? byteAt(cdb, 4) : cdb.readUInt16BE(7);
  if (announced === 0) return undefined;
  const headerBytes = isSix ? 4 : 8;
  if (dataOut.length < announced || dataOut.length < headerBytes) {
    throw new CheckCondition(Condition.parameterListLengthError);
  }
  const descriptorBytes = isSix ? byteAt(dataOut, 3) : dataOut.readUInt16BE(6);
  let at = headerBytes + descriptorBytes;
  const changes: (() => void)[] = [];
  while (at < dataOut.length) {
    if (at + 2 > dataOut.length) throw new CheckCondition(Condition.parameterListLengthError);
    const end = at + 2 + byteAt(dataOut, at + 1);
    if (end > dataOut.length) throw new CheckCondition(Condition.parameterListLengthError);
    changes.push(selectPage(command.unit, dataOut.subarray(at, end), at));
    at = end;
  }
  for (const apply of changes) apply();
  notifyModeChange(command);
  return undefined;
}

/** Checks one page against what may change; the returned function applies it once all pages were found good. */
function selectPage(unit: LogicalUnit, page: Buffer, offset: number): () => void {
  const code = byteAt(page, 0) & 0x3f;
  const current = pages(unit, PageControl.current, code)[0];
  if (current === undefined || code === ALL_PAGES || (byteAt(page, 0) & 0x40) !== 0)
    throw invalidParameterField(offset);
  if (page.length !== current.length) throw invalidParameterField(offset + 1);
  const changeable = pages(unit, PageControl.changeable, code)[0] ?? current;
  for (let index = 2; index < page.length; index += 1) {
    const changed = byteAt(page, index) ^ byteAt(current, index);
    if ((changed & ~byteAt(changeable, index)) !== 0) throw invalidParameterField(offset + index);
  }
  return () => {
    if (code === CACHING_PAGE) unit.isWriteCacheEnabled = (byteAt(page, 2) & 0x04) !== 0;
    if (code !== CONTROL_PAGE) return;
    unit.usesDescriptorSense = (byteAt(page, 2) & 0x04) !== 0;
    unit.isSoftwareProtected = (byteAt(page, 4) & 0x08) !== 0;
  };
}

function notifyModeChange(command: ScsiCommand): void {
  command.unit.attentionForAll(Condition.modeParametersChanged, command.nexus.id);
}

const modeSense = { reservation: "read", changesMedium: false, needsMedium: false } as const;
const modeSelect = { reservation: "write", changesMedium: false, needsMedium: false } as const;

/** SPC-5 §6.13-6.16. */
export const MODE_COMMANDS: readonly CommandSpec[] = [
  { name: "MODE SENSE(6)", opcode: 0x1a, usage: "1a08ffffff00", ...modeSense, execute: executeModeSense6 },
  { name: "MODE SENSE(10)", opcode: 0x5a, usage: "5a18ffff000000ffff00", ...modeSense, execute: executeModeSense10 },
  {
    name: "MODE SELECT(6)",
    opcode: 0x15,
    usage: "15110000ff00",
    ...modeSelect,
    dataOutBytes: modeSelectBytes,
    execute: executeModeSelect,
  },
  {
    name: "MODE SELECT(10)",
    opcode: 0x55,
    usage: "55110000000000ffff00",
    ...modeSelect,
    dataOutBytes: modeSelectBytes,
    execute: executeModeSelect,
  },
];
