import { byteAt, hasBit, readU64Rounded, requireBytes, u32At, writeU64 } from "./bytes.js";
import { ScsiError } from "./errors.js";
import { ascName } from "./sense-codes.js";

export { ascName } from "./sense-codes.js";

/** Sense keys, SPC-5 §4.4.8. */
export const SenseKey = {
  noSense: 0x0,
  recoveredError: 0x1,
  notReady: 0x2,
  mediumError: 0x3,
  hardwareError: 0x4,
  illegalRequest: 0x5,
  unitAttention: 0x6,
  dataProtect: 0x7,
  blankCheck: 0x8,
  vendorSpecific: 0x9,
  copyAborted: 0xa,
  abortedCommand: 0xb,
  volumeOverflow: 0xd,
  miscompare: 0xe,
  completed: 0xf,
} as const;
export type SenseKey = (typeof SenseKey)[keyof typeof SenseKey];

const senseKeyNames = [
  "NO SENSE",
  "RECOVERED ERROR",
  "NOT READY",
  "MEDIUM ERROR",
  "HARDWARE ERROR",
  "ILLEGAL REQUEST",
  "UNIT ATTENTION",
  "DATA PROTECT",
  "BLANK CHECK",
  "VENDOR SPECIFIC",
  "COPY ABORTED",
  "ABORTED COMMAND",
  "reserved sense key 0xc",
  "VOLUME OVERFLOW",
  "MISCOMPARE",
  "COMPLETED",
] as const;

/** The standard's name of a sense key. */
export function senseKeyName(key: number): string {
  return senseKeyNames[key & 0xf] ?? "";
}

/** SENSE KEY SPECIFIC for ILLEGAL REQUEST: which field was wrong, SPC-5 §4.4.2.4.2. */
export interface FieldPointer {
  /** In the CDB, else in the parameter data. */
  readonly isInCdb: boolean;
  readonly byteOffset: number;
  /** Most significant bit of the field, when the device tells. */
  readonly bit: number | undefined;
}

/** What a device tells about a command that did not go well, in either format. Immutable. */
export interface Sense {
  /** About an earlier command than the one it came with (71h, 73h). */
  readonly isDeferred: boolean;
  readonly key: number;
  readonly asc: number;
  readonly ascq: number;
  /** INFORMATION: usually the first bad logical block, for MISCOMPARE the offset. Absent when not valid or too large. */
  readonly information?: number;
  readonly commandSpecificInformation?: number;
  readonly fieldPointer?: FieldPointer;
  /** PROGRESS INDICATION from 0 to 1, for NOT READY. */
  readonly progress?: number;
}

/**
 * Sense data of either format (SPC-5 §4.4). Bytes beyond what the device gave count as not reported; without a sense
 * key, or with an unknown response code, it fails with ScsiError. Keeps nothing of `bytes`.
 */
export function decodeSense(bytes: Buffer): Sense {
  requireBytes(bytes, 1, "sense data");
  const responseCode = byteAt(bytes, 0) & 0x7f;
  if (responseCode === 0x70 || responseCode === 0x71) return decodeFixed(bytes, responseCode === 0x71);
  if (responseCode === 0x72 || responseCode === 0x73) return decodeDescriptor(bytes, responseCode === 0x73);
  throw new ScsiError("SCSI_DATA_INVALID", `sense data with unknown response code 0x${responseCode.toString(16)}`, {
    details: { responseCode },
  });
}

/** One line for people: `MEDIUM ERROR: unrecovered read error (3/11/00)`. */
export function describeSense(sense: Sense): string {
  const name = ascName(sense.asc, sense.ascq);
  const where = sense.information === undefined ? "" : `, information ${sense.information}`;
  return `${senseKeyName(sense.key)}: ${name} (${senseTriple(sense)})${where}`;
}

/** `3/11/00`: key, ASC and ASCQ in hexadecimal. */
export function senseTriple(sense: Pick<Sense, "key" | "asc" | "ascq">): string {
  const hex = (value: number): string => value.toString(16).padStart(2, "0").toUpperCase();
  return `${sense.key.toString(16).toUpperCase()}/${hex(sense.asc)}/${hex(sense.ascq)}`;
}

/**
 * Sense to send. Optional parts may be left out; `isDeferred` defaults to false. The caller owns the result:
 * 18 bytes in fixed format, as long as needed in descriptor format.
 */
export function encodeSense(
  sense: Omit<Sense, "isDeferred"> & { readonly isDeferred?: boolean },
  format: "fixed" | "descriptor" = "fixed",
): Buffer {
  return format === "fixed" ? encodeFixed(sense) : encodeDescriptor(sense);
}

type SenseInput = Parameters<typeof encodeSense>[0];

function decodeFixed(bytes: Buffer, isDeferred: boolean): Sense {
  requireBytes(bytes, 3, "fixed format sense data");
  // ADDITIONAL SENSE LENGTH bounds what is valid, when it is there at all.
  const end = bytes.length < 8 ? bytes.length : Math.min(bytes.length, 8 + byteAt(bytes, 7));
  const valid = bytes.subarray(0, end);
  const key = byteAt(valid, 2) & 0x0f;
  const commandSpecific = u32At(valid, 8);
  return {
    isDeferred,
    key,
    asc: byteAt(valid, 12),
    ascq: byteAt(valid, 13),
    ...(hasBit(valid, 0, 0x80) && valid.length >= 7 ? { information: valid.readUInt32BE(3) } : {}),
    ...(commandSpecific === 0 ? {} : { commandSpecificInformation: commandSpecific }),
    ...(valid.length >= 18 ? decodeKeySpecific(key, valid.subarray(15, 18)) : {}),
  };
}

function decodeDescriptor(bytes: Buffer, isDeferred: boolean): Sense {
  requireBytes(bytes, 4, "descriptor format sense data");
  const key = byteAt(bytes, 1) & 0x0f;
  const sense: Sense = { isDeferred, key, asc: byteAt(bytes, 2), ascq: byteAt(bytes, 3) };
  const end = bytes.length < 8 ? bytes.length : Math.min(bytes.length, 8 + byteAt(bytes, 7));
  let parts: Partial<Sense> = {};
  // Each step moves by at least two bytes, so the walk ends.
  for (let at = 8; at + 2 <= end; at += 2 + byteAt(bytes, at + 1)) {
    const descriptor = bytes.subarray(at, at + 2 + byteAt(bytes, at + 1));
    if (at + descriptor.length > end || descriptor.length < 2 + byteAt(bytes, at + 1)) break;
    parts = { ...parts, ...decodeSenseDescriptor(key, descriptor) };
  }
  return { ...sense, ...parts };
}

/** One sense data descriptor: 00h information, 01h command specific, 02h sense key specific; others say nothing here. */
function decodeSenseDescriptor(key: number, descriptor: Buffer): Partial<Sense> {
  const type = byteAt(descriptor, 0);
  if (type === 0 && descriptor.length >= 12 && hasBit(descriptor, 2, 0x80)) {
    const information = readU64Rounded(descriptor, 4);
    return Number.isSafeInteger(information) ? { information } : {};
  }
  if (type === 1 && descriptor.length >= 12) {
    const value = readU64Rounded(descriptor, 4);
    return Number.isSafeInteger(value) ? { commandSpecificInformation: value } : {};
  }
  if (type === 2 && descriptor.length >= 7) return decodeKeySpecific(key, descriptor.subarray(4, 7));
  return {};
}

/** Three bytes of SENSE KEY SPECIFIC data; their meaning depends on the key (SPC-5 §4.4.2.4). */
function decodeKeySpecific(key: number, field: Buffer): Pick<Sense, "fieldPointer" | "progress"> {
  if (!hasBit(field, 0, 0x80)) return {};
  if (key === SenseKey.illegalRequest) {
    const flags = byteAt(field, 0);
    return {
      fieldPointer: {
        isInCdb: (flags & 0x40) !== 0,
        byteOffset: field.readUInt16BE(1),
        bit: (flags & 0x08) === 0 ? undefined : flags & 0x07,
      },
    };
  }
  if (key === SenseKey.notReady || key === SenseKey.noSense) return { progress: field.readUInt16BE(1) / 65_536 };
  return {};
}

function encodeFixed(sense: SenseInput): Buffer {
  const bytes = Buffer.alloc(18);
  bytes[0] = sense.isDeferred === true ? 0x71 : 0x70;
  if (sense.information !== undefined && sense.information <= 0xffff_ffff) {
    bytes[0] |= 0x80;
    bytes.writeUInt32BE(sense.information, 3);
  }
  bytes[2] = sense.key;
  bytes[7] = 10;
  bytes.writeUInt32BE(Math.min(sense.commandSpecificInformation ?? 0, 0xffff_ffff), 8);
  bytes[12] = sense.asc;
  bytes[13] = sense.ascq;
  encodeKeySpecific(sense)?.copy(bytes, 15);
  return bytes;
}

function encodeDescriptor(sense: SenseInput): Buffer {
  const parts: Buffer[] = [
    Buffer.from([sense.isDeferred === true ? 0x73 : 0x72, sense.key, sense.asc, sense.ascq, 0, 0, 0, 0]),
  ];
  if (sense.information !== undefined) parts.push(numberDescriptor(0, 0x80, sense.information));
  if (sense.commandSpecificInformation !== undefined) {
    parts.push(numberDescriptor(1, 0, sense.commandSpecificInformation));
  }
  const keySpecific = encodeKeySpecific(sense);
  if (keySpecific !== undefined) parts.push(Buffer.concat([Buffer.from([2, 6, 0, 0]), keySpecific, Buffer.alloc(1)]));
  const bytes = Buffer.concat(parts);
  bytes[7] = bytes.length - 8;
  return bytes;
}

function numberDescriptor(type: number, flags: number, value: number): Buffer {
  const descriptor = Buffer.alloc(12);
  descriptor[0] = type;
  descriptor[1] = 10;
  descriptor[2] = flags;
  writeU64(value, descriptor, 4);
  return descriptor;
}

function encodeKeySpecific(sense: SenseInput): Buffer | undefined {
  const field = Buffer.alloc(3);
  if (sense.fieldPointer !== undefined) {
    const { isInCdb, bit, byteOffset } = sense.fieldPointer;
    field[0] = 0x80 | (isInCdb ? 0x40 : 0) | (bit === undefined ? 0 : 0x08 | (bit & 7));
    field.writeUInt16BE(byteOffset & 0xffff, 1);
    return field;
  }
  if (sense.progress === undefined) return undefined;
  field[0] = 0x80;
  field.writeUInt16BE(Math.max(0, Math.min(65_535, Math.floor(sense.progress * 65_536))), 1);
  return field;
}
