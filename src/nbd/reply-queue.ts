import type { Clock } from "../base/clock.js";
import { MAX_NBD_EXTENTS } from "../base/limits.js";
import type { BlockExtent } from "../block/device.js";
import type { ByteStream } from "../transport/transport.js";
import { HEADROOM_BYTES } from "./buffer-pool.js";
import { Command, SIMPLE_REPLY_BYTES, type NbdErrno } from "./constants.js";
import {
  encodeBlockStatus,
  encodeEmptyChunk,
  encodeErrorChunk,
  encodeSimpleReply,
  STRUCTURED_READ_HEADER_BYTES,
  writeSimpleReply,
  writeStructuredRead,
} from "./reply.js";
import type { RequestSlot } from "./request-slot.js";

/**
 * Replies of one connection, gathered and written once per turn of the event loop. A slot belongs to the queue from
 * its reply until `release` is called with it, which is when the bytes have left or have nowhere to go.
 */
export class ReplyQueue {
  readonly #isStructured: boolean;
  readonly #stream: ByteStream;
  readonly #clock: Clock;
  readonly #release: (slot: RequestSlot) => void;
  readonly #flushNow = (): void => this.#flush();
  #chunks: Buffer[] = [];
  #slots: RequestSlot[] = [];
  /** What was written and has not left yet. */
  readonly #leaving = new Set<readonly RequestSlot[]>();
  #isScheduled = false;
  #isDiscarding = false;

  constructor(
    options: { readonly isStructured: boolean },
    dependencies: { readonly stream: ByteStream; readonly clock: Clock },
    release: (slot: RequestSlot) => void,
  ) {
    this.#isStructured = options.isStructured;
    this.#stream = dependencies.stream;
    this.#clock = dependencies.clock;
    this.#release = release;
  }

  /** The request was done; for a read the slot's buffer holds the data. */
  succeed(slot: RequestSlot): void {
    if (slot.type !== Command.READ) {
      this.#push(slot, encodeSimpleReply(slot, 0));
      return;
    }
    const bytes = slot.buffer?.bytes;
    if (bytes === undefined) {
      this.#push(slot, this.#isStructured ? encodeEmptyChunk(slot) : encodeSimpleReply(slot, 0));
      return;
    }
    const headerBytes = this.#isStructured ? STRUCTURED_READ_HEADER_BYTES : SIMPLE_REPLY_BYTES;
    const start = HEADROOM_BYTES - headerBytes;
    if (this.#isStructured) writeStructuredRead(bytes, start, slot, slot);
    else writeSimpleReply(bytes, start, slot, 0);
    this.#push(slot, bytes.subarray(start, HEADROOM_BYTES + slot.dataBytes));
  }

  /** The request failed or was refused. */
  fail(slot: RequestSlot, errno: NbdErrno, reason: string): void {
    this.#push(slot, this.#isStructured ? encodeErrorChunk(slot, errno, reason) : encodeSimpleReply(slot, errno));
  }

  /** The answer to BLOCK_STATUS. */
  blockStatus(slot: RequestSlot, extents: readonly BlockExtent[]): void {
    this.#push(slot, encodeBlockStatus(slot, extents.slice(0, MAX_NBD_EXTENTS)));
  }

  /** The stream is gone, and has let go of what it was given: what waits and what comes is released at once. */
  discard(): void {
    this.#isDiscarding = true;
    const batches = [...this.#leaving, this.#slots];
    this.#leaving.clear();
    this.#slots = [];
    this.#chunks = [];
    for (const slot of batches.flat()) this.#release(slot);
  }

  #push(slot: RequestSlot, chunk: Buffer): void {
    if (this.#isDiscarding) {
      this.#release(slot);
      return;
    }
    this.#chunks.push(chunk);
    this.#slots.push(slot);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#clock.defer(this.#flushNow);
  }

  #flush(): void {
    this.#isScheduled = false;
    if (this.#chunks.length === 0) return;
    const chunks = this.#chunks;
    const slots = this.#slots;
    this.#chunks = [];
    this.#slots = [];
    this.#leaving.add(slots);
    this.#stream.write(chunks, () => {
      if (!this.#leaving.delete(slots)) return;
      for (const slot of slots) this.#release(slot);
    });
  }
}
