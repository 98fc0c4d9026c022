import type { Clock, Timer } from "../base/clock.js";
import { createDeferred } from "../base/deferred.js";
import { errorMessage } from "../base/errors.js";
import { MAX_NBD_IDLE_BUFFER_BYTES, MAX_NBD_REQUEST_BYTES, NBD_HANDSHAKE_TIMEOUT_MS } from "../base/limits.js";
import type { Logger } from "../base/logger.js";
import type { BlockDevice } from "../block/device.js";
import { splitFilter } from "../block/split.js";
import type { ByteStream, TransportError } from "../transport/transport.js";
import { BufferPool } from "./buffer-pool.js";
import type { NbdExports } from "./export.js";
import { NbdHandshake, type HandshakeOutcome } from "./handshake.js";
import { NbdTransmission } from "./transmission.js";

export interface NbdConnectionOptions {
  readonly stream: ByteStream;
  readonly exports: NbdExports;
  readonly handshakeTimeoutMs?: number;
}

export interface NbdDependencies {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Shared by the connections of one thread; each makes its own when absent. */
  readonly pool?: BufferPool;
}

/** One client being served, from the greeting to the last reply. Starts by itself. */
export class NbdConnection {
  readonly #stream: ByteStream;
  readonly #dependencies: NbdDependencies;
  readonly #handshake: NbdHandshake;
  readonly #handshakeTimer: Timer;
  readonly #closed = createDeferred<undefined>();
  #transmission: NbdTransmission | undefined;
  #isLeaving = false;

  constructor(options: NbdConnectionOptions, dependencies: NbdDependencies) {
    this.#stream = options.stream;
    this.#dependencies = dependencies;
    this.#handshake = new NbdHandshake({ exports: options.exports });
    this.#handshakeTimer = dependencies.clock.setTimer(options.handshakeTimeoutMs ?? NBD_HANDSHAKE_TIMEOUT_MS, () =>
      this.#abandon("the client did not finish the handshake in time"),
    );
    this.#stream.start({
      onData: (chunk) => this.#receive(chunk),
      onClose: (error) => this.#streamClosed(error),
    });
    this.#stream.write([this.#handshake.greeting()]);
  }

  /** Resolves when the stream is gone and every operation that came over it has settled. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /** Lets requests under way finish and be answered, then hangs up. */
  close(): Promise<void> {
    if (this.#transmission === undefined) this.#leave();
    else void this.#transmission.close();
    return this.#closed.promise;
  }

  /** Hangs up now; requests under way settle without a reply. */
  destroy(): void {
    this.#stream.destroy();
  }

  #receive(chunk: Buffer): void {
    if (this.#transmission !== undefined) {
      this.#transmission.receive(chunk);
      return;
    }
    if (this.#isLeaving) return;
    try {
      const progress = this.#handshake.receive(chunk);
      if (progress.send.length > 0) this.#stream.write(progress.send);
      if (progress.outcome !== undefined) this.#finishHandshake(progress.outcome, chunk.subarray(progress.usedBytes));
    } catch (error) {
      this.#abandon(errorMessage(error));
    }
  }

  #finishHandshake(outcome: HandshakeOutcome, rest: Buffer): void {
    this.#handshakeTimer.cancel();
    if (outcome.kind === "abort") {
      this.#leave();
      return;
    }
    this.#transmission = createTransmission(this.#stream, outcome, this.#dependencies);
    if (rest.length > 0) this.#transmission.receive(rest);
  }

  #leave(): void {
    this.#isLeaving = true;
    this.#handshakeTimer.cancel();
    this.#stream.end();
  }

  #abandon(reason: string): void {
    this.#isLeaving = true;
    this.#handshakeTimer.cancel();
    this.#dependencies.logger.warn("NBD client refused", { reason, peer: this.#stream.remoteAddress });
    this.#stream.destroy();
  }

  #streamClosed(error: TransportError | undefined): void {
    this.#handshakeTimer.cancel();
    if (error !== undefined) this.#dependencies.logger.debug("NBD client lost", { reason: error.message });
    if (this.#transmission === undefined) {
      this.#closed.resolve(undefined);
      return;
    }
    this.#transmission.streamClosed();
    void this.#transmission.drained.then(() => this.#closed.resolve(undefined));
  }
}

function createTransmission(
  stream: ByteStream,
  options: { readonly device: BlockDevice; readonly isStructured: boolean; readonly hasBaseAllocation: boolean },
  dependencies: NbdDependencies,
): NbdTransmission {
  const pool = dependencies.pool ?? new BufferPool({ maxIdleBytes: MAX_NBD_IDLE_BUFFER_BYTES });
  // A request may be longer than what the device takes at once.
  const isWide = options.device.info.maxTransferBytes >= MAX_NBD_REQUEST_BYTES;
  const device = isWide ? options.device : splitFilter(options.device);
  return new NbdTransmission(
    { ...options, device },
    { stream, clock: dependencies.clock, logger: dependencies.logger, pool },
  );
}

/** A client that is served without a handshake. */
export interface NbdTransmissionSession {
  /** Resolves when the stream is gone and every operation that came over it has settled. */
  readonly closed: Promise<void>;
  /** Lets requests under way finish and be answered, then hangs up. */
  close(): Promise<void>;
  /** Hangs up now. */
  destroy(): void;
}

/**
 * Serves a peer that is in the transmission phase from the start: the kernel, when it is given its sockets and the
 * device's size and flags over netlink. Replies are simple ones.
 */
export function serveTransmission(
  stream: ByteStream,
  device: BlockDevice,
  dependencies: NbdDependencies,
): NbdTransmissionSession {
  const closed = createDeferred<undefined>();
  const transmission = createTransmission(
    stream,
    { device, isStructured: false, hasBaseAllocation: false },
    dependencies,
  );
  stream.start({
    onData: (chunk) => transmission.receive(chunk),
    onClose: (error) => {
      if (error !== undefined) dependencies.logger.debug("NBD client lost", { reason: error.message });
      transmission.streamClosed();
      void transmission.drained.then(() => closed.resolve(undefined));
    },
  });
  return {
    closed: closed.promise,
    close: () => {
      void transmission.close();
      return closed.promise;
    },
    destroy: () => stream.destroy(),
  };
}
