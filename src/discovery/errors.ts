import { AppError, type AppErrorOptions } from "../base/errors.js";

/** A discovery whose answer makes no sense. */
export class DiscoveryError extends AppError {
  constructor(code: "DISCOVERY_ANSWER_INVALID" | "STATIC_TARGET_INVALID", message: string, options?: AppErrorOptions) {
    super("discovery", code, message, options);
  }
}
