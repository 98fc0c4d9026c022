import { BHS_BYTES, Opcode } from "./constants.js";
import { crc32c, crc32cRange } from "./crc32c.js";
import type { DigestUse } from "./encode.js";
import { DigestError, fieldInvalid, ProtocolError } from "./errors.js";
import { assessDamage } from "./header-damage.js";
import { ahsLengthBytes, dataSegmentLengthBytes, NO_DATA, OPCODE_MASK, paddingBytes } from "./header.js";

export interface FramerOptions {
  /** Longest data segment that is accepted, in bytes: what we declared as MaxRecvDataSegmentLength (§13.12). */
  readonly maxDataSegmentLength: number;
  readonly digests: DigestUse;
  /** See `setResynchronise`; false when left out. */
  readonly resynchronise?: boolean;
}

/**
 * A PDU that was dropped because its header was damaged. All facts come from that header: use them as hints only. When
 * several bits of its length were changed, PDUs behind it may be gone with it: numbers that are missing tell.
 */
export interface DroppedPdu {
  readonly opcode: number;
  /** All that was dropped, with digests and padding. */
  readonly skippedBytes: number;
}

/** One PDU as it came. Valid during the callback, except `ahs` and `data`: see there. */
export interface RawPdu {
  /** The 48 bytes of the basic header; used again for the next PDU. */
  readonly header: Buffer;
  /** All additional header segments, in a buffer of their own that the receiver may keep. */
  readonly ahs: Buffer | undefined;
  /** The data segment without padding: where `placeData` wanted it, else in a fresh buffer that is the receiver's. */
  readonly data: Buffer;
  /** False when a data digest is in use and does not match: the data must not be used (§7.8). */
  readonly isDataDigestGood: boolean;
}

export interface FramerHandler {
  /**
   * The header (and AHS) is complete and its digest is good. Returns where the data segment shall go, a buffer of at
   * least `dataSegmentLength` bytes that the framer fills from its start, or undefined for a fresh buffer that the
   * receiver will own. Not called for a PDU without data segment. May throw: the error passes through `push`.
   */
  placeData(header: Buffer, dataSegmentLength: number): Buffer | undefined;
  /** A whole PDU. May throw, and may call every method of the framer but `push`. */
  onPdu(pdu: RawPdu): void;
  /**
   * A PDU was dropped because of its header digest, and the stream is known again: the PDU behind it comes next.
   * May do what `onPdu` may.
   */
  onHeaderDigestError?(dropped: DroppedPdu): void;
}

type Phase = "header" | "ahs" | "header-digest" | "data" | "trailer" | "skip" | "dead";

const DIGEST_BYTES = 4;

/**
 * Cuts a byte stream into PDUs (RFC 7143 §11.2). Sans-I/O: feed it what arrives, in any pieces. Every payload byte is
 * copied once, from the chunk to its destination; lengths are checked before anything is allocated.
 */
export class Framer {
  readonly #handler: FramerHandler;
  readonly #header: Buffer = Buffer.alloc(BHS_BYTES);
  readonly #digest: Buffer = Buffer.alloc(DIGEST_BYTES);
  /** Padding and data digest. */
  readonly #trailer: Buffer = Buffer.alloc(3 + DIGEST_BYTES);
  #maxDataSegmentLength: number;
  #digests: DigestUse;
  /** What is in use for the PDU at hand: a change in the middle holds from the next one. */
  #pduDigests: DigestUse;
  #phase: Phase = "header";
  /** Bytes of the current phase that have arrived. */
  #filled = 0;
  #ahs: Buffer | undefined;
  #dataLength = 0;
  #data: Buffer = NO_DATA;
  #dataCrc = 0;
  #trailerLength = 0;
  #isResynchroniseOn: boolean;
  /** The PDU with the damaged header, until the next header has proved where it ended. */
  #dropped: DroppedPdu | undefined;
  /** Bytes of it that are still to come, by hypothesis. */
  #skipLength = 0;
  /** Counts resets, so that `push` notices one that a callback made. */
  #epoch = 0;
  #isPushing = false;

  constructor(options: FramerOptions, handler: FramerHandler) {
    this.#handler = handler;
    this.#maxDataSegmentLength = options.maxDataSegmentLength;
    this.#digests = options.digests;
    this.#pduDigests = options.digests;
    this.#isResynchroniseOn = options.resynchronise ?? false;
  }

  /** Holds from the next PDU on, even one in the same chunk. */
  setDigests(digests: DigestUse): void {
    this.#digests = digests;
  }

  /** Holds from the next header on. */
  setMaxDataSegmentLength(lengthBytes: number): void {
    this.#maxDataSegmentLength = lengthBytes;
  }

  /**
   * What a wrong header digest does. Off: `push` throws. On: the PDU is dropped and the search for the next one begins
   * (RFC 7143 §7.8): where the damaged header lets the PDU end there must be a header whose own digest is good, or
   * `push` throws after all. Only for sessions that can do without a PDU: ErrorRecoveryLevel 1 and up (§7.1.4).
   */
  setResynchronise(isOn: boolean): void {
    this.#isResynchroniseOn = isOn;
  }

  /**
   * Is the framer behind a damaged header and not yet at a good one? Nothing is delivered meanwhile, and a damaged
   * length can make this last until the peer sends more: bound the wait, and make the peer talk (a ping).
   */
  get isResynchronising(): boolean {
    return this.#dropped !== undefined;
  }

  /** Is nothing of a PDU waiting for its rest? The end of the stream is clean only then. */
  get isAtBoundary(): boolean {
    return this.#phase === "header" && this.#filled === 0 && this.#dropped === undefined;
  }

  /** Forgets a PDU begun, and lives again after an error. Called in a callback, it drops the rest of the chunk. */
  reset(): void {
    this.#epoch += 1;
    this.#isPushing = false;
    this.#dropped = undefined;
    this.#beginPdu();
  }

  /**
   * The place given for the data segment that is being received is no longer its receiver's to fill: what is to come goes
   * into a fresh buffer, and the PDU is delivered with that.
   */
  divertData(): void {
    if (this.#phase === "data" || this.#phase === "trailer") this.#data = Buffer.alloc(this.#dataLength);
  }

  /**
   * Takes the next bytes of the stream and calls the handler for each PDU they complete. Borrows `chunk`: nothing of
   * it is kept. Throws ProtocolError (data segment too long, AHS where none may be), DigestError (header digest; see
   * `setResynchronise`), or what the handler throws; after that the framer is dead, since where the next PDU starts is
   * not known (§7.8), and every further push throws ProtocolError `FRAMER_DEAD` until `reset`.
   */
  push(chunk: Buffer): void {
    if (this.#isPushing || this.#phase === "dead") {
      throw new ProtocolError("FRAMER_DEAD", "bytes arrived after the stream had failed; open a new connection", {
        section: "RFC 7143 §7.8",
      });
    }
    const epoch = this.#epoch;
    this.#isPushing = true;
    let isDone = false;
    try {
      let position = 0;
      while (position < chunk.length && this.#epoch === epoch) position = this.#step(chunk, position);
      isDone = true;
    } finally {
      if (!isDone) this.#phase = "dead";
      this.#isPushing = false;
    }
  }

  /** Consumes bytes for one phase; returns where the next one starts. */
  #step(chunk: Buffer, position: number): number {
    switch (this.#phase) {
      case "header":
        return this.#stepHeader(chunk, position);
      case "ahs":
        return this.#stepAhs(chunk, position);
      case "header-digest":
        return this.#stepHeaderDigest(chunk, position);
      case "data":
        return this.#stepData(chunk, position);
      case "trailer":
        return this.#stepTrailer(chunk, position);
      case "skip":
        return this.#stepSkip(chunk, position);
      case "dead":
        return chunk.length;
    }
  }

  /** Copies into a small buffer of our own; true when it holds `length` bytes. */
  #fill(target: Buffer, length: number, chunk: Buffer, position: number): number {
    const count = Math.min(length - this.#filled, chunk.length - position);
    // At most a header: a loop costs less than the views that copy() makes.
    for (let index = 0; index < count; index += 1) {
      target[this.#filled + index] = chunk[position + index] ?? 0;
    }
    this.#filled += count;
    return count;
  }

  #stepHeader(chunk: Buffer, position: number): number {
    const next = position + this.#fill(this.#header, BHS_BYTES, chunk, position);
    if (this.#filled < BHS_BYTES) return next;
    this.#filled = 0;
    // A header that shall prove where it starts has to have a digest.
    if (this.#dropped === undefined) this.#pduDigests = this.#digests;
    const ahsLength = ahsLengthBytes(this.#header);
    // Where no AHS may be, a length of one is damage more often than not: the digest that follows now shows it.
    if (ahsLength > 0 && (this.#opcode() === Opcode.scsiCommand || !this.#pduDigests.header)) {
      this.#ahs = Buffer.alloc(ahsLength);
      this.#phase = "ahs";
    } else if (this.#pduDigests.header) {
      this.#phase = "header-digest";
    } else {
      this.#headerComplete();
    }
    return next;
  }

  #stepAhs(chunk: Buffer, position: number): number {
    const ahs = this.#ahs ?? NO_DATA;
    const next = position + this.#fill(ahs, ahs.length, chunk, position);
    if (this.#filled < ahs.length) return next;
    this.#filled = 0;
    if (this.#pduDigests.header) this.#phase = "header-digest";
    else this.#headerComplete();
    return next;
  }

  #stepHeaderDigest(chunk: Buffer, position: number): number {
    const next = position + this.#fill(this.#digest, DIGEST_BYTES, chunk, position);
    if (this.#filled < DIGEST_BYTES) return next;
    this.#filled = 0;
    let crc = crc32c(this.#header);
    if (this.#ahs !== undefined) crc = crc32c(this.#ahs, crc);
    if (crc !== this.#digest.readUInt32LE(0)) {
      this.#headerDamaged();
      return next;
    }
    if (this.#dropped !== undefined && !this.#isFoundAgain(this.#dropped)) return next;
    this.#headerComplete();
    return next;
  }

  /** Drops the PDU if its end can be guessed, and if none was dropped right before it; throws otherwise. */
  #headerDamaged(): void {
    const damage =
      this.#isResynchroniseOn && this.#dropped === undefined && this.#ahs === undefined
        ? assessDamage(this.#header, this.#digest.readUInt32LE(0))
        : undefined;
    if (damage === undefined || damage.dataSegmentLength > this.#maxDataSegmentLength) {
      throw new DigestError("HEADER_DIGEST_MISMATCH", "the header digest does not match; the connection must close", {
        opcode: this.#opcode(),
      });
    }
    const { opcode, dataSegmentLength } = damage;
    const digestBytes = this.#pduDigests.data && dataSegmentLength > 0 ? DIGEST_BYTES : 0;
    this.#skipLength = dataSegmentLength + paddingBytes(dataSegmentLength) + digestBytes;
    this.#dropped = { opcode, skippedBytes: BHS_BYTES + DIGEST_BYTES + this.#skipLength };
    this.#phase = this.#skipLength > 0 ? "skip" : "header";
  }

  #stepSkip(chunk: Buffer, position: number): number {
    const count = Math.min(this.#skipLength, chunk.length - position);
    this.#skipLength -= count;
    if (this.#skipLength === 0) this.#phase = "header";
    return position + count;
  }

  /** A good header stands where `dropped` was to end. False when the receiver, told of it, reset the framer. */
  #isFoundAgain(dropped: DroppedPdu): boolean {
    this.#dropped = undefined;
    this.#pduDigests = this.#digests;
    const epoch = this.#epoch;
    this.#handler.onHeaderDigestError?.(dropped);
    return this.#epoch === epoch;
  }

  #headerComplete(): void {
    const header = this.#header;
    if (ahsLengthBytes(header) !== 0 && this.#opcode() !== Opcode.scsiCommand) {
      throw fieldInvalid(this.#opcode(), "11.2.1.5", "TotalAHSLength is not 0 in a PDU that has no AHS");
    }
    const length = dataSegmentLengthBytes(header);
    if (length === 0) {
      this.#deliver(NO_DATA, true);
      return;
    }
    if (length > this.#maxDataSegmentLength) {
      throw new ProtocolError(
        "DATA_SEGMENT_TOO_LONG",
        `a data segment of ${length} bytes is longer than the ${this.#maxDataSegmentLength} we declared`,
        { section: "RFC 7143 §13.12", opcode: this.#opcode() },
      );
    }
    const epoch = this.#epoch;
    const placed = this.#handler.placeData(header, length);
    if (this.#epoch !== epoch) return;
    if (placed !== undefined && placed.length < length) {
      throw new ProtocolError("DATA_PLACE_TOO_SHORT", `${length} bytes do not fit in the ${placed.length} given`, {
        section: "RFC 7143 §11.7.6",
        opcode: this.#opcode(),
      });
    }
    this.#data = placed ?? Buffer.allocUnsafeSlow(length);
    this.#dataLength = length;
    this.#dataCrc = 0;
    this.#trailerLength = paddingBytes(length) + (this.#pduDigests.data ? DIGEST_BYTES : 0);
    this.#phase = "data";
  }

  #stepData(chunk: Buffer, position: number): number {
    const count = Math.min(this.#dataLength - this.#filled, chunk.length - position);
    const piece = count === chunk.length ? chunk : chunk.subarray(position, position + count);
    this.#data.set(piece, this.#filled);
    if (this.#pduDigests.data) this.#dataCrc = crc32c(piece, this.#dataCrc);
    this.#filled += count;
    if (this.#filled === this.#dataLength) {
      this.#filled = 0;
      if (this.#trailerLength > 0) this.#phase = "trailer";
      else this.#deliver(this.#takeData(), true);
    }
    return position + count;
  }

  #stepTrailer(chunk: Buffer, position: number): number {
    const length = this.#trailerLength;
    const next = position + this.#fill(this.#trailer, length, chunk, position);
    if (this.#filled < length) return next;
    this.#deliver(this.#takeData(), !this.#pduDigests.data || this.#isTrailerGood());
    return next;
  }

  /** The digest covers the padding, whatever its bytes are (§11.2.3). */
  #isTrailerGood(): boolean {
    const padding = this.#trailerLength - DIGEST_BYTES;
    return crc32cRange(this.#trailer, 0, padding, this.#dataCrc) === this.#trailer.readUInt32LE(padding);
  }

  #takeData(): Buffer {
    return this.#data.length === this.#dataLength ? this.#data : this.#data.subarray(0, this.#dataLength);
  }

  #deliver(data: Buffer, isDataDigestGood: boolean): void {
    const pdu: RawPdu = { header: this.#header, ahs: this.#ahs, data, isDataDigestGood };
    this.#beginPdu();
    this.#handler.onPdu(pdu);
  }

  #beginPdu(): void {
    this.#phase = "header";
    this.#filled = 0;
    this.#ahs = undefined;
    this.#data = NO_DATA;
  }

  #opcode(): number {
    return this.#header.readUInt8(0) & OPCODE_MASK;
  }
}
