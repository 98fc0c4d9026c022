import { REQUEST_HEADER_BYTES, REQUEST_MAGIC } from "./constants.js";

const HIGH = 0x1_0000_0000;

/**
 * ```
 *  0      4       6      8        16       24      28
 *  | magic | flags | type | cookie | offset | length |
 * ```
 * The cookie is the client's and only echoed, so it stays two halves. `offsetBytes` beyond 2^53 loses its low bits,
 * which does no harm: such an offset is outside every device.
 */
export interface NbdRequest {
  flags: number;
  type: number;
  cookieHigh: number;
  cookieLow: number;
  offsetBytes: number;
  lengthBytes: number;
}

/** A request to decode into: one is reused for all, so that the hot path allocates nothing. */
export function emptyRequest(): NbdRequest {
  return { flags: 0, type: 0, cookieHigh: 0, cookieLow: 0, offsetBytes: 0, lengthBytes: 0 };
}

/** Decodes a header of 28 bytes at `position` into `request`; false when the magic is wrong. */
export function decodeRequest(bytes: Buffer, position: number, request: NbdRequest): boolean {
  if (bytes.readUInt32BE(position) !== REQUEST_MAGIC) return false;
  request.flags = bytes.readUInt16BE(position + 4);
  request.type = bytes.readUInt16BE(position + 6);
  request.cookieHigh = bytes.readUInt32BE(position + 8);
  request.cookieLow = bytes.readUInt32BE(position + 12);
  request.offsetBytes = bytes.readUInt32BE(position + 16) * HIGH + bytes.readUInt32BE(position + 20);
  request.lengthBytes = bytes.readUInt32BE(position + 24);
  return true;
}

/** Encodes a request, as a client sends it; a new buffer. */
export function encodeRequest(request: NbdRequest): Buffer {
  const bytes = Buffer.alloc(REQUEST_HEADER_BYTES);
  bytes.writeUInt32BE(REQUEST_MAGIC, 0);
  bytes.writeUInt16BE(request.flags, 4);
  bytes.writeUInt16BE(request.type, 6);
  bytes.writeUInt32BE(request.cookieHigh, 8);
  bytes.writeUInt32BE(request.cookieLow, 12);
  bytes.writeUInt32BE(Math.floor(request.offsetBytes / HIGH), 16);
  bytes.writeUInt32BE(request.offsetBytes % HIGH, 20);
  bytes.writeUInt32BE(request.lengthBytes, 24);
  return bytes;
}
