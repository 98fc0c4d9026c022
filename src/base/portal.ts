import type { PortalAddress } from "./access.js";
import { AppError } from "./errors.js";

/** The IANA port of iSCSI, RFC 7143 §15. */
export const DEFAULT_ISCSI_PORT = 3260;

/**
 * A portal from `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address. Fails with PORTAL_INVALID.
 */
export function parsePortal(text: string): PortalAddress {
  const trimmed = text.trim();
  const bracketed = /^\[([0-9a-fA-F:.]+(?:%[\w.]+)?)\](?::(\d{1,5}))?$/.exec(trimmed);
  const isBareIpv6 = /^[0-9a-fA-F.]*:[0-9a-fA-F.]*:[0-9a-fA-F:.]*$/.test(trimmed);
  const plain = isBareIpv6 ? [trimmed, trimmed, undefined] : /^([A-Za-z0-9._-]+)(?::(\d{1,5}))?$/.exec(trimmed);
  const match = bracketed ?? plain;
  const host = match?.[1];
  const port = match?.[2] === undefined ? DEFAULT_ISCSI_PORT : Number(match[2]);
  if (host === undefined || port < 0 || port > 65_535) {
    throw new AppError("base", "PORTAL_INVALID", `"${text}" is not a portal; write HOST, HOST:PORT or [IPv6]:PORT`);
  }
  return { host, port };
}

/** `host:port`, with brackets round IPv6. */
export function formatPortal(portal: PortalAddress): string {
  return portal.host.includes(":") ? `[${portal.host}]:${portal.port}` : `${portal.host}:${portal.port}`;
}
