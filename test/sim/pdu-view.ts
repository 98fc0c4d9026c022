import { crc32c } from "../../src/wire/crc32c.js";

/** Opcodes as RFC 7143 §11.2.1.2 has them; written out here so that the checkers share no table with the product. */
export const Op = {
  nopOut: 0x00,
  command: 0x01,
  taskManagement: 0x02,
  login: 0x03,
  text: 0x04,
  dataOut: 0x05,
  logout: 0x06,
  snack: 0x10,
  nopIn: 0x20,
  response: 0x21,
  taskManagementResponse: 0x22,
  loginResponse: 0x23,
  textResponse: 0x24,
  dataIn: 0x25,
  logoutResponse: 0x26,
  r2t: 0x31,
  async: 0x32,
  reject: 0x3f,
} as const;

export const NONE = 0xffff_ffff;
const HEADER_BYTES = 48;
const DIGEST_BYTES = 4;

const names = new Map<number, string>(Object.entries(Op).map(([name, opcode]) => [opcode, name]));

export function opcodeName(opcode: number): string {
  return names.get(opcode) ?? `0x${opcode.toString(16)}`;
}

export interface Digests {
  readonly header: boolean;
  readonly data: boolean;
}

/** One PDU as it stands in `bytes`: header, additional headers, digests, data and padding. */
export class PduView {
  readonly bytes: Buffer;
  readonly digests: Digests;

  constructor(bytes: Buffer, digests: Digests) {
    this.bytes = bytes;
    this.digests = digests;
  }

  u8(offset: number): number {
    return this.bytes.readUInt8(offset);
  }

  u32(offset: number): number {
    return this.bytes.readUInt32BE(offset);
  }

  get opcode(): number {
    return this.u8(0) & 0x3f;
  }
  get isImmediate(): boolean {
    return (this.u8(0) & 0x40) !== 0;
  }
  /** F, or T of a login. */
  get isFinal(): boolean {
    return (this.u8(1) & 0x80) !== 0;
  }
  get dataLength(): number {
    return this.u32(4) & 0xff_ffff;
  }
  get ahsLength(): number {
    return this.u8(4) * 4;
  }
  get tag(): number {
    return this.u32(16);
  }
  /** TTT of the PDUs that have one, the referenced tag of a task management request, the length of a command. */
  get word20(): number {
    return this.u32(20);
  }
  /** CmdSN of an initiator's, StatSN of a target's. */
  get word24(): number {
    return this.u32(24);
  }
  /** ExpStatSN of an initiator's, ExpCmdSN of a target's. */
  get word28(): number {
    return this.u32(28);
  }
  get maxCmdSn(): number {
    return this.u32(32);
  }
  /** DataSN, R2TSN, ExpDataSN. */
  get word36(): number {
    return this.u32(36);
  }
  get bufferOffset(): number {
    return this.u32(40);
  }
  get word44(): number {
    return this.u32(44);
  }

  get isFromTarget(): boolean {
    return (this.opcode & 0x20) !== 0;
  }

  get headerEnd(): number {
    return HEADER_BYTES + this.ahsLength + (this.digests.header ? DIGEST_BYTES : 0);
  }

  get data(): Buffer {
    const start = this.headerEnd;
    return this.bytes.subarray(start, start + this.dataLength);
  }

  /** `key=value` pairs of a login or text PDU that is not continued. */
  pairs(): [string, string][] {
    return this.data
      .toString("utf8")
      .split("\0")
      .filter((text) => text !== "")
      .map((text) => {
        const at = text.indexOf("=");
        return [text.slice(0, at), text.slice(at + 1)];
      });
  }

  /** Can the length be trusted, and so everything behind it? */
  get isHeaderIntact(): boolean {
    if (!this.digests.header) return true;
    // Nobody here sends additional headers: what looks like one is damage, and its digest is nowhere.
    if (this.ahsLength !== 0) return false;
    const end = HEADER_BYTES + this.ahsLength;
    return crc32c(this.bytes.subarray(0, end)) === this.bytes.readUInt32LE(end);
  }

  get isDataIntact(): boolean {
    if (!this.digests.data || this.dataLength === 0) return true;
    const end = this.headerEnd + paddedLength(this.dataLength);
    return crc32c(this.bytes.subarray(this.headerEnd, end)) === this.bytes.readUInt32LE(end);
  }

  /** A copy that may be changed; call `seal` on it afterwards. */
  copy(): PduView {
    return new PduView(Buffer.from(this.bytes), this.digests);
  }

  /** Computes the digests anew after a change. */
  seal(): this {
    const { bytes, digests } = this;
    if (digests.header) {
      const end = HEADER_BYTES + this.ahsLength;
      bytes.writeUInt32LE(crc32c(bytes.subarray(0, end)), end);
    }
    if (digests.data && this.dataLength > 0) {
      const end = this.headerEnd + paddedLength(this.dataLength);
      bytes.writeUInt32LE(crc32c(bytes.subarray(this.headerEnd, end)), end);
    }
    return this;
  }

  /** One line for a trace. */
  describe(): string {
    const tag = this.tag === NONE ? "-" : this.tag.toString(16);
    const flags = `${this.isImmediate ? "I" : ""}${this.isFinal ? "F" : ""}`;
    const words = [20, 24, 28, 32, 36, 40, 44].map((offset) => {
      const value = this.u32(offset);
      return value === NONE ? "-" : String(value);
    });
    return `${opcodeName(this.opcode)}[${flags}] itt=${tag} ${words.join(" ")} ${this.dataLength}B`;
  }
}

/** Builds a PDU of 48 header bytes and `data`. */
export function buildPdu(
  fields: { readonly opcode: number; readonly flags?: number; readonly data?: Buffer },
  words: Readonly<Record<number, number>>,
  digests: Digests,
): PduView {
  const data = fields.data ?? Buffer.alloc(0);
  const dataBytes = data.length === 0 ? 0 : paddedLength(data.length) + (digests.data ? DIGEST_BYTES : 0);
  const bytes = Buffer.alloc(HEADER_BYTES + (digests.header ? DIGEST_BYTES : 0) + dataBytes);
  bytes[0] = fields.opcode;
  bytes[1] = fields.flags ?? 0x80;
  bytes.writeUInt32BE(data.length, 4);
  for (const [offset, value] of Object.entries(words)) bytes.writeUInt32BE(value >>> 0, Number(offset));
  const view = new PduView(bytes, digests);
  data.copy(bytes, view.headerEnd);
  return view.seal();
}

export function paddedLength(lengthBytes: number): number {
  return (lengthBytes + 3) & ~3;
}

/** Bytes of a whole PDU by its first eight, with digests. */
function wholeLength(bytes: Buffer, start: number, digests: Digests): number {
  const dataLength = bytes.readUInt32BE(start + 4) & 0xff_ffff;
  const dataBytes = dataLength === 0 ? 0 : paddedLength(dataLength) + (digests.data ? DIGEST_BYTES : 0);
  return HEADER_BYTES + bytes.readUInt8(start + 4) * 4 + (digests.header ? DIGEST_BYTES : 0) + dataBytes;
}

/**
 * Cuts a stream into PDUs. Behind a header whose digest is wrong it looks for the next one whose digest is right: PDUs
 * begin at whole words (RFC 7143 §7.8 leaves it to the receiver whether it dares to).
 */
export class PduCutter {
  digests: Digests = { header: false, data: false };
  readonly #isFromTarget: boolean;
  #isSearching = false;
  #buffer: Buffer = Buffer.alloc(256);
  #filled = 0;

  constructor(isFromTarget: boolean) {
    this.#isFromTarget = isFromTarget;
  }

  /** No byte of a PDU that is not whole yet is kept. */
  get isAtBoundary(): boolean {
    return this.#filled === 0;
  }

  /** Calls `onPdu` with each PDU that is whole now, and with each damaged header; the view is valid during the call. */
  push(chunk: Buffer, onPdu: (pdu: PduView) => void): void {
    const bytes = this.#append(chunk);
    let start = 0;
    while (bytes.length - start >= HEADER_BYTES) {
      if (this.digests.header) {
        if (bytes.length - start < HEADER_BYTES + DIGEST_BYTES) break;
        const view = new PduView(bytes.subarray(start), this.digests);
        // The data of a Reject is a header of the other side, and its digest is right.
        const isOther = this.#isSearching && view.isFromTarget !== this.#isFromTarget;
        if (isOther || !view.isHeaderIntact) {
          if (!this.#isSearching) onPdu(view);
          this.#isSearching = true;
          start += 4;
          continue;
        }
        this.#isSearching = false;
      }
      const length = wholeLength(bytes, start, this.digests);
      if (bytes.length - start < length) break;
      // `onPdu` may change `digests`, with the next PDU in view.
      onPdu(new PduView(bytes.subarray(start, start + length), this.digests));
      start += length;
    }
    this.#keep(bytes, start);
  }

  /** The chunk itself where nothing waits for it; else our own buffer, grown. */
  #append(chunk: Buffer): Buffer {
    if (this.#filled === 0) return chunk;
    const length = this.#filled + chunk.length;
    if (length > this.#buffer.length) {
      const larger = Buffer.alloc(2 * length);
      this.#buffer.copy(larger, 0, 0, this.#filled);
      this.#buffer = larger;
    }
    chunk.copy(this.#buffer, this.#filled);
    this.#filled = length;
    return this.#buffer.subarray(0, length);
  }

  #keep(bytes: Buffer, start: number): void {
    const length = bytes.length - start;
    if (length > this.#buffer.length) this.#buffer = Buffer.alloc(2 * length);
    if (length > 0) bytes.copy(this.#buffer, 0, start);
    this.#filled = length;
  }
}
