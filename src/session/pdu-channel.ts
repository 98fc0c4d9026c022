import type { Clock } from "../base/clock.js";
import { type AppError, asAppError } from "../base/errors.js";
import { MAX_HELD_PDUS } from "../base/limits.js";
import type { Logger } from "../base/logger.js";
import type { ByteStream } from "../transport/transport.js";
import { decodePdu } from "../wire/decode.js";
import { describePdu } from "../wire/describe.js";
import type { DigestUse } from "../wire/encode.js";
import { PduWriter } from "../wire/encode.js";
import { Framer, type RawPdu } from "../wire/framer.js";
import type { InitiatorPdu, Pdu } from "../wire/pdu.js";

import { protocolError } from "./errors.js";

/** Who uses a channel at the moment: the login first, then the connection. */
export interface ChannelUser {
  /** See FramerHandler.placeData. Throwing an AppError ends the channel with that error. */
  placeData(header: Buffer, lengthBytes: number): Buffer | undefined;
  /** A whole PDU. Throwing an AppError ends the channel with that error. */
  onPdu(pdu: Pdu, isDataDigestGood: boolean): void;
  /** A PDU whose header was damaged has been left out; the next one has been found. */
  onHeaderDigestError?(): void;
  /** The channel is gone: once, whatever ended it. `undefined` when the peer closed in order. */
  onClosed(error: AppError | undefined): void;
}

/** What arrived between two users. */
interface Held {
  readonly pdus: { readonly pdu: Pdu; readonly isDataDigestGood: boolean }[];
  closed?: { readonly error: AppError | undefined };
}

const NO_DIGESTS: DigestUse = Object.freeze({ header: false, data: false });

/**
 * PDUs over one byte stream. What is sent in one turn of the event loop leaves in one gather write; errors of the
 * peer (AppErrors thrown while its bytes are worked on) end the channel.
 */
export class PduChannel {
  readonly #stream: ByteStream;
  readonly #clock: Clock;
  readonly #framer: Framer;
  readonly #writer: PduWriter;
  /** Present only when traces are wanted: looked at once, since it would cost on every PDU. */
  readonly #tracer: Logger | undefined;
  #user: ChannelUser;
  #isFlushScheduled = false;
  #isReceiving = false;
  #isOver = false;
  #receivedBytes = 0;
  #held: Held | undefined;
  readonly #flushDeferred = (): void => {
    this.#isFlushScheduled = false;
    this.flush();
  };

  /** Takes over `stream` and starts it. `maxDataSegmentLength` is what we declare to the peer. */
  constructor(
    options: { readonly stream: ByteStream; readonly maxDataSegmentLength: number; readonly user: ChannelUser },
    dependencies: { readonly clock: Clock; readonly logger: Logger },
  ) {
    const { logger } = dependencies;
    const { remoteAddress, localAddress } = options.stream;
    this.#tracer = logger.isEnabled("trace") ? logger.child({ remoteAddress, localAddress }) : undefined;
    this.#stream = options.stream;
    this.#clock = dependencies.clock;
    this.#user = options.user;
    this.#writer = new PduWriter(NO_DIGESTS);
    this.#framer = new Framer(
      { maxDataSegmentLength: options.maxDataSegmentLength, digests: NO_DIGESTS },
      {
        placeData: (header, lengthBytes) =>
          this.#isOver || this.#held !== undefined ? undefined : this.#user.placeData(header, lengthBytes),
        onPdu: (raw) => this.#deliver(raw),
        onHeaderDigestError: () => {
          if (!this.#isOver && this.#held === undefined) this.#user.onHeaderDigestError?.();
        },
      },
    );
    this.#stream.start({
      onData: (chunk) => this.#receive(chunk),
      onClose: (error) => this.#close(error),
    });
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  get remoteAddress(): string {
    return this.#stream.remoteAddress;
  }

  get localAddress(): string {
    return this.#stream.localAddress;
  }

  /** Bytes received so far: grows whenever the peer shows life. */
  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  /** The user has finished: what arrives from now on is kept for the next one, which `setUser` brings. */
  hold(): void {
    this.#held = { pdus: [] };
  }

  /** Hands the channel to its next user, who first hears what was kept. */
  setUser(user: ChannelUser): void {
    this.#user = user;
    const held = this.#held;
    this.#held = undefined;
    if (held === undefined) return;
    try {
      for (const { pdu, isDataDigestGood } of held.pdus) user.onPdu(pdu, isDataDigestGood);
    } catch (error) {
      this.destroy(asAppError(error));
    }
    if (held.closed !== undefined) user.onClosed(held.closed.error);
  }

  /** From the next PDU on, in both directions (RFC 7143 §13.1). What was sent before leaves first. */
  setDigests(digests: DigestUse): void {
    this.flush();
    this.#writer.setDigests(digests);
    this.#framer.setDigests(digests);
  }

  /** After a damaged header, look for the next good one instead of ending (RFC 7143 §7.8). */
  setResynchronise(isOn: boolean): void {
    this.#framer.setResynchronise(isOn);
  }

  /** See Framer.divertData. */
  divertData(): void {
    this.#framer.divertData();
  }

  /** Queues a PDU; its data is borrowed until it has been sent. Does nothing once the channel is over. */
  send(pdu: InitiatorPdu): void {
    if (this.#isOver) return;
    this.#tracer?.trace("PDU sent", { pdu: describePdu(pdu) });
    this.#writer.append(pdu);
    if (this.#isFlushScheduled || this.#isReceiving) return;
    this.#isFlushScheduled = true;
    this.#clock.defer(this.#flushDeferred);
  }

  /** Gives everything queued to the stream now. */
  flush(): void {
    if (this.#isOver || this.#writer.pendingBytes === 0) return;
    this.#stream.write(this.#writer.take());
  }

  /** Ends the channel at once; the user hears `onClosed` with `error` before this returns. */
  destroy(error?: AppError): void {
    if (this.#isOver) return;
    this.#close(error);
    this.#stream.destroy();
  }

  #receive(chunk: Buffer): void {
    if (this.#isOver) return;
    this.#receivedBytes += chunk.length;
    this.#isReceiving = true;
    try {
      this.#framer.push(chunk);
    } catch (error) {
      this.destroy(asAppError(error));
      return;
    } finally {
      this.#isReceiving = false;
    }
    this.flush();
  }

  #deliver(raw: RawPdu): void {
    if (this.#isOver) return;
    const pdu = decodePdu(raw.header, raw.ahs, raw.data);
    this.#tracer?.trace("PDU received", { pdu: describePdu(pdu) });
    if (this.#held === undefined) this.#user.onPdu(pdu, raw.isDataDigestGood);
    else this.#keep(this.#held, pdu, raw.isDataDigestGood);
  }

  #keep(held: Held, pdu: Pdu, isDataDigestGood: boolean): void {
    if (held.pdus.length >= MAX_HELD_PDUS) {
      throw protocolError("§6.3", "a flood of PDUs right after the login");
    }
    held.pdus.push({ pdu, isDataDigestGood });
  }

  #close(error: AppError | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.#held === undefined) this.#user.onClosed(error);
    else this.#held.closed = { error };
  }
}
