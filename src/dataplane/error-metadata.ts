import { Metadata, status, type ServiceError } from "@grpc/grpc-js";
import { z } from "zod";
import { AppError, CancelledError, errorMessage, TimeoutError } from "../base/errors.js";
import { DataplaneError } from "./errors.js";

/** Trailing metadata with the AppError as JSON; the ending makes gRPC carry bytes. */
const METADATA_KEY = "hawser-error-bin";

/** HTTP/2 peers limit all headers together, commonly to 16 KiB; base64 takes a third on top. */
const MAX_MESSAGE_CHARACTERS = 2_000;
const MAX_DETAILS_BYTES = 4_000;

const LAYERS = [
  ...(["base", "wire", "scsi", "host", "login", "transport", "session", "discovery", "block", "multipath"] as const),
  ...(["nbd", "initiator", "target", "dataplane", "storage", "csi", "config", "cli"] as const),
] as const;

const errorSchema = z.object({
  layer: z.enum(LAYERS),
  code: z.string(),
  message: z.string(),
  retry: z.enum(["never", "same-path", "other-path"]),
  kind: z.enum(["error", "cancelled", "timeout"]),
  details: z.record(z.string(), z.unknown()),
});

/** gRPC's own status, for clients that know no more; ours read the metadata. */
const STATUS_OF_CODE: Readonly<Record<string, status>> = {
  VOLUME_INVALID: status.INVALID_ARGUMENT,
  INITIATOR_SETTING_INVALID: status.INVALID_ARGUMENT,
  VOLUME_NOT_FOUND: status.NOT_FOUND,
  MULTIPATH_PATH_UNKNOWN: status.NOT_FOUND,
  VOLUME_MISMATCH: status.ALREADY_EXISTS,
  VOLUME_LIMIT: status.RESOURCE_EXHAUSTED,
  DATAPLANE_TOO_MANY_WATCHERS: status.RESOURCE_EXHAUSTED,
  DATAPLANE_STOPPING: status.UNAVAILABLE,
  DATAPLANE_CANCELLED: status.CANCELLED,
};

/** The answer of a failed call. */
export function toServiceError(
  error: unknown,
): Pick<ServiceError, "code" | "details" | "metadata" | "name" | "message"> {
  const appError =
    error instanceof AppError
      ? error
      : new DataplaneError("DATAPLANE_INTERNAL", `unexpected failure: ${errorMessage(error)}`);
  const message = appError.message.slice(0, MAX_MESSAGE_CHARACTERS);
  const kind = error instanceof CancelledError ? "cancelled" : error instanceof TimeoutError ? "timeout" : "error";
  const { layer, code, retry } = appError;
  const body = JSON.stringify({ layer, code, message, retry, kind, details: plainDetails(appError.details) });
  const metadata = new Metadata();
  metadata.set(METADATA_KEY, Buffer.from(body));
  return {
    name: "Error",
    message,
    code: STATUS_OF_CODE[code] ?? status.FAILED_PRECONDITION,
    details: code,
    metadata,
  };
}

/** The AppError a failed call carried, or undefined when it did not come from a dataplane. */
export function fromServiceError(error: ServiceError): AppError | undefined {
  // A call that never left has no metadata, whatever the type says.
  const metadata = error.metadata as Metadata | undefined;
  const [value] = metadata?.get(METADATA_KEY) ?? [];
  if (!Buffer.isBuffer(value)) return undefined;
  const parsed = errorSchema.safeParse(parseOrUndefined(value.toString()));
  if (!parsed.success) return undefined;
  const { layer, code, message, retry, kind, details } = parsed.data;
  const Kind = kind === "cancelled" ? CancelledError : kind === "timeout" ? TimeoutError : AppError;
  return new Kind(layer, code, message, { retry, details });
}

/** Details as JSON; left out when they are not plain or too large for a header. */
function plainDetails(details: Readonly<Record<string, unknown>>): unknown {
  try {
    const text = JSON.stringify(details);
    return Buffer.byteLength(text) <= MAX_DETAILS_BYTES ? JSON.parse(text) : {};
  } catch {
    return {};
  }
}

function parseOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
