import { AppError } from "../base/errors.js";

export type CsiErrorCode =
  | "CSI_INVALID_ARGUMENT"
  | "CSI_NOT_FOUND"
  | "CSI_ALREADY_EXISTS"
  | "CSI_FAILED_PRECONDITION"
  /** Another call for the same volume is under way, or a list token is not ours. */
  | "CSI_ABORTED"
  | "CSI_OUT_OF_RANGE"
  | "CSI_UNIMPLEMENTED"
  | "CSI_UNAUTHENTICATED"
  | "CSI_UNAVAILABLE"
  | "CSI_INTERNAL";

/** What a CSI service itself finds wrong; the code is the gRPC status after `CSI_`. */
export class CsiError extends AppError {
  declare readonly code: CsiErrorCode;

  constructor(code: CsiErrorCode, message: string, options: ConstructorParameters<typeof AppError>[3] = {}) {
    super("csi", code, message, options);
  }
}
