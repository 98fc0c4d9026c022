import { MAX_BLOCK_REQUEST_BYTES, SPLIT_REQUESTS_IN_FLIGHT } from "../base/limits.js";
import type { BlockDevice, BlockDeviceInfo, DeviceEvent, WriteOptions } from "./device.js";
import { ForwardingDevice } from "./forwarding-device.js";

/**
 * A device that takes reads and writes of any size and cuts those larger than `device.info.maxTransferBytes` into
 * pieces, a few of them in flight at once. It fails with the first piece's error once no piece is in flight any more,
 * so that the caller's buffer is its own again. Says in `info` that it takes up to MAX_BLOCK_REQUEST_BYTES at once.
 */
export function splitFilter(device: BlockDevice, options: SplitOptions = {}): BlockDevice {
  return new SplitDevice(device, options);
}

export interface SplitOptions {
  /** Largest piece, where the device itself would take larger ones; at least one of its blocks is sent in any case. */
  readonly maxPieceBytes?: number;
}

class SplitDevice extends ForwardingDevice {
  readonly #maxPieceBytes: number;
  #innerInfo: BlockDeviceInfo;
  /** The inner device's, no larger than asked for. */
  #limited: BlockDeviceInfo;
  #info: BlockDeviceInfo;
  #pieceBytes: number;

  constructor(inner: BlockDevice, { maxPieceBytes = Number.POSITIVE_INFINITY }: SplitOptions) {
    super(inner);
    this.#maxPieceBytes = maxPieceBytes;
    this.#innerInfo = inner.info;
    this.#limited = limitedInfo(inner.info, maxPieceBytes);
    this.#info = splitInfo(this.#limited);
    this.#pieceBytes = pieceBytes(this.#limited);
  }

  override get info(): BlockDeviceInfo {
    this.#refresh();
    return this.#info;
  }

  override read(offsetBytes: number, target: Buffer): Promise<void> {
    this.#refresh();
    if (target.length <= this.#limited.maxTransferBytes) return this.inner.read(offsetBytes, target);
    return this.#inPieces(offsetBytes, target, (pieceOffset, piece) => this.inner.read(pieceOffset, piece));
  }

  override write(offsetBytes: number, source: Buffer, options?: WriteOptions): Promise<void> {
    this.#refresh();
    if (source.length <= this.#limited.maxTransferBytes) return this.inner.write(offsetBytes, source, options);
    return this.#inPieces(offsetBytes, source, (pieceOffset, piece) => this.inner.write(pieceOffset, piece, options));
  }

  override onEvent(listener: (event: DeviceEvent) => void): () => void {
    return this.inner.onEvent((event) => {
      if (event.kind !== "info-changed") listener(event);
      else listener({ kind: "info-changed", info: splitInfo(limitedInfo(event.info, this.#maxPieceBytes)) });
    });
  }

  /** `info` is a new object whenever it changed, so comparing it is enough. */
  #refresh(): void {
    const current = this.inner.info;
    if (current === this.#innerInfo) return;
    this.#innerInfo = current;
    this.#limited = limitedInfo(current, this.#maxPieceBytes);
    this.#info = splitInfo(this.#limited);
    this.#pieceBytes = pieceBytes(this.#limited);
  }

  async #inPieces(
    offsetBytes: number,
    buffer: Buffer,
    transfer: (offsetBytes: number, piece: Buffer) => Promise<void>,
  ): Promise<void> {
    const step = this.#pieceBytes;
    let at = 0;
    let hasFailed = false;
    const worker = async (): Promise<void> => {
      while (at < buffer.length && !hasFailed) {
        const start = at;
        // Pieces end at multiples of their size, so that all but the first and last keep the array's alignment.
        at = Math.min(buffer.length, start + step - ((offsetBytes + start) % step));
        try {
          await transfer(offsetBytes + start, buffer.subarray(start, at));
        } catch (error) {
          hasFailed = true;
          throw error;
        }
      }
    };
    const results = await Promise.allSettled(Array.from({ length: SPLIT_REQUESTS_IN_FLIGHT }, worker));
    const failure = results.find((result) => result.status === "rejected");
    if (failure !== undefined) throw failure.reason;
  }
}

/** What the device says, with transfers of at most `maxPieceBytes`, but of one logical block at least. */
function limitedInfo(info: BlockDeviceInfo, maxPieceBytes: number): BlockDeviceInfo {
  const maxTransferBytes = Math.min(info.maxTransferBytes, Math.max(maxPieceBytes, info.logicalBlockBytes));
  if (maxTransferBytes === info.maxTransferBytes) return info;
  return { ...info, maxTransferBytes, optimalTransferBytes: Math.min(info.optimalTransferBytes, maxTransferBytes) };
}

function splitInfo(info: BlockDeviceInfo): BlockDeviceInfo {
  return Object.freeze({
    ...info,
    maxTransferBytes: Math.max(info.maxTransferBytes, MAX_BLOCK_REQUEST_BYTES),
    optimalTransferBytes: info.optimalTransferBytes === 0 ? info.maxTransferBytes : info.optimalTransferBytes,
  });
}

/** The largest piece that is whole physical blocks, or at least whole logical ones. */
function pieceBytes({ maxTransferBytes, physicalBlockBytes, logicalBlockBytes }: BlockDeviceInfo): number {
  const unit = physicalBlockBytes <= maxTransferBytes ? physicalBlockBytes : logicalBlockBytes;
  return Math.max(unit, maxTransferBytes - (maxTransferBytes % unit));
}
