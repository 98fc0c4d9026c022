import { createDeferred } from "../base/deferred.js";
import { assert } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import { errorMessage } from "../base/errors.js";
import { MAX_NBD_BYTES_IN_FLIGHT, MAX_NBD_REQUEST_BYTES, MAX_NBD_REQUESTS_IN_FLIGHT } from "../base/limits.js";
import type { Logger } from "../base/logger.js";
import type { BlockDevice } from "../block/device.js";
import type { ByteStream } from "../transport/transport.js";
import type { BufferPool } from "./buffer-pool.js";
import { executeControl, refusal } from "./commands.js";
import { Command, CommandFlag, REQUEST_HEADER_BYTES } from "./constants.js";
import { errnoOf, NbdError } from "./errors.js";
import { ReplyQueue } from "./reply-queue.js";
import { decodeRequest, emptyRequest, type NbdRequest } from "./request.js";
import { RequestSlot } from "./request-slot.js";

export interface TransmissionOptions {
  readonly device: BlockDevice;
  /** Structured replies were negotiated. Never so with the kernel's client. */
  readonly isStructured: boolean;
  /** The context `base:allocation` was selected. */
  readonly hasBaseAllocation: boolean;
  readonly maxRequests?: number;
  readonly maxBytes?: number;
}

export interface TransmissionDependencies {
  readonly stream: ByteStream;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly pool: BufferPool;
}

/**
 * The transmission phase of one connection: requests in, replies out in the order in which the device completes
 * them. Bounded in requests and in bytes, both counted until the reply has left; at the bound it stops reading.
 * The owner feeds `receive` and tells it of the stream's end by `streamClosed`.
 */
export class NbdTransmission {
  readonly #device: BlockDevice;
  readonly #options: Required<TransmissionOptions>;
  readonly #stream: ByteStream;
  readonly #logger: Logger;
  readonly #pool: BufferPool;
  readonly #replies: ReplyQueue;
  readonly #request: NbdRequest = emptyRequest();
  readonly #header = Buffer.alloc(REQUEST_HEADER_BYTES);
  readonly #slots: RequestSlot[] = [];
  readonly #drained = createDeferred<undefined>();

  /** `closing`: takes no more requests, answers those it has, then ends the stream. */
  #state: "open" | "closing" | "closed" = "open";
  #headerBytes = 0;
  /** The write whose payload is arriving, and how much of it is there. */
  #writing: RequestSlot | undefined;
  #writingBytes = 0;
  /** Payload of a refused write that is still to be dropped. */
  #skipBytes = 0;
  /** Received, and waiting for requests to complete. */
  #held: Buffer | undefined;
  #requestsInFlight = 0;
  #bytesInFlight = 0;

  constructor(options: TransmissionOptions, dependencies: TransmissionDependencies) {
    this.#options = { maxRequests: MAX_NBD_REQUESTS_IN_FLIGHT, maxBytes: MAX_NBD_BYTES_IN_FLIGHT, ...options };
    this.#device = options.device;
    this.#stream = dependencies.stream;
    this.#logger = dependencies.logger;
    this.#pool = dependencies.pool;
    this.#replies = new ReplyQueue({ isStructured: options.isStructured }, dependencies, (slot) => this.#release(slot));
  }

  /** Requests whose reply has not left yet. */
  get requestsInFlight(): number {
    return this.#requestsInFlight;
  }

  /** Bytes from the client; `chunk` is borrowed for the call. */
  receive(chunk: Buffer): void {
    if (this.#state !== "open") return;
    if (this.#held === undefined) {
      this.#parse(chunk, false);
      return;
    }
    // Only if the transport delivers what it had read before it was paused.
    this.#held = Buffer.concat([this.#held, chunk]);
  }

  /** Completes what was asked so far and answers it, then ends the stream; resolves when all of it has settled. */
  close(): Promise<void> {
    if (this.#state === "open") {
      this.#state = "closing";
      this.#held = undefined;
      this.#dropPartialWrite();
      this.#endWhenIdle();
    }
    return this.#drained.promise;
  }

  /** The stream is gone: replies have nowhere to go, operations under way settle by themselves. */
  streamClosed(): void {
    this.#state = "closed";
    this.#held = undefined;
    this.#dropPartialWrite();
    this.#replies.discard();
    this.#endWhenIdle();
  }

  /** Resolves when nothing is in flight any more after a close, from either side. */
  get drained(): Promise<void> {
    return this.#drained.promise;
  }

  #dropPartialWrite(): void {
    const slot = this.#writing;
    if (slot === undefined) return;
    // Its data never arrived whole, so it is not executed and gets no reply.
    this.#writing = undefined;
    this.#release(slot);
  }

  #endWhenIdle(): void {
    if (this.#state === "open" || this.#requestsInFlight > 0) return;
    if (this.#state === "closing") this.#stream.end();
    this.#drained.resolve(undefined);
  }

  /** Works through `chunk`; `isOwned` says that it may be kept. Stops at the bounds and holds the rest. */
  #parse(chunk: Buffer, isOwned: boolean): void {
    let position = 0;
    while (position < chunk.length && this.#state === "open") {
      if (this.#writing !== undefined) {
        position += this.#takePayload(this.#writing, chunk, position);
      } else if (this.#skipBytes > 0) {
        const skipped = Math.min(this.#skipBytes, chunk.length - position);
        this.#skipBytes -= skipped;
        position += skipped;
      } else if (this.#headerBytes === 0 && chunk.length - position >= REQUEST_HEADER_BYTES) {
        if (!this.#takeRequest(chunk, position)) {
          this.#hold(chunk, position, isOwned);
          return;
        }
        position += REQUEST_HEADER_BYTES;
      } else {
        const copied = chunk.copy(this.#header, this.#headerBytes, position);
        this.#headerBytes += copied;
        if (this.#headerBytes < REQUEST_HEADER_BYTES) return;
        this.#headerBytes = 0;
        if (!this.#takeRequest(this.#header, 0)) {
          this.#hold(Buffer.concat([this.#header, chunk.subarray(position + copied)]), 0, true);
          return;
        }
        position += copied;
      }
    }
  }

  #hold(chunk: Buffer, position: number, isOwned: boolean): void {
    const rest = chunk.subarray(position);
    this.#held = isOwned ? rest : Buffer.from(rest);
    this.#stream.pause();
  }

  #continueHeld(): void {
    const held = this.#held;
    if (held === undefined || this.#state !== "open") return;
    this.#held = undefined;
    this.#parse(held, true);
    // Parsing may have met the bounds again, or the end.
    if (!this.#isHolding()) this.#stream.resume();
  }

  #isHolding(): boolean {
    return this.#held !== undefined;
  }

  /** Decodes and starts the request at `position`; false when the bounds do not let it in yet. */
  #takeRequest(bytes: Buffer, position: number): boolean {
    const request = this.#request;
    if (!decodeRequest(bytes, position, request)) {
      this.#breakOff(
        new NbdError("NBD_BAD_MAGIC", "a request does not start with the request magic; the stream is lost"),
      );
      return true;
    }
    if (request.type === Command.DISC) {
      void this.close();
      return true;
    }
    const isData = request.type === Command.READ || request.type === Command.WRITE;
    const dataBytes = isData && request.lengthBytes <= MAX_NBD_REQUEST_BYTES ? request.lengthBytes : 0;
    if (this.#requestsInFlight >= this.#options.maxRequests) return false;
    if (this.#bytesInFlight > 0 && this.#bytesInFlight + dataBytes > this.#options.maxBytes) return false;
    this.#admit(request, dataBytes);
    return true;
  }

  #admit(request: NbdRequest, dataBytes: number): void {
    const errno = refusal(request, this.#device.info, this.#options);
    if (request.type === Command.WRITE && request.lengthBytes > MAX_NBD_REQUEST_BYTES) {
      this.#breakOff(
        new NbdError("NBD_WRITE_TOO_LONG", `a write of ${request.lengthBytes} bytes is more than is taken`),
      );
      return;
    }
    const slot = this.#slots.pop() ?? this.#createSlot();
    slot.begin(request, errno === 0 ? dataBytes : 0);
    this.#requestsInFlight += 1;
    this.#bytesInFlight += slot.dataBytes;
    if (errno !== 0) {
      if (request.type === Command.WRITE) this.#skipBytes = request.lengthBytes;
      this.#replies.fail(slot, errno, `request refused with errno ${errno}`);
    } else if (slot.type === Command.READ) this.#startRead(slot);
    else if (slot.type === Command.WRITE) this.#startWrite(slot);
    else this.#startControl(slot);
  }

  /** Its callbacks are made once and serve every request that uses the slot. */
  #createSlot(): RequestSlot {
    const slot: RequestSlot = new RequestSlot(
      () => this.#replies.succeed(slot),
      (error: unknown) => this.#failed(slot, error),
    );
    return slot;
  }

  #startRead(slot: RequestSlot): void {
    if (slot.dataBytes === 0) {
      this.#replies.succeed(slot);
      return;
    }
    slot.buffer = this.#pool.take(slot.dataBytes);
    this.#device.read(slot.offsetBytes, slot.buffer.data(slot.dataBytes)).then(slot.onDone, slot.onFailed);
  }

  #startWrite(slot: RequestSlot): void {
    slot.buffer = this.#pool.take(slot.dataBytes);
    this.#writing = slot;
    this.#writingBytes = 0;
    if (slot.dataBytes === 0) this.#finishPayload(slot);
  }

  /** Copies payload of a write out of the transport's memory: the one copy a write has. */
  #takePayload(slot: RequestSlot, chunk: Buffer, position: number): number {
    const data = slot.buffer?.data(slot.dataBytes);
    assert(data !== undefined, "a write that is arriving has a buffer");
    const copied = chunk.copy(data, this.#writingBytes, position);
    this.#writingBytes += copied;
    if (this.#writingBytes === slot.dataBytes) this.#finishPayload(slot);
    return copied;
  }

  #finishPayload(slot: RequestSlot): void {
    this.#writing = undefined;
    const data = slot.buffer?.data(slot.dataBytes);
    if (data === undefined || data.length === 0) {
      this.#replies.succeed(slot);
      return;
    }
    const fua = (slot.flags & CommandFlag.FUA) !== 0;
    this.#device.write(slot.offsetBytes, data, fua ? { fua: true } : undefined).then(slot.onDone, slot.onFailed);
  }

  #startControl(slot: RequestSlot): void {
    executeControl(this.#device, slot).then((extents) => {
      if (extents === undefined) this.#replies.succeed(slot);
      else this.#replies.blockStatus(slot, extents);
    }, slot.onFailed);
  }

  #failed(slot: RequestSlot, error: unknown): void {
    if (this.#logger.isEnabled("debug")) {
      const { type, offsetBytes, lengthBytes } = slot;
      this.#logger.debug("request failed", { type, offsetBytes, lengthBytes, reason: errorMessage(error) });
    }
    this.#replies.fail(slot, errnoOf(error), errorMessage(error));
  }

  #release(slot: RequestSlot): void {
    this.#requestsInFlight -= 1;
    this.#bytesInFlight -= slot.dataBytes;
    const buffer = slot.end();
    if (buffer !== undefined) this.#pool.give(buffer);
    this.#slots.push(slot);
    if (this.#held !== undefined) this.#continueHeld();
    if (this.#state !== "open") this.#endWhenIdle();
  }

  /** The peer broke the protocol: nothing it sends can be understood any more. */
  #breakOff(error: NbdError): void {
    this.#logger.warn("connection closed: the client broke the NBD protocol", { reason: error.message });
    this.#state = "closed";
    this.#stream.destroy();
  }
}
