import {
  MAX_NBD_OPTION_BYTES,
  MAX_NBD_OPTION_PAYLOAD_BYTES,
  MAX_NBD_OPTIONS,
  MAX_NBD_REQUEST_BYTES,
} from "../base/limits.js";
import type { BlockDevice } from "../block/device.js";
import {
  BASE_ALLOCATION,
  BASE_ALLOCATION_ID,
  HandshakeFlag,
  InfoType,
  NBD_MAGIC_HIGH,
  NBD_MAGIC_LOW,
  Option,
  OPTION_MAGIC_HIGH,
  OPTION_MAGIC_LOW,
  OPTION_REPLY_MAGIC_HIGH,
  OPTION_REPLY_MAGIC_LOW,
  OptionReply,
} from "./constants.js";
import { describeExport, findExport, transmissionFlags, type NbdExports } from "./export.js";
import { NbdError } from "./errors.js";
import { parseInfoOption, parseMetaContextOption } from "./option-payload.js";

/** How the handshake ended: in the transmission phase with a device, or with a client that left in order. */
export type HandshakeOutcome =
  | {
      readonly kind: "transmission";
      readonly exportName: string;
      readonly device: BlockDevice;
      readonly isStructured: boolean;
      readonly hasBaseAllocation: boolean;
    }
  | { readonly kind: "abort" };

export interface HandshakeProgress {
  /** To be sent, in order. */
  readonly send: readonly Buffer[];
  /** Bytes of the chunk that were used; all of them unless there is an outcome. */
  readonly usedBytes: number;
  readonly outcome: HandshakeOutcome | undefined;
}

const HIGH = 0x1_0000_0000;
const CLIENT_FLAGS_BYTES = 4;
const OPTION_HEADER_BYTES = 16;

function encodeOptionReply(option: number, type: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.alloc(20 + payload.length);
  bytes.writeUInt32BE(OPTION_REPLY_MAGIC_HIGH, 0);
  bytes.writeUInt32BE(OPTION_REPLY_MAGIC_LOW, 4);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(type, 12);
  bytes.writeUInt32BE(payload.length, 16);
  payload.copy(bytes, 20);
  return bytes;
}

function withLength(text: Buffer): Buffer {
  const bytes = Buffer.alloc(4 + text.length);
  bytes.writeUInt32BE(text.length, 0);
  text.copy(bytes, 4);
  return bytes;
}

function writeSize(bytes: Buffer, position: number, sizeBytes: number): void {
  bytes.writeUInt32BE(Math.floor(sizeBytes / HIGH), position);
  bytes.writeUInt32BE(sizeBytes % HIGH, position + 4);
}

function textInfo(type: number, text: string): Buffer {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(type, 0);
  return Buffer.concat([head, Buffer.from(text)]);
}

/**
 * The server's side of the fixed newstyle handshake, without I/O: bytes in, bytes out. One per connection.
 * `receive` throws NbdError when the peer breaks the protocol; then the connection must be closed.
 */
export class NbdHandshake {
  readonly #exports: NbdExports;
  #state: "client-flags" | "option" = "client-flags";
  #pending: Buffer = Buffer.alloc(0);
  #skipBytes = 0;
  #skippedOption = 0;
  #options = 0;
  #hasNoZeroes = false;
  #isStructured = false;
  /** The export whose `base:allocation` context was selected. */
  #contextExport: string | undefined;
  #send: Buffer[] = [];
  #outcome: HandshakeOutcome | undefined;

  constructor(options: { readonly exports: NbdExports }) {
    this.#exports = options.exports;
  }

  /** What the server says first. */
  greeting(): Buffer {
    const bytes = Buffer.alloc(18);
    bytes.writeUInt32BE(NBD_MAGIC_HIGH, 0);
    bytes.writeUInt32BE(NBD_MAGIC_LOW, 4);
    bytes.writeUInt32BE(OPTION_MAGIC_HIGH, 8);
    bytes.writeUInt32BE(OPTION_MAGIC_LOW, 12);
    bytes.writeUInt16BE(HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES, 16);
    return bytes;
  }

  /** Takes bytes from the client; `chunk` is borrowed for the call. */
  receive(chunk: Buffer): HandshakeProgress {
    this.#send = [];
    const bytes = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    let position = 0;
    while (this.#outcome === undefined) {
      const taken = this.#take(bytes, position);
      if (taken === 0) break;
      position += taken;
    }
    const carriedBytes = bytes.length - chunk.length;
    this.#pending = this.#outcome === undefined ? Buffer.from(bytes.subarray(position)) : Buffer.alloc(0);
    const usedBytes = this.#outcome === undefined ? chunk.length : position - carriedBytes;
    return { send: this.#send, usedBytes, outcome: this.#outcome };
  }

  /** Takes one unit at `position` and returns its length; 0 when it is not complete yet. */
  #take(bytes: Buffer, position: number): number {
    const available = bytes.length - position;
    if (this.#skipBytes > 0) return this.#skip(available);
    if (this.#state === "client-flags") return this.#takeClientFlags(bytes, position, available);
    if (available < OPTION_HEADER_BYTES) return 0;
    if (bytes.readUInt32BE(position) !== OPTION_MAGIC_HIGH || bytes.readUInt32BE(position + 4) !== OPTION_MAGIC_LOW) {
      throw new NbdError("NBD_BAD_MAGIC", "the client's option does not start with IHAVEOPT; it does not speak NBD");
    }
    const option = bytes.readUInt32BE(position + 8);
    const lengthBytes = bytes.readUInt32BE(position + 12);
    if (lengthBytes > MAX_NBD_OPTION_PAYLOAD_BYTES) {
      this.#countOption();
      this.#skipBytes = lengthBytes;
      this.#skippedOption = option;
      return OPTION_HEADER_BYTES;
    }
    if (available < OPTION_HEADER_BYTES + lengthBytes) return 0;
    this.#countOption();
    const start = position + OPTION_HEADER_BYTES;
    this.#handleOption(option, bytes.subarray(start, start + lengthBytes));
    return OPTION_HEADER_BYTES + lengthBytes;
  }

  #skip(available: number): number {
    const skipped = Math.min(this.#skipBytes, available);
    this.#skipBytes -= skipped;
    if (this.#skipBytes === 0) {
      if (this.#skippedOption === Option.EXPORT_NAME) throw this.#unknownExport("with so long a name");
      this.#reply(this.#skippedOption, OptionReply.ERR_TOO_BIG);
    }
    return skipped;
  }

  #takeClientFlags(bytes: Buffer, position: number, available: number): number {
    if (available < CLIENT_FLAGS_BYTES) return 0;
    const flags = bytes.readUInt32BE(position);
    const known = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES;
    if ((flags & ~known) !== 0 || (flags & HandshakeFlag.FIXED_NEWSTYLE) === 0) {
      throw new NbdError("NBD_BAD_CLIENT_FLAGS", `the client's flags 0x${flags.toString(16)} are not fixed newstyle`);
    }
    this.#hasNoZeroes = (flags & HandshakeFlag.NO_ZEROES) !== 0;
    this.#state = "option";
    return CLIENT_FLAGS_BYTES;
  }

  #countOption(): void {
    this.#options += 1;
    if (this.#options > MAX_NBD_OPTIONS) {
      throw new NbdError("NBD_TOO_MANY_OPTIONS", `the client sent more than ${MAX_NBD_OPTIONS} options`);
    }
  }

  #reply(option: number, type: number, payload?: Buffer): void {
    this.#send.push(encodeOptionReply(option, type, payload));
  }

  #refuse(option: number, type: number, reason: string): void {
    this.#reply(option, type, Buffer.from(reason));
  }

  #unknownExport(which: string): NbdError {
    return new NbdError("NBD_UNKNOWN_EXPORT", `the client asked for an export ${which}; it is not served here`);
  }

  #handleOption(option: number, payload: Buffer): void {
    switch (option) {
      case Option.EXPORT_NAME: {
        this.#exportName(payload);
        return;
      }
      case Option.ABORT:
        this.#reply(option, OptionReply.ACK);
        this.#outcome = { kind: "abort" };
        return;
      case Option.LIST: {
        this.#list(payload);
        return;
      }
      case Option.INFO:
      case Option.GO: {
        this.#infoOrGo(option, payload);
        return;
      }
      case Option.STRUCTURED_REPLY: {
        this.#structuredReply(payload);
        return;
      }
      case Option.LIST_META_CONTEXT:
      case Option.SET_META_CONTEXT: {
        this.#metaContext(option, payload);
        return;
      }
      default: {
        this.#refuse(option, OptionReply.ERR_UNSUP, "option not supported");
        return;
      }
    }
  }

  /** The one option that cannot be refused: an unknown name ends the connection. */
  #exportName(payload: Buffer): void {
    const name = payload.toString("utf8");
    const found = findExport(this.#exports, name);
    if (found === undefined) throw this.#unknownExport(`named "${name.slice(0, 200)}"`);
    const { info } = found.device;
    const bytes = Buffer.alloc(this.#hasNoZeroes ? 10 : 134);
    writeSize(bytes, 0, info.sizeBytes);
    bytes.writeUInt16BE(transmissionFlags(info, { isStructured: this.#isStructured }), 8);
    this.#send.push(bytes);
    this.#enterTransmission(found);
  }

  #list(payload: Buffer): void {
    if (payload.length > 0) {
      this.#refuse(Option.LIST, OptionReply.ERR_INVALID, "LIST takes no data");
      return;
    }
    for (const name of this.#exports.keys()) {
      this.#reply(Option.LIST, OptionReply.SERVER, withLength(Buffer.from(name)));
    }
    this.#reply(Option.LIST, OptionReply.ACK);
  }

  #infoOrGo(option: typeof Option.INFO | typeof Option.GO, payload: Buffer): void {
    const request = parseInfoOption(payload);
    if (request === undefined) {
      this.#refuse(option, OptionReply.ERR_INVALID, "malformed INFO or GO");
      return;
    }
    const found = findExport(this.#exports, request.exportName);
    if (found === undefined) {
      this.#refuse(option, OptionReply.ERR_UNKNOWN, "no such export");
      return;
    }
    const { info } = found.device;
    const size = Buffer.alloc(12);
    size.writeUInt16BE(InfoType.EXPORT, 0);
    writeSize(size, 2, info.sizeBytes);
    size.writeUInt16BE(transmissionFlags(info, { isStructured: this.#isStructured }), 10);
    this.#reply(option, OptionReply.INFO, size);
    const blocks = Buffer.alloc(14);
    blocks.writeUInt16BE(InfoType.BLOCK_SIZE, 0);
    blocks.writeUInt32BE(info.logicalBlockBytes, 2);
    blocks.writeUInt32BE(Math.max(4096, info.physicalBlockBytes), 6);
    blocks.writeUInt32BE(MAX_NBD_REQUEST_BYTES, 10);
    this.#reply(option, OptionReply.INFO, blocks);
    if (request.infoTypes.includes(InfoType.NAME)) {
      this.#reply(option, OptionReply.INFO, textInfo(InfoType.NAME, found.name));
    }
    if (request.infoTypes.includes(InfoType.DESCRIPTION)) {
      const text = describeExport(info).slice(0, MAX_NBD_OPTION_BYTES / 4);
      this.#reply(option, OptionReply.INFO, textInfo(InfoType.DESCRIPTION, text));
    }
    this.#reply(option, OptionReply.ACK);
    if (option === Option.GO) this.#enterTransmission(found);
  }

  #structuredReply(payload: Buffer): void {
    if (payload.length > 0) {
      this.#refuse(Option.STRUCTURED_REPLY, OptionReply.ERR_INVALID, "STRUCTURED_REPLY takes no data");
      return;
    }
    this.#isStructured = true;
    this.#reply(Option.STRUCTURED_REPLY, OptionReply.ACK);
  }

  #metaContext(option: typeof Option.LIST_META_CONTEXT | typeof Option.SET_META_CONTEXT, payload: Buffer): void {
    const isSet = option === Option.SET_META_CONTEXT;
    // A later SET replaces the selection of an earlier one, even when it fails.
    if (isSet) this.#contextExport = undefined;
    const request = parseMetaContextOption(payload);
    if (request === undefined || !this.#isStructured) {
      this.#refuse(option, OptionReply.ERR_INVALID, "malformed, or structured replies were not negotiated");
      return;
    }
    const found = findExport(this.#exports, request.exportName);
    if (found === undefined) {
      this.#refuse(option, OptionReply.ERR_UNKNOWN, "no such export");
      return;
    }
    const wildcards = isSet ? [] : ["base:"];
    const isAsked =
      request.queries.some((query) => query === BASE_ALLOCATION || wildcards.includes(query)) ||
      (!isSet && request.queries.length === 0);
    if (isAsked && found.device.info.canReportBlockStatus) {
      const context = Buffer.alloc(4 + BASE_ALLOCATION.length);
      context.writeUInt32BE(BASE_ALLOCATION_ID, 0);
      context.write(BASE_ALLOCATION, 4, "latin1");
      this.#reply(option, OptionReply.META_CONTEXT, context);
      if (isSet) this.#contextExport = found.name;
    }
    this.#reply(option, OptionReply.ACK);
  }

  #enterTransmission(found: { readonly name: string; readonly device: BlockDevice }): void {
    this.#outcome = {
      kind: "transmission",
      exportName: found.name,
      device: found.device,
      isStructured: this.#isStructured,
      hasBaseAllocation: this.#isStructured && this.#contextExport === found.name,
    };
  }
}
