import type { Clock, Timer } from "../base/clock.js";
import { errorCode, errorMessage } from "../base/errors.js";
import {
  DEFAULT_MAX_RECV_DATA_SEGMENT_BYTES,
  TARGET_MAX_DATA_BYTES_PER_CONNECTION,
  TARGET_RESYNCHRONISATION_TIMEOUT_MS,
} from "../base/limits.js";
import type { Logger } from "../base/logger.js";
import type { NegotiatedParameters } from "../login/parameters.js";
import type { ByteStream } from "../transport/transport.js";
import { RejectReason } from "../wire/constants.js";
import { decodePdu } from "../wire/decode.js";
import { NO_DIGESTS, PduWriter } from "../wire/encode.js";
import { DigestError, ProtocolError } from "../wire/errors.js";
import { Framer, type RawPdu } from "../wire/framer.js";
import type { InitiatorPdu, LoginRequestPdu, TargetPdu } from "../wire/pdu.js";
import type { BufferPool } from "./buffer-pool.js";
import { TargetError } from "./errors.js";

/** What a connection does with its PDUs after the login. One per connection; told of the end exactly once. */
export interface ConnectionUser {
  /** Where the data segment of a PDU goes; undefined for a buffer of its own. */
  placeData(header: Buffer, lengthBytes: number): Buffer | undefined;
  onPdu(pdu: InitiatorPdu, isDataDigestGood: boolean, header: Buffer): void;
  /** A header that no rule admits: the user answers with Reject, and says whether the connection may go on. */
  onMalformed(header: Buffer, reason: number): boolean;
  /** A header was damaged: a PDU is lost, and the next good one is looked for. Above error recovery level 0 only. */
  onHeaderLost(): void;
  onClosed(error: Error | undefined): void;
}

/** Takes login requests until the login is over. */
export interface LoginDriver {
  onLoginRequest(pdu: LoginRequestPdu): void;
  onClosed(): void;
}

export interface ConnectionOptions {
  readonly loginTimeoutMs: number;
  /** The connection is gone. */
  readonly onClosed: () => void;
}

export interface ConnectionDependencies {
  readonly stream: ByteStream;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly pool: BufferPool;
}

/** Time a peer has to take the last bytes of a connection that we end. */
const CLOSE_TIMEOUT_MS = 5_000;

/** Answers a peer may leave unread: the data of its reads, and as much again for whatever else it asks. */
const MAX_UNSENT_BYTES = 2 * TARGET_MAX_DATA_BYTES_PER_CONNECTION;

type Phase = "login" | "full-feature" | "closing" | "closed";

/**
 * One TCP connection: framing in, one gather write per turn of the event loop out. Owns the StatSN, since that
 * is counted per connection (RFC 7143 §4.2.2.2).
 */
export class TargetConnection {
  readonly #stream: ByteStream;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #framer: Framer;
  readonly #writer = new PduWriter(NO_DIGESTS);
  readonly #loginTimer: Timer;
  readonly #onClosed: () => void;
  #closeTimer: Timer | undefined;
  #phase: Phase = "login";
  #login: LoginDriver | undefined;
  #user: ConnectionUser | undefined;
  #isFlushScheduled = false;
  /** The peer sends and does not read: nothing more is taken from it until it does. */
  #isPausedForPeer = false;
  /** To be called when what is in the writer has been sent. */
  #onSent: (() => void)[] = [];
  #lastReceivedMs: number;
  #isResynchronising = false;
  #resynchronisationTimer: Timer | undefined;
  /** StatSN of the next response. */
  statSn = 0;

  constructor(options: ConnectionOptions, dependencies: ConnectionDependencies) {
    this.#onClosed = options.onClosed;
    this.#stream = dependencies.stream;
    this.#clock = dependencies.clock;
    this.#logger = dependencies.logger;
    this.#lastReceivedMs = this.#clock.nowMs();
    this.#framer = new Framer(
      { maxDataSegmentLength: DEFAULT_MAX_RECV_DATA_SEGMENT_BYTES, digests: NO_DIGESTS },
      {
        placeData: (header, length) => this.#user?.placeData(header, length),
        onPdu: (raw) => this.#onRawPdu(raw),
      },
    );
    this.#loginTimer = this.#clock.setTimer(options.loginTimeoutMs, () => {
      this.destroy(new TargetError("TARGET_PEER_TIMEOUT", `${this.remoteAddress} did not finish its login in time`));
    });
  }

  get localAddress(): string {
    return this.#stream.localAddress;
  }

  get remoteAddress(): string {
    return this.#stream.remoteAddress;
  }

  get isOpen(): boolean {
    return this.#phase === "login" || this.#phase === "full-feature";
  }

  get unsentBytes(): number {
    return this.#stream.unsentBytes + this.#writer.pendingBytes;
  }

  /** When the last bytes arrived, by the clock. */
  get lastReceivedMs(): number {
    return this.#lastReceivedMs;
  }

  /** Begins to read; `login` gets the login requests. */
  start(login: LoginDriver): void {
    this.#login = login;
    this.#stream.start({
      onData: (chunk) => this.#onData(chunk),
      onDrain: () => this.#onDrain(),
      onClose: (error) => this.#onClose(error),
    });
  }

  /** Holds back input while a login waits for the old session to end. */
  pauseInput(): void {
    this.#stream.pause();
  }

  resumeInput(): void {
    if (this.isOpen) this.#stream.resume();
  }

  /**
   * The login is over: the next PDU goes to `user`. Call after the final login response was sent. Does nothing when the
   * connection is gone, which `user` is then not told.
   */
  enterFullFeature(user: ConnectionUser, parameters: NegotiatedParameters): void {
    if (!this.isOpen) return;
    this.#loginTimer.cancel();
    this.#phase = "full-feature";
    this.#user = user;
    this.#login = undefined;
    const digests = { header: parameters.headerDigest === "CRC32C", data: parameters.dataDigest === "CRC32C" };
    this.#framer.setDigests(digests);
    this.#framer.setMaxDataSegmentLength(parameters.targetMaxRecvDataSegmentLength);
    this.#writer.setDigests(digests);
    // §7.8: a damaged header need not cost the connection where what it announced can be asked for again.
    this.#isResynchronising = digests.header && parameters.errorRecoveryLevel > 0;
    this.#framer.setResynchronise(this.#isResynchronising);
  }

  /** Sends a PDU with the next gather write; its data is borrowed until `onSent`. */
  send(pdu: TargetPdu, onSent?: () => void): void {
    if (this.#phase === "closed" || this.#phase === "closing") {
      onSent?.();
      return;
    }
    this.#writer.append(pdu);
    if (onSent !== undefined) this.#onSent.push(onSent);
    if (this.#isFlushScheduled) return;
    this.#isFlushScheduled = true;
    this.#clock.defer(() => this.#flush());
  }

  /** StatSN for a response, counted. */
  takeStatSn(): number {
    const statSn = this.statSn;
    this.statSn = (statSn + 1) >>> 0;
    return statSn;
  }

  /** Sends what is queued, then closes. */
  end(): void {
    if (!this.isOpen) return;
    this.#flush();
    this.#phase = "closing";
    this.#stream.end();
    this.#closeTimer = this.#clock.setTimer(CLOSE_TIMEOUT_MS, () => this.#stream.destroy());
  }

  /** Closes now. */
  destroy(error?: Error): void {
    if (this.#phase === "closed") return;
    if (error !== undefined)
      this.#logger.warn("closing a connection", { peer: this.remoteAddress, reason: error.message });
    this.#stream.destroy();
  }

  #flush(): void {
    this.#isFlushScheduled = false;
    if (this.#phase === "closed" || this.#phase === "closing") return;
    const callbacks = this.#onSent;
    const chunks = this.#writer.take();
    if (chunks.length === 0) return;
    if (callbacks.length === 0) {
      this.#stream.write(chunks);
    } else {
      this.#onSent = [];
      this.#stream.write(chunks, () => {
        for (const callback of callbacks) callback();
      });
    }
    if (this.#stream.unsentBytes <= MAX_UNSENT_BYTES || this.#isPausedForPeer) return;
    this.#isPausedForPeer = true;
    this.#stream.pause();
  }

  #onDrain(): void {
    if (!this.#isPausedForPeer) return;
    this.#isPausedForPeer = false;
    this.#stream.resume();
  }

  #onData(chunk: Buffer): void {
    if (!this.isOpen) return;
    this.#lastReceivedMs = this.#clock.nowMs();
    try {
      this.#framer.push(chunk);
    } catch (error) {
      this.#onBadStream(error);
      return;
    }
    if (this.#isResynchronising && this.#framer.isResynchronising) this.#awaitGoodHeader();
  }

  /** A header was damaged: the peer is made to send another, and has so long to do that. */
  #awaitGoodHeader(): void {
    if (this.#resynchronisationTimer !== undefined) return;
    this.#resynchronisationTimer = this.#clock.setTimer(TARGET_RESYNCHRONISATION_TIMEOUT_MS, () => {
      this.#resynchronisationTimer = undefined;
      if (!this.#framer.isResynchronising) return;
      this.destroy(new TargetError("TARGET_PEER_PROTOCOL", "no good header followed one that was damaged"));
    });
    this.#user?.onHeaderLost();
  }

  /** Errors of the peer end its connection; anything else is ours, and ends only this connection too. */
  #onBadStream(error: unknown): void {
    const isPeers = error instanceof ProtocolError || error instanceof DigestError || error instanceof TargetError;
    if (!isPeers) this.#logger.error("a connection failed inside the target", { peer: this.remoteAddress, error });
    else
      this.#logger.warn("the initiator broke the protocol", {
        peer: this.remoteAddress,
        code: errorCode(error),
        reason: errorMessage(error),
      });
    if (this.#phase === "full-feature") this.end();
    else this.#stream.destroy();
  }

  #onRawPdu(raw: RawPdu): void {
    if (!this.isOpen) return;
    let pdu;
    try {
      pdu = decodePdu(raw.header, raw.ahs, raw.data);
    } catch (error) {
      this.#onUndecodable(raw, error);
      return;
    }
    if (this.#phase === "login") {
      if (pdu.type !== "login-request") throw notNow("a PDU came before the login was over");
      this.#login?.onLoginRequest(pdu);
      return;
    }
    if (isInitiatorPdu(pdu)) this.#user?.onPdu(pdu, raw.isDataDigestGood, raw.header);
    else throw notNow("a PDU came that only targets send");
  }

  #onUndecodable(raw: RawPdu, error: unknown): void {
    if (this.#phase !== "full-feature" || !(error instanceof ProtocolError) || this.#user === undefined) throw error;
    const isUnknown = error.code === "OPCODE_UNKNOWN";
    const reason = isUnknown ? RejectReason.commandNotSupported : RejectReason.invalidPduField;
    if (!this.#user.onMalformed(Buffer.from(raw.header), reason)) throw error;
  }

  #onClose(error: Error | undefined): void {
    if (this.#phase === "closed") return;
    this.#phase = "closed";
    this.#loginTimer.cancel();
    this.#closeTimer?.cancel();
    this.#resynchronisationTimer?.cancel();
    // What was never handed to the stream is given back here; the stream answers for the rest.
    const callbacks = this.#onSent;
    this.#onSent = [];
    for (const callback of callbacks) callback();
    this.#login?.onClosed();
    this.#user?.onClosed(error);
    this.#onClosed();
  }
}

function isInitiatorPdu(pdu: { readonly type: string }): pdu is InitiatorPdu {
  switch (pdu.type) {
    case "nop-out":
    case "scsi-command":
    case "task-management-request":
    case "login-request":
    case "text-request":
    case "scsi-data-out":
    case "logout-request":
    case "snack-request":
      return true;
    default:
      return false;
  }
}

function notNow(message: string): TargetError {
  return new TargetError("TARGET_PEER_PROTOCOL", message);
}
