import { AppError } from "../base/errors.js";

export type BlockErrorCode =
  /** The medium or the target failed the operation for good. */
  | "BLOCK_IO"
  /** Thin pool or file system behind the device is full. */
  | "BLOCK_NO_SPACE"
  | "BLOCK_READ_ONLY"
  /** Outside the device, misaligned, too long. */
  | "BLOCK_INVALID_RANGE"
  | "BLOCK_NOT_SUPPORTED"
  /** A reservation of another initiator. */
  | "BLOCK_RESERVATION_CONFLICT"
  /** No path, and the time to wait for one is over. */
  | "BLOCK_UNAVAILABLE"
  /** The target has no such unit for us. Waited for like a path that is gone: it may be mapped again. */
  | "BLOCK_NO_SUCH_LUN"
  /** COMPARE AND WRITE found other data. */
  | "BLOCK_MISCOMPARE"
  /** The device was closed. */
  | "BLOCK_CLOSED"
  /** The device behind the name is not the one that was there before. */
  | "BLOCK_IDENTITY_MISMATCH";

/** What a BlockDevice operation fails with. */
export class BlockError extends AppError {
  declare readonly code: BlockErrorCode;

  constructor(code: BlockErrorCode, message: string, options: ConstructorParameters<typeof AppError>[3] = {}) {
    super("block", code, message, options);
  }
}
