import { AppError } from "../base/errors.js";
import { BlockError, type BlockErrorCode } from "../block/errors.js";
import { NbdErrno } from "./constants.js";

/** A peer that does not speak NBD, or a server that cannot serve. */
export class NbdError extends AppError {
  constructor(code: string, message: string, options: ConstructorParameters<typeof AppError>[3] = {}) {
    super("nbd", code, message, options);
  }
}

const errnoOfBlockError: Readonly<Record<BlockErrorCode, NbdErrno>> = {
  BLOCK_IO: NbdErrno.EIO,
  BLOCK_NO_SPACE: NbdErrno.ENOSPC,
  BLOCK_READ_ONLY: NbdErrno.EPERM,
  BLOCK_INVALID_RANGE: NbdErrno.EINVAL,
  BLOCK_NOT_SUPPORTED: NbdErrno.ENOTSUP,
  BLOCK_RESERVATION_CONFLICT: NbdErrno.EPERM,
  BLOCK_UNAVAILABLE: NbdErrno.EIO,
  BLOCK_NO_SUCH_LUN: NbdErrno.EIO,
  BLOCK_MISCOMPARE: NbdErrno.EIO,
  BLOCK_CLOSED: NbdErrno.ESHUTDOWN,
  BLOCK_IDENTITY_MISMATCH: NbdErrno.EIO,
};

/** What a client is told of a failed device operation. Whatever is not a BlockError is EIO. */
export function errnoOf(error: unknown): NbdErrno {
  return error instanceof BlockError ? errnoOfBlockError[error.code] : NbdErrno.EIO;
}
