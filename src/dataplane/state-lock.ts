import { constants } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { errorCode, errorMessage } from "../base/errors.js";
import { lockExclusive } from "../host/ffi.js";
import { DataplaneError } from "./errors.js";

const FILE_NAME = "dataplane.lock";

/**
 * Makes this process the only dataplane of a state directory, until it calls the result or ends, however it ends: the
 * lock is the kernel's (flock), not the file's, and holds across containers, whose process ids say nothing to each
 * other. Throws DATAPLANE_ALREADY_RUNNING, STATE_FAILED.
 */
export async function lockState(stateDirectory: string): Promise<() => Promise<void>> {
  const path = join(stateDirectory, FILE_NAME);
  let file: FileHandle | undefined;
  try {
    file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    await lockExclusive(file.fd);
  } catch (error) {
    await file?.close();
    if (errorCode(error) === "HOST_EAGAIN") {
      throw new DataplaneError(
        "DATAPLANE_ALREADY_RUNNING",
        `another dataplane uses ${stateDirectory}; two must never serve the same volumes: stop it first`,
        { cause: error },
      );
    }
    throw new DataplaneError("STATE_FAILED", `cannot lock ${path}: ${errorMessage(error)}`, { cause: error });
  }
  const held = file;
  // The file stays: to remove it would let two processes lock two files of the same name.
  return () => held.close();
}
