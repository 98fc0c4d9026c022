import { AppError } from "../base/errors.js";

export type ScsiErrorCode =
  /** Fewer bytes than the format needs; `details.requiredBytes` says how many would do. */
  | "SCSI_DATA_TRUNCATED"
  /** A field holds what the standard does not allow. */
  | "SCSI_DATA_INVALID"
  /** A 64-bit number beyond 2^53 - 1: no device Hawser can address is that large. */
  | "SCSI_VALUE_TOO_LARGE"
  /** A caller's argument does not fit its field. */
  | "SCSI_ARGUMENT_INVALID";

/** Parameter data, sense data or a CDB that cannot be read or built. */
export class ScsiError extends AppError {
  declare readonly code: ScsiErrorCode;

  constructor(code: ScsiErrorCode, message: string, options: ConstructorParameters<typeof AppError>[3] = {}) {
    super("scsi", code, message, options);
  }
}
