import { BHS_BYTES, Opcode } from "./constants.js";
import { crc32c } from "./crc32c.js";
import { ahsLengthBytes, dataSegmentLengthBytes, OPCODE_MASK } from "./header.js";

/**
 * What can be known about a basic header whose digest does not match (RFC 7143 §7.8). Two headers of 48 bytes with
 * right digests differ in at least six of their 416 bits. So a change of one bit has a pattern of its own in the
 * digest, and a header that shows this pattern either lost exactly that bit or has five or more wrong ones.
 */

const DIGEST_BYTES = 4;

export interface DamagedHeader {
  /** What the header seems to be; not to be relied upon. */
  readonly opcode: number;
  /** Where the next PDU should start: the length of this one's data segment, in bytes without padding. */
  readonly dataSegmentLength: number;
}

/** Difference in the digest, by place of the changed bit; built when the first damage is looked at. */
let places: ReadonlyMap<number, number> | undefined;

function buildPlaces(): ReadonlyMap<number, number> {
  const byDifference = new Map<number, number>();
  const header = Buffer.alloc(BHS_BYTES);
  const unchanged = crc32c(header);
  for (let place = 0; place < BHS_BYTES * 8; place += 1) {
    header[place >>> 3] = 0x80 >>> (place & 7);
    byDifference.set((crc32c(header) ^ unchanged) >>> 0, place);
    header[place >>> 3] = 0;
  }
  for (let bit = 0; bit < DIGEST_BYTES * 8; bit += 1) {
    // The digest travels with its least significant byte first.
    byDifference.set((1 << bit) >>> 0, BHS_BYTES * 8 + (bit & ~7) + (7 - (bit & 7)));
  }
  return byDifference;
}

/**
 * The one bit whose change explains why `digest` does not match the 48 bytes of `header`: 0 is the first bit on the
 * wire, 384 the first of the digest. Undefined when no single bit does. Borrows `header`.
 */
export function changedBit(header: Buffer, digest: number): number | undefined {
  places ??= buildPlaces();
  return places.get((crc32c(header) ^ digest) >>> 0);
}

/**
 * Where the PDU with this damaged header may end, or undefined when that cannot be told. `digest` is what follows the
 * 48 bytes. When one changed bit explains the damage, the length is sure, even if that bit was one of the length.
 * Otherwise it is what the header claims, and the caller has to find a good header there before it believes it. A SCSI
 * command without an explanation may have lost its additional header segments: its end is not guessed. Borrows `header`.
 */
export function assessDamage(header: Buffer, digest: number): DamagedHeader | undefined {
  const place = changedBit(header, digest);
  if (place === undefined) {
    const isEndClaimed = ahsLengthBytes(header) === 0 && opcodeOf(header) !== Opcode.scsiCommand;
    return isEndClaimed ? summaryOf(header) : undefined;
  }
  const repaired = Buffer.from(header);
  if (place < BHS_BYTES * 8) repaired.writeUInt8(repaired.readUInt8(place >>> 3) ^ (0x80 >>> (place & 7)), place >>> 3);
  // With additional header segments the digest would not have been where it was found.
  return ahsLengthBytes(repaired) === 0 ? summaryOf(repaired) : undefined;
}

function summaryOf(header: Buffer): DamagedHeader {
  return { opcode: opcodeOf(header), dataSegmentLength: dataSegmentLengthBytes(header) };
}

function opcodeOf(header: Buffer): number {
  return header.readUInt8(0) & OPCODE_MASK;
}
