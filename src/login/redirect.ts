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
  /** The portal as it was named, whatever became of it. */
  readonly named: PortalAddress;
  #portal: PortalAddress;
  /** What `portal` was when the login under way began. */
  #portalBefore: PortalAddress;
  #visited: PortalAddress[];
  #isPermanent = true;

  constructor(portal: PortalAddress) {
    this.named = portal;
    this.#portal = portal;
    this.#portalBefore = portal;
    this.#visited = [portal];
  }

  /** Where the next login begins: the portal as it was named, or where a permanent redirect has moved it. */
  get portal(): PortalAddress {
    return this.#portal;
  }

  /** Where the next login begins. Starts a new count of redirects. */
  begin(): PortalAddress {
    this.#portalBefore = this.#portal;
    this.#visited = [this.#portal];
    this.#isPermanent = true;
    return this.#portal;
  }

  /**
   * Where the login under way goes on. Throws LoginError LOGIN_TOO_MANY_REDIRECTS past MAX_LOGIN_REDIRECTS, naming the
   * way it was led; permanent redirects of that login are forgotten then, or it would begin in the loop for ever.
   */
  follow(redirect: Redirect): PortalAddress {
    const portal = { host: redirect.host, port: redirect.port };
    this.#visited.push(portal);
    if (this.#visited.length - 1 > MAX_LOGIN_REDIRECTS) {
      this.#portal = this.#portalBefore;
      throw tooManyRedirects(this.#visited.map(formatPortal));
    }
    // What a portal moves for good that we reached for the time being says nothing about the original.
    this.#isPermanent &&= redirect.kind === "permanent";
    if (this.#isPermanent) this.#portal = portal;
    return portal;
  }
}

function tooManyRedirects(way: readonly string[]): LoginError {
  const isLoop = new Set(way).size < way.length;
  const remedy = isLoop
    ? "portals redirect to each other: mend the redirects of the target"
    : "look for a target that redirects without end";
  return new LoginError(
    "LOGIN_TOO_MANY_REDIRECTS",
    `login at ${way[0] ?? ""} was redirected more than ${MAX_LOGIN_REDIRECTS} times (${way.join(" → ")}); ${remedy}`,
    { retry: "other-path", details: { isLoop, way } },
  );
}
