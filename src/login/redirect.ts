import type { PortalAddress } from "../base/access.js";
import { MAX_LOGIN_REDIRECTS } from "../base/limits.js";
import { DEFAULT_ISCSI_PORT, formatPortal } from "../base/portal.js";
import { LoginError } from "./errors.js";

/** A portal as `TargetAddress` names it (RFC 7143 §13.8). */
export interface TargetAddress {
  readonly host: string;
  readonly port: number;
  readonly portalGroupTag?: number;
}

/** Where a Login Response of class 1 sends us. */
export interface Redirect {
  readonly kind: "temporary" | "permanent";
  readonly host: string;
  readonly port: number;
}

const pattern = /^(?:\[([0-9a-fA-F:.]+(?:%[\w.-]+)?)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?(?:,(\w{1,6}))?$/;

/**
 * `domainname[:port][,portal-group-tag]`; IPv6 in brackets; port 3260 when there is none. The tag may be decimal or
 * hexadecimal. Throws LoginError TARGET_ADDRESS_INVALID.
 */
export function parseTargetAddress(text: string): TargetAddress {
  const match = text.length > 300 ? null : pattern.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = match?.[3] === undefined ? DEFAULT_ISCSI_PORT : Number(match[3]);
  const tag = match?.[4] === undefined ? undefined : parseTag(match[4]);
  if (host === undefined || port < 1 || port > 65_535 || Number.isNaN(tag)) {
    throw new LoginError(
      "TARGET_ADDRESS_INVALID",
      `the target gave the address ${JSON.stringify(text.slice(0, 80))}, which is not HOST[:PORT][,TAG] (RFC 7143 §13.8)`,
    );
  }
  return tag === undefined ? { host, port } : { host, port, portalGroupTag: tag };
}

/** The text of a TargetAddress. In a redirect the tag must be left out, in SendTargets it must be there. */
export function formatTargetAddress(address: TargetAddress): string {
  const portal = formatPortal(address);
  return address.portalGroupTag === undefined ? portal : `${portal},${address.portalGroupTag}`;
}

function parseTag(text: string): number {
  const value = /^(?:[0-9]{1,5}|0[xX][0-9a-fA-F]{1,4})$/.test(text) ? Number(text) : Number.NaN;
  return value <= 65_535 ? value : Number.NaN;
}

/**
 * Follows the redirects of one target (§11.13.5). A temporary one holds for the login under way: the next login begins
 * at the original portal again. A permanent one replaces the original.
 */
export class RedirectFollower {
  #original: PortalAddress;
  #followed = 0;

  constructor(original: PortalAddress) {
    this.#original = original;
  }

  /** Where the next login begins. Starts a new count of redirects. */
  begin(): PortalAddress {
    this.#followed = 0;
    return this.#original;
  }

  /** Where the login under way goes on. Throws LoginError LOGIN_TOO_MANY_REDIRECTS past MAX_LOGIN_REDIRECTS. */
  follow(redirect: Redirect): PortalAddress {
    const portal = { host: redirect.host, port: redirect.port };
    this.#followed += 1;
    if (this.#followed > MAX_LOGIN_REDIRECTS) {
      throw new LoginError(
        "LOGIN_TOO_MANY_REDIRECTS",
        `login at ${formatPortal(this.#original)} was redirected more than ${MAX_LOGIN_REDIRECTS} times, last to ` +
          `${formatPortal(portal)}; look for targets that redirect to each other`,
        { retry: "other-path" },
      );
    }
    if (redirect.kind === "permanent") this.#original = portal;
    return portal;
  }
}
