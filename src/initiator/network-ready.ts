import { AppError, errorCode } from "../base/errors.js";

/** Between attempts while the network is not ready. */
export const NETWORK_READY_DELAY_MS = 1_000;

const NETWORK_NOT_READY: ReadonlySet<string> = new Set([
  "TRANSPORT_UNREACHABLE",
  "TRANSPORT_ADDRESS_NOT_AVAILABLE",
  "TRANSPORT_NAME_NOT_FOUND",
]);

/** This machine has no address or no way out yet, as while it boots; that the target does not answer is another matter. */
export function isNetworkNotReady(error: unknown): boolean {
  return isTransport(error) && NETWORK_NOT_READY.has(errorCode(error) ?? "");
}

/** The target could not be reached at all: it has said nothing about what was asked. */
export function isTransport(error: unknown): boolean {
  return error instanceof AppError && error.layer === "transport";
}
