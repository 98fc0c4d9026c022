import { AppError } from "../base/errors.js";

export type MultipathErrorCode =
  /** No path has carried requests for longer than the operator allows, or none ever has. */
  | "MULTIPATH_NO_PATH"
  /** There is no path with this name. */
  | "MULTIPATH_PATH_UNKNOWN"
  /** The only path that carries requests cannot be taken out of service. */
  | "MULTIPATH_LAST_PATH"
  /** The paths tell different sizes of the unit. */
  | "MULTIPATH_CAPACITY_DISAGREES"
  /** What is behind a path is not the unit that is behind the others. */
  | "MULTIPATH_PATH_REFUSED";

/** What the paths of a device fail with, beside what their units answer. */
export class MultipathError extends AppError {
  declare readonly code: MultipathErrorCode;

  constructor(code: MultipathErrorCode, message: string, options: ConstructorParameters<typeof AppError>[3] = {}) {
    super("multipath", code, message, options);
  }
}

/** The code is the one that every closed device answers with. */
export function closedError(): AppError {
  return new AppError("block", "BLOCK_CLOSED", "the multipath device is closed");
}

export function pathUnknown(id: string, knownIds: readonly string[]): MultipathError {
  const known = knownIds.length === 0 ? "there are none" : `there are ${knownIds.join(", ")}`;
  return new MultipathError("MULTIPATH_PATH_UNKNOWN", `there is no path ${id}; ${known}`, {
    details: { id, knownIds },
  });
}
