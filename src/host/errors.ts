import { AppError } from "../base/errors.js";

/**
 * The host refused something: a system call, a program, a device. Codes of system calls are `HOST_` and the
 * errno's name (`HOST_EBUSY`); `details.errno` has the name alone.
 */
export class HostError extends AppError {
  constructor(code: string, message: string, options: ConstructorParameters<typeof AppError>[3] = {}) {
    super("host", code, message, options);
  }
}
