import { assert, unreachable } from "../base/assert.js";
import { MAX_AHS_BYTES, MAX_DATA_SEGMENT_BYTES, PDU_SLAB_BYTES, SMALL_DATA_SEGMENT_BYTES } from "../base/limits.js";
import { ahsBytesOf, writeAhs } from "./ahs.js";
import { BHS_BYTES } from "./constants.js";
import { crc32c, crc32cRange } from "./crc32c.js";
import { NO_DATA, paddingBytes } from "./header.js";
import type { Pdu } from "./pdu.js";
import { writeAsyncMessage } from "./pdus/async-message.js";
import { writeLoginRequest, writeLoginResponse } from "./pdus/login.js";
import { writeLogoutRequest, writeLogoutResponse } from "./pdus/logout.js";
import { writeNopIn, writeNopOut } from "./pdus/nop.js";
import { writeReadyToTransfer } from "./pdus/ready-to-transfer.js";
import { writeReject } from "./pdus/reject.js";
import { writeScsiCommand, writeScsiResponse } from "./pdus/scsi-command.js";
import { writeScsiDataIn, writeScsiDataOut } from "./pdus/scsi-data.js";
import { writeSnackRequest } from "./pdus/snack-request.js";
import { writeTaskManagementRequest, writeTaskManagementResponse } from "./pdus/task-management.js";
import { writeTextRequest, writeTextResponse } from "./pdus/text.js";

/** Which digests (CRC32C, RFC 7143 §11.2.3) go with every PDU of one direction. */
export interface DigestUse {
  readonly header: boolean;
  readonly data: boolean;
}

/** What holds until the login ends, and after it unless the two sides agreed on digests (§13.1). */
export const NO_DIGESTS: DigestUse = Object.freeze({ header: false, data: false });

const DIGEST_BYTES = 4;

/** Three bytes of padding and a digest. */
const MAX_TRAILER_BYTES = 8;

/**
 * One PDU as a gather list: header (with AHS and header digest), data segment (the caller's own buffer, not copied:
 * it must not change until the bytes are sent), padding and data digest. Parts without bytes are left out.
 *
 * Writes what it is given, without judging it: a test that plays a broken peer needs that. Values that do not fit
 * their field raise RangeError.
 */
export function encodePdu(pdu: Pdu, digests: DigestUse): Buffer[] {
  const writer = new PduWriter(digests, { slabBytes: 0, smallDataBytes: 0 });
  writer.append(pdu);
  return writer.take();
}

export interface PduWriterOptions {
  /** Size of the slabs that headers are written into; one PDU that needs more gets its own. */
  readonly slabBytes?: number;
  /** Data segments up to this length are copied next to their header, which saves an entry in the gather list. */
  readonly smallDataBytes?: number;
}

/**
 * Collects PDUs for one gather write. Headers go into a slab one after the other, so neighbours without a large data
 * segment leave as one buffer; large data segments are borrowed, never copied, and must not change until the list
 * that `take` returned is written. A part of a slab that was handed out is never written again.
 */
export class PduWriter {
  readonly #slabBytes: number;
  readonly #smallDataBytes: number;
  #digests: DigestUse;
  #slab: Buffer = NO_DATA;
  /** Where the part of the slab starts that is not yet in the list. */
  #runStart = 0;
  #used = 0;
  #list: Buffer[] = [];
  #pendingBytes = 0;

  constructor(digests: DigestUse, options: PduWriterOptions = {}) {
    this.#digests = digests;
    this.#slabBytes = options.slabBytes ?? PDU_SLAB_BYTES;
    this.#smallDataBytes = options.smallDataBytes ?? SMALL_DATA_SEGMENT_BYTES;
  }

  /** Bytes that `take` would return now. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /** Holds from the next PDU that is appended. */
  setDigests(digests: DigestUse): void {
    this.#digests = digests;
  }

  /** Adds one PDU. Its data is borrowed (or copied when it is small); all else is copied now. */
  append(pdu: Pdu): void {
    const data = "data" in pdu ? pdu.data : NO_DATA;
    const ahsBytes = pdu.type === "scsi-command" ? ahsBytesOf(pdu) : 0;
    assert(data.length <= MAX_DATA_SEGMENT_BYTES, "a data segment's length has 24 bits");
    assert(ahsBytes <= MAX_AHS_BYTES, "TotalAHSLength has 8 bits");
    const isSmall = data.length <= this.#smallDataBytes;
    this.#reserve(BHS_BYTES + ahsBytes + DIGEST_BYTES + (isSmall ? data.length : 0) + MAX_TRAILER_BYTES);
    this.#appendHeader(pdu, ahsBytes, data.length);
    if (data.length === 0) return;
    this.#appendData(data, isSmall);
  }

  /** The bytes of all PDUs since the last call, in order; the list is the caller's. */
  take(): Buffer[] {
    this.#closeRun();
    const list = this.#list;
    this.#list = [];
    this.#pendingBytes = 0;
    return list;
  }

  #appendHeader(pdu: Pdu, ahsBytes: number, dataBytes: number): void {
    const slab = this.#slab;
    const start = this.#used;
    writeHeader(pdu, slab, start);
    slab.writeUInt32BE(((ahsBytes << 22) >>> 0) + dataBytes, start + 4);
    if (ahsBytes > 0 && pdu.type === "scsi-command") writeAhs(pdu, slab, start + BHS_BYTES);
    let end = start + BHS_BYTES + ahsBytes;
    if (this.#digests.header) {
      slab.writeUInt32LE(crc32cRange(slab, start, end), end);
      end += DIGEST_BYTES;
    }
    this.#used = end;
    this.#pendingBytes += end - start;
  }

  #appendData(data: Buffer, isSmall: boolean): void {
    if (isSmall) {
      data.copy(this.#slab, this.#used);
      this.#used += data.length;
    } else {
      this.#closeRun();
      this.#list.push(data);
    }
    const padding = paddingBytes(data.length);
    const trailerStart = this.#used;
    // The slab is zero where nothing was written, so stepping over the padding writes it.
    this.#used += padding;
    if (this.#digests.data) {
      const overData = crc32c(data);
      const digest = padding === 0 ? overData : crc32cRange(this.#slab, trailerStart, this.#used, overData);
      this.#slab.writeUInt32LE(digest, this.#used);
      this.#used += DIGEST_BYTES;
    }
    this.#pendingBytes += data.length + this.#used - trailerStart;
  }

  /** Makes sure that `neededBytes` zero bytes lie behind `#used`. */
  #reserve(neededBytes: number): void {
    if (this.#used + neededBytes <= this.#slab.length) return;
    this.#closeRun();
    this.#slab = Buffer.alloc(Math.max(this.#slabBytes, neededBytes));
    this.#runStart = 0;
    this.#used = 0;
  }

  #closeRun(): void {
    if (this.#used === this.#runStart) return;
    this.#list.push(this.#slab.subarray(this.#runStart, this.#used));
    this.#runStart = this.#used;
  }
}

/** Writes the basic header of `pdu`, all but its lengths, over zero bytes. */
function writeHeader(pdu: Pdu, bytes: Buffer, offset: number): void {
  switch (pdu.type) {
    case "scsi-command":
      writeScsiCommand(pdu, bytes, offset);
      return;
    case "scsi-data-out":
      writeScsiDataOut(pdu, bytes, offset);
      return;
    case "scsi-data-in":
      writeScsiDataIn(pdu, bytes, offset);
      return;
    case "scsi-response":
      writeScsiResponse(pdu, bytes, offset);
      return;
    case "ready-to-transfer":
      writeReadyToTransfer(pdu, bytes, offset);
      return;
    case "nop-out":
      writeNopOut(pdu, bytes, offset);
      return;
    case "nop-in":
      writeNopIn(pdu, bytes, offset);
      return;
    case "task-management-request":
      writeTaskManagementRequest(pdu, bytes, offset);
      return;
    case "task-management-response":
      writeTaskManagementResponse(pdu, bytes, offset);
      return;
    case "login-request":
      writeLoginRequest(pdu, bytes, offset);
      return;
    case "login-response":
      writeLoginResponse(pdu, bytes, offset);
      return;
    case "text-request":
      writeTextRequest(pdu, bytes, offset);
      return;
    case "text-response":
      writeTextResponse(pdu, bytes, offset);
      return;
    case "logout-request":
      writeLogoutRequest(pdu, bytes, offset);
      return;
    case "logout-response":
      writeLogoutResponse(pdu, bytes, offset);
      return;
    case "snack-request":
      writeSnackRequest(pdu, bytes, offset);
      return;
    case "async-message":
      writeAsyncMessage(pdu, bytes, offset);
      return;
    case "reject":
      writeReject(pdu, bytes, offset);
      return;
    default:
      return unreachable(pdu);
  }
}
