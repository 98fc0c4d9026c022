import type { RetryAdvice } from "../base/errors.js";
import { errorCode, errorMessage } from "../base/errors.js";
import { formatPortal } from "../base/portal.js";
import { HostError } from "../host/errors.js";
import type { Endpoint } from "./transport.js";
import { TransportError } from "./transport.js";

interface Meaning {
  readonly code: string;
  readonly reason: string;
  readonly retry: RetryAdvice;
}

const unreachable: Meaning = { code: "TRANSPORT_UNREACHABLE", reason: "there is no route to it", retry: "other-path" };
const refused: Meaning = { code: "TRANSPORT_REFUSED", reason: "nothing listens there", retry: "other-path" };
const broken: Meaning = { code: "TRANSPORT_RESET", reason: "the peer broke the connection", retry: "other-path" };
const timedOut: Meaning = { code: "TRANSPORT_TIMEOUT", reason: "it does not answer", retry: "other-path" };
const forbidden: Meaning = { code: "TRANSPORT_FORBIDDEN", reason: "the system does not allow it", retry: "never" };
const exhausted: Meaning = {
  code: "TRANSPORT_EXHAUSTED",
  reason: "the system has no sockets left",
  retry: "same-path",
};

const meanings: Readonly<Record<string, Meaning>> = {
  ECONNREFUSED: refused,
  ENOENT: { code: "TRANSPORT_REFUSED", reason: "there is no such socket", retry: "other-path" },
  ENOTFOUND: { code: "TRANSPORT_NAME_NOT_FOUND", reason: "the name has no address", retry: "other-path" },
  EAI_AGAIN: { code: "TRANSPORT_NAME_NOT_FOUND", reason: "the name service does not answer", retry: "same-path" },
  EHOSTUNREACH: unreachable,
  ENETUNREACH: unreachable,
  ENETDOWN: unreachable,
  EAFNOSUPPORT: {
    code: "TRANSPORT_UNREACHABLE",
    reason: "the system does not have this version of IP",
    retry: "other-path",
  },
  ENODEV: { code: "TRANSPORT_NO_INTERFACE", reason: "there is no such network interface", retry: "other-path" },
  EHOSTDOWN: unreachable,
  ECONNRESET: broken,
  ECONNABORTED: broken,
  EPIPE: broken,
  ETIMEDOUT: timedOut,
  EADDRINUSE: { code: "TRANSPORT_ADDRESS_IN_USE", reason: "another process listens there", retry: "never" },
  EADDRNOTAVAIL: {
    code: "TRANSPORT_ADDRESS_NOT_AVAILABLE",
    reason: "the address is not this machine's",
    retry: "other-path",
  },
  EACCES: forbidden,
  EPERM: forbidden,
  EMFILE: exhausted,
  ENFILE: exhausted,
  ENOBUFS: exhausted,
};

/** `host:port`, `[v6]:port` or the path of a unix socket. */
export function formatEndpoint(endpoint: Endpoint): string {
  return endpoint.kind === "tcp" ? formatPortal(endpoint) : endpoint.path;
}

/** A system error as a TransportError: stable code, the reason in words, and whether another path may do better. */
export function toTransportError(error: unknown, action: string): TransportError {
  if (error instanceof TransportError) return error;
  const systemCode = error instanceof HostError ? errnoOf(error) : firstSystemCode(error);
  const meaning = systemCode === undefined ? undefined : meanings[systemCode];
  const code = meaning?.code ?? "TRANSPORT_FAILED";
  // A HostError says what was wrong with which thing already.
  const reason = error instanceof HostError ? error.message : (meaning?.reason ?? errorMessage(error));
  return new TransportError(
    "transport",
    code,
    `${action} failed: ${reason}${systemCode === undefined ? "" : ` (${systemCode})`}`,
    {
      retry: meaning?.retry ?? "other-path",
      details: { systemCode },
      cause: error,
    },
  );
}

function errnoOf(error: HostError): string | undefined {
  const { errno } = error.details;
  return typeof errno === "string" ? errno : undefined;
}

/** Trying all addresses of a name ends in one error that holds the others. */
function firstSystemCode(error: unknown): string | undefined {
  const own = errorCode(error);
  if (own !== undefined || !(error instanceof AggregateError)) return own;
  return error.errors.map(errorCode).find((code) => code !== undefined);
}
