import { type Lun, formatLun } from "../base/lun.js";
import { AppError } from "../base/errors.js";
import {
  type Capacity,
  READ_CAPACITY_10_BYTES,
  READ_CAPACITY_16_BYTES,
  decodeReadCapacity10,
  decodeReadCapacity16,
} from "../scsi/capacity.js";
import {
  getLbaStatus,
  inquiry,
  modeSense10,
  modeSense6,
  readCapacity10,
  readCapacity16,
  synchronizeCache10,
  testUnitReady,
} from "../scsi/cdb.js";
import { decodeDeviceIdentification } from "../scsi/designators.js";
import { selectDeviceId } from "../scsi/device-identity.js";
import { STANDARD_INQUIRY_BYTES, decodeInquiry } from "../scsi/inquiry.js";
import { decodeLbaStatus, lbaStatusBytes } from "../scsi/lba-status.js";
import {
  type ModeData,
  type ModeForm,
  ModePage,
  decodeCachingPage,
  decodeModeData,
  findModePage,
} from "../scsi/mode.js";
import {
  type BlockLimits,
  type LogicalBlockProvisioning,
  VpdPage,
  decodeBlockLimits,
  decodeLogicalBlockProvisioning,
  decodeSupportedPages,
  decodeUnitSerialNumber,
} from "../scsi/vpd.js";
import type { BlockDeviceInfo, DeviceIdentity } from "./device.js";
import type { FoundUnit } from "./lun-identity.js";
import { BlockError } from "./errors.js";
import { isAccessStateError, type LunCommander } from "./lun-commands.js";

/** How a unit is to be talked to; what `info` says is derived from it. */
export interface LunProfile {
  readonly info: BlockDeviceInfo;
  /** FUA in WRITE is honoured (DPOFUA). */
  readonly honoursFua: boolean;
  /** UNMAP, WRITE SAME with the UNMAP bit, or neither, to release blocks. */
  readonly unmapBy: "unmap" | "write-same" | "none";
  readonly maxUnmapBlocks: number;
  readonly maxUnmapDescriptors: number;
  readonly maxWriteSameBlocks: number;
  /** WRITE SAME may release blocks that it writes zeroes to. */
  readonly canWriteSameUnmap: boolean;
}

const DIRECT_ACCESS_BLOCK_DEVICE = 0;
const VPD_ALLOCATION_BYTES = 4096;
const MODE_ALLOCATION_BYTES = 252;
/** Pieces of this size hide the round trip, and a lost one costs little. */
const MAX_TRANSFER_BYTES = 1_048_576;
/** WRITE SAME of the largest size may not take longer than a command's time. */
const MAX_WRITE_SAME_BYTES = 67_108_864;
const MAX_UNMAP_BYTES = 1_073_741_824;
const DEFAULT_UNMAP_DESCRIPTORS = 64;

/** Waits until the unit answers, absorbing its first unit attentions. Rejects with BlockError. */
export async function awaitReady(commander: LunCommander): Promise<void> {
  await commander.run({ cdb: testUnitReady(), isProbe: true });
}

/** Called with who the unit is, before more is asked of it; what it rejects with ends the inspection. */
export type Recognition = (found: FoundUnit) => Promise<void>;

/**
 * Reads all that is to know of a unit. Rejects with BlockError, ScsiError. A unit that others have reserved tells who it is
 * and how large; what follows may need a registration (SPC-5 §5.13.1).
 */
export async function inspectLun(commander: LunCommander, lun: Lun, recognise: Recognition): Promise<LunProfile> {
  const { identity, pages } = await readIdentity(commander, lun);
  const capacity = await readCapacity(commander);
  const { logicalBlockBytes } = capacity;
  await recognise({ identity, logicalBlockBytes, sizeBytes: capacity.blocks * logicalBlockBytes });
  const limits = pages.has(VpdPage.blockLimits)
    ? decodeBlockLimits(await readVpd(commander, VpdPage.blockLimits))
    : undefined;
  const provisioning = pages.has(VpdPage.logicalBlockProvisioning)
    ? decodeLogicalBlockProvisioning(await readVpd(commander, VpdPage.logicalBlockProvisioning))
    : undefined;
  const mode = await readModeIfLet(commander);
  const hasVolatileCache = await readCacheState(commander, mode);
  const canReportBlockStatus = capacity.isProvisioned && (await canReadLbaStatus(commander));
  return buildProfile({ identity, capacity, limits, provisioning, mode, hasVolatileCache, canReportBlockStatus });
}

/** What can be learned of a unit at one moment. */
export type UnitLook =
  | { readonly kind: "whole"; readonly profile: LunProfile }
  /** The access state of the port lets nothing through but the question who the unit is; `cause` is what it said. */
  | { readonly kind: "limited"; readonly identity: DeviceIdentity; readonly cause: BlockError };

/** Looks at a unit, as far as the access state of the port lets it be looked at. Rejects with BlockError, ScsiError. */
export async function lookAtUnit(commander: LunCommander, lun: Lun, recognise: Recognition): Promise<UnitLook> {
  try {
    await awaitReady(commander);
    return { kind: "whole", profile: await inspectLun(commander, lun, recognise) };
  } catch (error) {
    if (!isAccessStateError(error)) throw error;
    const { identity } = await readIdentity(commander, lun, true);
    return { kind: "limited", identity, cause: error };
  }
}

/** Peripheral qualifier of a unit that is there, but cannot be reached through this port now (SPC-5 §6.6.2). */
const QUALIFIER_NOT_ACCESSIBLE = 1;

/** Who the unit is, and which VPD pages it has. `mayBeInaccessible`: though no command but this may reach it now. */
export async function readIdentity(
  commander: LunCommander,
  lun: Lun,
  mayBeInaccessible = false,
): Promise<{ readonly identity: DeviceIdentity; readonly pages: ReadonlySet<number> }> {
  const data = decodeInquiry(
    await ask(commander, inquiry({ allocationLength: STANDARD_INQUIRY_BYTES }), STANDARD_INQUIRY_BYTES),
  );
  const isThere =
    data.peripheralQualifier === 0 || (mayBeInaccessible && data.peripheralQualifier === QUALIFIER_NOT_ACCESSIBLE);
  if (!isThere || data.deviceType !== DIRECT_ACCESS_BLOCK_DEVICE) {
    throw new BlockError(
      "BLOCK_NOT_SUPPORTED",
      `LUN ${formatLun(lun)} is no disk: peripheral qualifier ${data.peripheralQualifier}, device type ` +
        `0x${data.deviceType.toString(16)}; hawserctl luns shows which LUNs are disks`,
      { details: { peripheralQualifier: data.peripheralQualifier, deviceType: data.deviceType } },
    );
  }
  const pages = new Set(
    (await tolerate(async () => decodeSupportedPages(await readVpd(commander, VpdPage.supportedPages)))) ?? [],
  );
  const designators = pages.has(VpdPage.deviceIdentification)
    ? decodeDeviceIdentification(await readVpd(commander, VpdPage.deviceIdentification))
    : [];
  const serial = pages.has(VpdPage.unitSerialNumber)
    ? decodeUnitSerialNumber(await readVpd(commander, VpdPage.unitSerialNumber))
    : "";
  const { vendor, product, revision } = data;
  return {
    identity: { id: selectDeviceId({ designators, vendor, serial }), vendor, product, revision, serial },
    pages,
  };
}

async function readCapacity(commander: LunCommander): Promise<Capacity> {
  const long = await tolerate(async () =>
    decodeReadCapacity16(await ask(commander, readCapacity16(READ_CAPACITY_16_BYTES), READ_CAPACITY_16_BYTES)),
  );
  if (long !== undefined) return long;
  const short = decodeReadCapacity10(await ask(commander, readCapacity10(), READ_CAPACITY_10_BYTES));
  if (short !== undefined) return short;
  throw new BlockError("BLOCK_NOT_SUPPORTED", "the unit has over 2^32 blocks, but does not know READ CAPACITY(16)");
}

/** The caching page if the unit has it, else whatever header it gives: write protection is in there. */
async function readMode(commander: LunCommander): Promise<ModeData | undefined> {
  const attempts: readonly (readonly [ModeForm, number])[] = [
    ["mode10", ModePage.caching],
    ["mode6", ModePage.caching],
    ["mode6", ModePage.all],
  ];
  for (const [form, page] of attempts) {
    const options = { page, allocationLength: MODE_ALLOCATION_BYTES };
    const cdb = form === "mode10" ? modeSense10(options) : modeSense6(options);
    const data = await tolerate(async () => decodeModeData(await ask(commander, cdb, MODE_ALLOCATION_BYTES), form));
    if (data !== undefined) return data;
  }
  return undefined;
}

/** The same, and undefined where others have reserved the unit: who only reads can do without. */
async function readModeIfLet(commander: LunCommander): Promise<ModeData | undefined> {
  try {
    return await readMode(commander);
  } catch (error) {
    if (error instanceof BlockError && error.code === "BLOCK_RESERVATION_CONFLICT") return undefined;
    throw error;
  }
}

/** A unit that does not say whether it caches is taken to do so, unless it does not even know how to flush. */
async function readCacheState(commander: LunCommander, mode: ModeData | undefined): Promise<boolean> {
  const page = mode === undefined ? undefined : findModePage(mode, ModePage.caching);
  if (page !== undefined) return decodeCachingPage(page).isWriteCacheEnabled;
  try {
    const flushed = await tolerate(() => commander.run({ cdb: synchronizeCache10(), isProbe: true }));
    return flushed !== undefined;
  } catch (error) {
    if (error instanceof BlockError && error.code === "BLOCK_RESERVATION_CONFLICT") return true;
    throw error;
  }
}

async function canReadLbaStatus(commander: LunCommander): Promise<boolean> {
  const bytes = lbaStatusBytes(1);
  const extents = await tolerate(async () => decodeLbaStatus(await ask(commander, getLbaStatus(0, bytes), bytes)));
  return extents !== undefined && extents.length > 0;
}

/** One VPD page. Rejects with BlockError. */
export async function readVpd(commander: LunCommander, vpdPage: number): Promise<Buffer> {
  return ask(commander, inquiry({ allocationLength: VPD_ALLOCATION_BYTES, vpdPage }), VPD_ALLOCATION_BYTES);
}

/** A question that transfers at most `allocationLength` bytes; resolves with those that came. Rejects with BlockError. */
export async function ask(
  commander: LunCommander,
  cdb: Buffer,
  allocationLength: number,
  isProbe = true,
): Promise<Buffer> {
  const dataIn = Buffer.alloc(allocationLength);
  const transferredBytes = await commander.run({ cdb, dataIn, allowUnderflow: true, isProbe });
  return dataIn.subarray(0, transferredBytes);
}

/** Undefined where the unit does not know the question, or answers it in a way that cannot be read. */
export async function tolerate<T>(question: () => Promise<T>): Promise<T | undefined> {
  try {
    return await question();
  } catch (error) {
    if (error instanceof BlockError && error.code === "BLOCK_NOT_SUPPORTED") return undefined;
    if (error instanceof AppError && error.layer === "scsi") return undefined;
    throw error;
  }
}

function buildProfile(found: {
  readonly identity: DeviceIdentity;
  readonly capacity: Capacity;
  readonly limits: BlockLimits | undefined;
  readonly provisioning: LogicalBlockProvisioning | undefined;
  readonly mode: ModeData | undefined;
  readonly hasVolatileCache: boolean;
  readonly canReportBlockStatus: boolean;
}): LunProfile {
  const { capacity, limits, provisioning, mode } = found;
  const blockBytes = capacity.logicalBlockBytes;
  const unmapBy = unmapMethod(capacity, limits, provisioning);
  const isWritten = mode?.isWriteProtected !== true;
  const info: BlockDeviceInfo = Object.freeze({
    sizeBytes: capacity.blocks * blockBytes,
    logicalBlockBytes: blockBytes,
    physicalBlockBytes: blockBytes * 2 ** capacity.physicalBlockExponent,
    maxTransferBytes: Math.min(orUnlimited(limits?.maxTransferBlocks) * blockBytes, MAX_TRANSFER_BYTES),
    optimalTransferBytes: (limits?.optimalTransferBlocks ?? 0) * blockBytes,
    isReadOnly: !isWritten,
    hasVolatileCache: found.hasVolatileCache,
    canUnmap: isWritten && unmapBy !== "none",
    unmapReadsZeroes: capacity.unmapReadsZeroes || provisioning?.unmapReadsZeroes === true,
    canWriteZeroes: isWritten,
    canReportBlockStatus: found.canReportBlockStatus,
    unmapGranularityBytes: Math.max(1, limits?.optimalUnmapGranularityBlocks ?? 1) * blockBytes,
    identity: found.identity,
  });
  return {
    info,
    honoursFua: mode?.supportsDpoFua === true,
    unmapBy,
    maxUnmapBlocks: Math.min(orUnlimited(limits?.maxUnmapBlocks), MAX_UNMAP_BYTES / blockBytes),
    maxUnmapDescriptors: Math.min(orUnlimited(limits?.maxUnmapDescriptors), DEFAULT_UNMAP_DESCRIPTORS),
    maxWriteSameBlocks: Math.min(orUnlimited(limits?.maxWriteSameBlocks), MAX_WRITE_SAME_BYTES / blockBytes),
    canWriteSameUnmap: provisioning?.supportsWriteSame16Unmap === true,
  };
}

/** Zero stands for "not reported". */
function orUnlimited(value: number | undefined): number {
  return value === undefined || value === 0 ? Number.POSITIVE_INFINITY : value;
}

function unmapMethod(
  capacity: Capacity,
  limits: BlockLimits | undefined,
  provisioning: LogicalBlockProvisioning | undefined,
): LunProfile["unmapBy"] {
  const knowsUnmap = (limits?.maxUnmapBlocks ?? 0) > 0;
  if (provisioning === undefined) return capacity.isProvisioned && knowsUnmap ? "unmap" : "none";
  if (provisioning.supportsUnmap && knowsUnmap) return "unmap";
  return provisioning.supportsWriteSame16Unmap ? "write-same" : "none";
}
