import { byteAt, hasBit, requireBytes, u16At } from "./bytes.js";
import { ScsiError } from "./errors.js";

/** Mode page codes Hawser reads or serves. */
export const ModePage = { caching: 0x08, control: 0x0a, all: 0x3f } as const;

/** Header and pages of MODE SENSE or MODE SELECT data, SPC-5 §7.5. */
export interface ModeData {
  /** WP: the medium is write protected. */
  readonly isWriteProtected: boolean;
  /** DPOFUA: FUA and DPO are honoured in READ and WRITE. */
  readonly supportsDpoFua: boolean;
  readonly mediumType: number;
  readonly blockDescriptors: Buffer;
  readonly pages: readonly ModePageData[];
}

export interface ModePageData {
  readonly page: number;
  readonly subpage: number;
  /** PS: the device can save it. */
  readonly isSaveable: boolean;
  /** The page after its header: its parameters. */
  readonly parameters: Buffer;
}

export type ModeForm = "mode6" | "mode10";

/**
 * MODE SENSE(6) or (10) data, or a MODE SELECT list. Pages cut off by the allocation length are left out; a header
 * that is cut, or block descriptors longer than the data, fail with ScsiError. The buffers in the result are copies.
 */
export function decodeModeData(bytes: Buffer, form: ModeForm): ModeData {
  const headerBytes = form === "mode6" ? 4 : 8;
  requireBytes(bytes, headerBytes, "mode parameter header");
  const modeDataLength = form === "mode6" ? byteAt(bytes, 0) : bytes.readUInt16BE(0);
  const deviceSpecific = byteAt(bytes, form === "mode6" ? 2 : 3);
  const descriptorBytes = form === "mode6" ? byteAt(bytes, 3) : u16At(bytes, 6);
  // In a MODE SELECT list the length is reserved and zero: then the whole list counts.
  const claimedEnd = modeDataLength === 0 ? bytes.length : modeDataLength + (form === "mode6" ? 1 : 2);
  const end = Math.min(bytes.length, claimedEnd);
  const pagesStart = headerBytes + descriptorBytes;
  if (pagesStart > Math.max(end, headerBytes)) {
    throw new ScsiError("SCSI_DATA_INVALID", "mode data whose block descriptors are longer than the data", {
      details: { descriptorBytes, lengthBytes: end },
    });
  }
  return {
    isWriteProtected: (deviceSpecific & 0x80) !== 0,
    supportsDpoFua: (deviceSpecific & 0x10) !== 0,
    mediumType: byteAt(bytes, form === "mode6" ? 1 : 2),
    blockDescriptors: Buffer.from(bytes.subarray(headerBytes, pagesStart)),
    pages: decodePages(bytes.subarray(pagesStart, Math.max(end, pagesStart))),
  };
}

/** The data of MODE SENSE; the caller cuts it to the allocation length. Fails when it does not fit the form. */
export function encodeModeData(data: ModeData, form: ModeForm): Buffer {
  const headerBytes = form === "mode6" ? 4 : 8;
  const header = Buffer.alloc(headerBytes);
  const bytes = Buffer.concat([header, data.blockDescriptors, ...data.pages.map(encodePage)]);
  const deviceSpecific = (data.isWriteProtected ? 0x80 : 0) | (data.supportsDpoFua ? 0x10 : 0);
  const lengthLimit = form === "mode6" ? 0x100 : 0x1_0001;
  if (bytes.length > lengthLimit) {
    throw new ScsiError("SCSI_ARGUMENT_INVALID", `${bytes.length} bytes of mode data do not fit ${form}`);
  }
  if (form === "mode6") {
    bytes.set([bytes.length - 1, data.mediumType, deviceSpecific, data.blockDescriptors.length], 0);
  } else {
    bytes.writeUInt16BE(bytes.length - 2, 0);
    bytes[2] = data.mediumType;
    bytes[3] = deviceSpecific;
    // LONGLBA: descriptors of 16 bytes.
    bytes[4] = data.blockDescriptors.length >= 16 && data.blockDescriptors.length % 16 === 0 ? 1 : 0;
    bytes.writeUInt16BE(data.blockDescriptors.length, 6);
  }
  return bytes;
}

/** The page with this code in mode data, if the device sent it whole. */
export function findModePage(data: ModeData, page: number, subpage = 0): ModePageData | undefined {
  return data.pages.find((candidate) => candidate.page === page && candidate.subpage === subpage);
}

/** A short block descriptor (8 bytes) of a direct access device, SBC-4 §6.4.2. */
export function encodeBlockDescriptor(blocks: number, logicalBlockBytes: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32BE(Math.min(blocks, 0xffff_ffff), 0);
  bytes.writeUIntBE(logicalBlockBytes, 5, 3);
  return bytes;
}

/** Caching page (08h), SBC-4 §6.4.5: the parts Hawser uses. */
export interface CachingPage {
  /** WCE: a volatile write cache is in use; FUA or SYNCHRONIZE CACHE is needed for stable data. */
  readonly isWriteCacheEnabled: boolean;
  /** RCD: the read cache is off. */
  readonly isReadCacheDisabled: boolean;
}

export function decodeCachingPage(page: ModePageData): CachingPage {
  requireBytes(page.parameters, 1, "caching mode page");
  return {
    isWriteCacheEnabled: hasBit(page.parameters, 0, 0x04),
    isReadCacheDisabled: hasBit(page.parameters, 0, 0x01),
  };
}

export function encodeCachingPage(page: CachingPage): ModePageData {
  const parameters = Buffer.alloc(0x12);
  parameters[0] = (page.isWriteCacheEnabled ? 0x04 : 0) | (page.isReadCacheDisabled ? 0x01 : 0);
  return { page: ModePage.caching, subpage: 0, isSaveable: false, parameters };
}

/** Control page (0Ah), SPC-5 §7.5.10: the parts Hawser uses. */
export interface ControlPage {
  /** D_SENSE: sense data come in descriptor format. */
  readonly usesDescriptorSense: boolean;
  /** TST: 0 one task set for all initiators, 1 one for each. */
  readonly taskSetType: number;
  /** SWP: software write protect. */
  readonly isSoftwareWriteProtected: boolean;
  /** TAS: aborted tasks of other initiators end with TASK ABORTED. */
  readonly reportsTaskAborted: boolean;
  /** UA_INTLCK_CTRL, 0 to 3. */
  readonly unitAttentionInterlock: number;
  /** QUEUE ALGORITHM MODIFIER: 0 restricted, 1 unrestricted reordering. */
  readonly queueAlgorithm: number;
}

export function decodeControlPage(page: ModePageData): ControlPage {
  requireBytes(page.parameters, 4, "control mode page");
  const parameters = page.parameters;
  return {
    usesDescriptorSense: hasBit(parameters, 0, 0x04),
    taskSetType: byteAt(parameters, 0) >>> 5,
    queueAlgorithm: byteAt(parameters, 1) >>> 4,
    unitAttentionInterlock: (byteAt(parameters, 2) >>> 4) & 3,
    isSoftwareWriteProtected: hasBit(parameters, 2, 0x08),
    reportsTaskAborted: hasBit(parameters, 3, 0x40),
  };
}

export function encodeControlPage(page: ControlPage): ModePageData {
  const parameters = Buffer.alloc(0x0a);
  parameters[0] = ((page.taskSetType & 7) << 5) | (page.usesDescriptorSense ? 0x04 : 0);
  parameters[1] = (page.queueAlgorithm & 0xf) << 4;
  parameters[2] = ((page.unitAttentionInterlock & 3) << 4) | (page.isSoftwareWriteProtected ? 0x08 : 0);
  parameters[3] = page.reportsTaskAborted ? 0x40 : 0;
  return { page: ModePage.control, subpage: 0, isSaveable: false, parameters };
}

function decodePages(bytes: Buffer): ModePageData[] {
  const pages: ModePageData[] = [];
  let at = 0;
  while (at + 2 <= bytes.length) {
    const hasSubpage = hasBit(bytes, at, 0x40);
    const headerBytes = hasSubpage ? 4 : 2;
    const lengthBytes = hasSubpage ? u16At(bytes, at + 2) : byteAt(bytes, at + 1);
    const end = at + headerBytes + lengthBytes;
    if (end > bytes.length) break;
    pages.push({
      page: byteAt(bytes, at) & 0x3f,
      subpage: hasSubpage ? byteAt(bytes, at + 1) : 0,
      isSaveable: hasBit(bytes, at, 0x80),
      parameters: Buffer.from(bytes.subarray(at + headerBytes, end)),
    });
    at = end;
  }
  return pages;
}

function encodePage({ page, subpage, isSaveable, parameters }: ModePageData): Buffer {
  const first = (isSaveable ? 0x80 : 0) | (page & 0x3f);
  const header =
    subpage === 0
      ? Buffer.from([first, parameters.length])
      : Buffer.from([first | 0x40, subpage, parameters.length >>> 8, parameters.length & 0xff]);
  return Buffer.concat([header, parameters]);
}
