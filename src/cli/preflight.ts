import { AppError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { Finding } from "../host/preflight.js";

/**
 * Logs what this host lacks, one line each, and throws PREFLIGHT_FAILED (exit code 14) with all of it that nothing
 * works without.
 */
export function reportFindings(findings: readonly Finding[], logger: Logger): void {
  for (const { isFatal, message } of findings) {
    if (isFatal) logger.error("this host lacks what nothing works without", { reason: message });
    else logger.warn("this host lacks something", { reason: message });
  }
  const fatal = findings.filter(({ isFatal }) => isFatal);
  if (fatal.length === 0) return;
  throw new AppError("host", "PREFLIGHT_FAILED", fatal.map(({ message }) => message).join(". Also: "));
}
