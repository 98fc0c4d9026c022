import { assert } from "../base/assert.js";
import type { Clock, Timer } from "../base/clock.js";
import type { Random } from "../base/random.js";
import type { ByteStream, StreamHandlers } from "./transport.js";
import { TransportError } from "./transport.js";

/** Which way bytes go: from the one who dialled, or to it. */
export type LinkDirection = "to-listener" | "to-dialer";

/** How a link carries bytes. All randomness comes from the network's Random: one seed, one trace. */
export interface LinkBehaviour {
  /** Delay of every delivery, drawn evenly from this range. Order is kept. */
  readonly delayMs?: readonly [minimum: number, maximum: number];
  /** Longest chunk delivered at once; every chunk's length is drawn from 1 to this. Absent: as written. */
  readonly maxChunkBytes?: number;
  /** Unsent bytes beyond which `write` returns false; default 1 MiB. */
  readonly highWaterBytes?: number;
  /** Sees, and may change, a copy of the bytes just before delivery; `offset` counts the direction's bytes from 0. */
  readonly onDeliver?: (chunk: Buffer, direction: LinkDirection, offset: number) => void;
  /** The link breaks, in both directions, when so many bytes of a direction have been delivered. */
  readonly cutAfterBytes?: Partial<Readonly<Record<LinkDirection, number>>>;
}

export interface MemoryLinkDependencies {
  readonly clock: Clock;
  readonly random: Random;
}

interface Piece {
  readonly bytes: Buffer;
  offset: number;
  readonly onSent: (() => void) | undefined;
}

const DEFAULT_HIGH_WATER_BYTES = 1_048_576;

/** What a reader finds in a chunk it kept although the contract forbids it. */
const POISON = 0xdb;

/**
 * A connection in memory: two streams, and the hand of the test between them. Keeps the contract of ByteStream to the
 * letter and punishes those who do not: chunks are borrowed until delivery, and what was delivered is overwritten.
 */
export class MemoryLink {
  readonly dialerEnd: ByteStream;
  readonly listenerEnd: ByteStream;
  readonly #toListener: Channel;
  readonly #toDialer: Channel;
  #isOver = false;
  readonly #onOver: () => void;

  constructor(
    addresses: { readonly dialer: string; readonly listener: string },
    behaviour: LinkBehaviour,
    dependencies: MemoryLinkDependencies & { readonly onOver: () => void },
  ) {
    this.#onOver = dependencies.onOver;
    const control = { cut: () => this.cut(), end: () => this.#over() };
    this.#toListener = new Channel("to-listener", behaviour, dependencies, control);
    this.#toDialer = new Channel("to-dialer", behaviour, dependencies, control);
    this.dialerEnd = new MemoryStream(addresses.dialer, addresses.listener, this.#toListener, this.#toDialer);
    this.listenerEnd = new MemoryStream(addresses.listener, addresses.dialer, this.#toDialer, this.#toListener);
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Bytes delivered so far in one direction. */
  deliveredBytes(direction: LinkDirection): number {
    return this.#channel(direction).deliveredBytes;
  }

  /** Breaks the connection now: both ends are told with TRANSPORT_RESET, what is under way is lost. */
  cut(): void {
    const error = (): TransportError =>
      new TransportError("transport", "TRANSPORT_RESET", "the connection was cut", { retry: "other-path" });
    this.#toListener.close(error());
    this.#toDialer.close(error());
  }

  /** A half-open connection: nothing moves in this direction, or in both, and nobody is told, until `heal`. */
  stall(direction?: LinkDirection): void {
    for (const channel of this.#channels(direction)) channel.stall();
  }

  heal(direction?: LinkDirection): void {
    for (const channel of this.#channels(direction)) channel.heal();
  }

  #channel(direction: LinkDirection): Channel {
    return direction === "to-listener" ? this.#toListener : this.#toDialer;
  }

  #channels(direction: LinkDirection | undefined): readonly Channel[] {
    return direction === undefined ? [this.#toListener, this.#toDialer] : [this.#channel(direction)];
  }

  #over(): void {
    if (this.#isOver || !this.#toListener.isClosed || !this.#toDialer.isClosed) return;
    this.#isOver = true;
    this.#onOver();
  }
}

/** One direction of a link: a queue of borrowed bytes, one delivery at a time. */
class Channel {
  readonly #direction: LinkDirection;
  readonly #behaviour: LinkBehaviour;
  readonly #dependencies: MemoryLinkDependencies;
  readonly #control: { readonly cut: () => void; readonly end: () => void };
  readonly #queue: Piece[] = [];
  /** Of the end that reads this channel. */
  #reader: StreamHandlers | undefined;
  /** Tells the end that writes this channel that there is room again. */
  onDrain: (() => void) | undefined;
  #timer: Timer | undefined;
  #isScheduled = false;
  #isPaused = false;
  #isStalled = false;
  #isEnding = false;
  #isDraining = false;
  isClosed = false;
  deliveredBytes = 0;
  unsentBytes = 0;
  #closeError: TransportError | undefined;

  constructor(
    direction: LinkDirection,
    behaviour: LinkBehaviour,
    dependencies: MemoryLinkDependencies,
    control: { readonly cut: () => void; readonly end: () => void },
  ) {
    this.#direction = direction;
    this.#behaviour = behaviour;
    this.#dependencies = dependencies;
    this.#control = control;
  }

  start(reader: StreamHandlers): void {
    assert(this.#reader === undefined, "a stream is started once");
    this.#reader = reader;
    if (this.isClosed) this.#tellClosed();
    else this.#schedule();
  }

  write(chunks: readonly Buffer[], onSent: (() => void) | undefined): boolean {
    if (this.isClosed || this.#isEnding) return false;
    chunks.forEach((bytes, index) => {
      this.#queue.push({ bytes, offset: 0, onSent: index === chunks.length - 1 ? onSent : undefined });
      this.unsentBytes += bytes.length;
    });
    this.#schedule();
    const hasRoom = this.unsentBytes <= (this.#behaviour.highWaterBytes ?? DEFAULT_HIGH_WATER_BYTES);
    this.#isDraining ||= !hasRoom;
    return hasRoom;
  }

  setPaused(isPaused: boolean): void {
    this.#isPaused = isPaused;
    this.#schedule();
  }

  stall(): void {
    this.#isStalled = true;
  }

  heal(): void {
    this.#isStalled = false;
    this.#schedule();
  }

  /** The writer is done: the reader is told once everything has been delivered. */
  end(): void {
    this.#isEnding = true;
    this.#schedule();
  }

  /** Loses the queue and tells the reader, whatever state the channel is in. */
  close(error: TransportError | undefined): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#closeError = error;
    this.#timer?.cancel();
    this.#empty();
    this.#tellClosed();
    this.#control.end();
  }

  /** The writing end went away without a word: its queue is lost, and the reader is told unless the channel is stalled. */
  abandon(): void {
    this.#empty();
    if (this.#isStalled) this.#isEnding = true;
    else this.close(undefined);
  }

  #empty(): void {
    this.#queue.length = 0;
    this.unsentBytes = 0;
  }

  #tellClosed(): void {
    const reader = this.#reader;
    if (reader === undefined) return;
    this.#dependencies.clock.defer(() => reader.onClose(this.#closeError));
  }

  #schedule(): void {
    if (this.#isScheduled || this.isClosed || this.#reader === undefined) return;
    if (this.#isPaused || this.#isStalled) return;
    if (this.#queue.length === 0 && !this.#isEnding) return;
    this.#isScheduled = true;
    const [minimum, maximum] = this.#behaviour.delayMs ?? [0, 0];
    const delayMs = minimum + (maximum - minimum) * this.#dependencies.random.fraction();
    const deliver = (): void => {
      this.#isScheduled = false;
      if (!this.isClosed && !this.#isPaused && !this.#isStalled) this.#deliver();
      this.#schedule();
    };
    if (delayMs > 0) this.#timer = this.#dependencies.clock.setTimer(delayMs, deliver);
    else this.#dependencies.clock.defer(deliver);
  }

  #deliver(): void {
    const piece = this.#queue[0];
    if (piece === undefined) {
      this.close(undefined);
      return;
    }
    const remaining = piece.bytes.length - piece.offset;
    const length = Math.min(remaining, this.#nextChunkBytes(remaining), this.#bytesUntilCut());
    const chunk = Buffer.from(piece.bytes.subarray(piece.offset, piece.offset + length));
    this.#behaviour.onDeliver?.(chunk, this.#direction, this.deliveredBytes);
    piece.offset += length;
    this.deliveredBytes += length;
    this.unsentBytes -= length;
    if (piece.offset === piece.bytes.length) {
      this.#queue.shift();
      piece.onSent?.();
    }
    if (length > 0) this.#reader?.onData(chunk);
    chunk.fill(POISON);
    this.#afterDelivery();
  }

  #afterDelivery(): void {
    if (this.isClosed) return;
    if (this.#bytesUntilCut() === 0) {
      this.#control.cut();
      return;
    }
    const highWaterBytes = this.#behaviour.highWaterBytes ?? DEFAULT_HIGH_WATER_BYTES;
    if (!this.#isDraining || this.unsentBytes > highWaterBytes / 2) return;
    this.#isDraining = false;
    this.onDrain?.();
  }

  #nextChunkBytes(remaining: number): number {
    const { maxChunkBytes } = this.#behaviour;
    return maxChunkBytes === undefined ? remaining : 1 + (this.#dependencies.random.uint32() % maxChunkBytes);
  }

  #bytesUntilCut(): number {
    const limit = this.#behaviour.cutAfterBytes?.[this.#direction];
    return limit === undefined ? Number.POSITIVE_INFINITY : Math.max(0, limit - this.deliveredBytes);
  }
}

/** One end of a link. */
class MemoryStream implements ByteStream {
  readonly localAddress: string;
  readonly remoteAddress: string;
  readonly #outgoing: Channel;
  readonly #incoming: Channel;
  #isEnding = false;

  constructor(localAddress: string, remoteAddress: string, outgoing: Channel, incoming: Channel) {
    this.localAddress = localAddress;
    this.remoteAddress = remoteAddress;
    this.#outgoing = outgoing;
    this.#incoming = incoming;
  }

  get unsentBytes(): number {
    return this.#outgoing.unsentBytes;
  }

  start(handlers: StreamHandlers): void {
    this.#outgoing.onDrain = () => {
      if (!this.#isEnding) handlers.onDrain?.();
    };
    this.#incoming.start({
      onData: (chunk) => {
        if (!this.#isEnding) handlers.onData(chunk);
      },
      onClose: (error) => {
        // The peer closed in order: what we still have to say is said, then our side closes too.
        this.#outgoing.end();
        handlers.onClose(error);
      },
    });
  }

  write(chunks: readonly Buffer[], onSent?: () => void): boolean {
    return this.#outgoing.write(chunks, onSent);
  }

  pause(): void {
    this.#incoming.setPaused(true);
  }

  resume(): void {
    this.#incoming.setPaused(false);
  }

  end(): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    this.#incoming.setPaused(false);
    this.#outgoing.end();
  }

  destroy(error?: TransportError): void {
    this.#isEnding = true;
    this.#outgoing.abandon();
    this.#incoming.close(error);
  }
}
