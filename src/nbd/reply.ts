import type { BlockExtent } from "../block/device.js";
import {
  AllocationFlag,
  BASE_ALLOCATION_ID,
  CHUNK_HEADER_BYTES,
  ChunkFlag,
  ChunkType,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
  type NbdErrno,
} from "./constants.js";

const HIGH = 0x1_0000_0000;

/** Whose request a reply answers. */
export interface NbdCookie {
  readonly cookieHigh: number;
  readonly cookieLow: number;
}

/** Bytes before the data of a structured read: the chunk's header and the offset. */
export const STRUCTURED_READ_HEADER_BYTES = CHUNK_HEADER_BYTES + 8;

/** Writes a simple reply (16 bytes) at `position`; `errno` 0 is success. The data of a read follows it. */
export function writeSimpleReply(bytes: Buffer, position: number, cookie: NbdCookie, errno: NbdErrno | 0): void {
  bytes.writeUInt32BE(SIMPLE_REPLY_MAGIC, position);
  bytes.writeUInt32BE(errno, position + 4);
  bytes.writeUInt32BE(cookie.cookieHigh, position + 8);
  bytes.writeUInt32BE(cookie.cookieLow, position + 12);
}

function writeChunkHeader(
  bytes: Buffer,
  position: number,
  cookie: NbdCookie,
  chunk: { readonly type: number; readonly payloadBytes: number },
): void {
  bytes.writeUInt32BE(STRUCTURED_REPLY_MAGIC, position);
  // Every answer is one chunk, so each is the last.
  bytes.writeUInt16BE(ChunkFlag.DONE, position + 4);
  bytes.writeUInt16BE(chunk.type, position + 6);
  bytes.writeUInt32BE(cookie.cookieHigh, position + 8);
  bytes.writeUInt32BE(cookie.cookieLow, position + 12);
  bytes.writeUInt32BE(chunk.payloadBytes, position + 16);
}

/** Writes what precedes the data of a structured read (28 bytes) at `position`. */
export function writeStructuredRead(
  bytes: Buffer,
  position: number,
  cookie: NbdCookie,
  range: { readonly offsetBytes: number; readonly lengthBytes: number },
): void {
  writeChunkHeader(bytes, position, cookie, { type: ChunkType.OFFSET_DATA, payloadBytes: 8 + range.lengthBytes });
  bytes.writeUInt32BE(Math.floor(range.offsetBytes / HIGH), position + CHUNK_HEADER_BYTES);
  bytes.writeUInt32BE(range.offsetBytes % HIGH, position + CHUNK_HEADER_BYTES + 4);
}

/** A simple reply without data; a new buffer. */
export function encodeSimpleReply(cookie: NbdCookie, errno: NbdErrno | 0): Buffer {
  const bytes = Buffer.allocUnsafe(SIMPLE_REPLY_BYTES);
  writeSimpleReply(bytes, 0, cookie, errno);
  return bytes;
}

/** The whole structured answer of a request that failed, with a reason for people; a new buffer. */
export function encodeErrorChunk(cookie: NbdCookie, errno: NbdErrno, reason: string): Buffer {
  const message = Buffer.from(reason.slice(0, 400));
  const bytes = Buffer.alloc(CHUNK_HEADER_BYTES + 6 + message.length);
  writeChunkHeader(bytes, 0, cookie, { type: ChunkType.ERROR, payloadBytes: 6 + message.length });
  bytes.writeUInt32BE(errno, CHUNK_HEADER_BYTES);
  bytes.writeUInt16BE(message.length, CHUNK_HEADER_BYTES + 4);
  message.copy(bytes, CHUNK_HEADER_BYTES + 6);
  return bytes;
}

/** The structured answer of a read of no bytes; a new buffer. */
export function encodeEmptyChunk(cookie: NbdCookie): Buffer {
  const bytes = Buffer.alloc(CHUNK_HEADER_BYTES);
  writeChunkHeader(bytes, 0, cookie, { type: ChunkType.NONE, payloadBytes: 0 });
  return bytes;
}

/** The answer to BLOCK_STATUS in the context `base:allocation`; a new buffer. */
export function encodeBlockStatus(cookie: NbdCookie, extents: readonly BlockExtent[]): Buffer {
  const payloadBytes = 4 + 8 * extents.length;
  const bytes = Buffer.alloc(CHUNK_HEADER_BYTES + payloadBytes);
  writeChunkHeader(bytes, 0, cookie, { type: ChunkType.BLOCK_STATUS, payloadBytes });
  bytes.writeUInt32BE(BASE_ALLOCATION_ID, CHUNK_HEADER_BYTES);
  extents.forEach((extent, index) => {
    const position = CHUNK_HEADER_BYTES + 4 + 8 * index;
    bytes.writeUInt32BE(extent.lengthBytes, position);
    const flags = (extent.isAllocated ? 0 : AllocationFlag.HOLE) | (extent.readsZeroes ? AllocationFlag.ZERO : 0);
    bytes.writeUInt32BE(flags, position + 4);
  });
  return bytes;
}
