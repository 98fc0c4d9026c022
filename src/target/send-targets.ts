import { formatPortal } from "../base/portal.js";
import type { TargetPortal } from "./api.js";

/** A target as discovery lists it. */
export interface ListedTarget {
  readonly name: string;
}

/** Portals that say nothing belong to one portal group, and one target port. */
const DEFAULT_PORTAL_GROUP_TAG = 1;

/** The portal group of a portal. */
export function portalGroupTagOf(portal: TargetPortal): number {
  return portal.portalGroupTag ?? DEFAULT_PORTAL_GROUP_TAG;
}

/** Addresses that stand for every interface: an initiator cannot connect to them. */
function isWildcard(host: string): boolean {
  return host === "0.0.0.0" || host === "::";
}

/**
 * The answer to SendTargets (RFC 7143 §13.3, Appendix C): every listed target with its addresses. A portal bound to
 * every interface is listed under the address the initiator reached us at.
 */
export function sendTargetsAnswer(options: {
  readonly targets: readonly ListedTarget[];
  /** As bound. */
  readonly portals: readonly TargetPortal[];
  readonly reachedHost: string;
}): [string, string][] {
  // A socket for both families sees IPv4 peers at mapped addresses, which IPv4 initiators cannot use.
  const reachedHost = options.reachedHost.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, "");
  const addresses = options.portals.map((portal) => {
    const host = isWildcard(portal.host) ? reachedHost : portal.host;
    return `${formatPortal({ host, port: portal.port })},${portalGroupTagOf(portal)}`;
  });
  const unique = [...new Set(addresses)];
  return options.targets.flatMap(({ name }): [string, string][] => [
    ["TargetName", name],
    ...unique.map((address): [string, string] => ["TargetAddress", address]),
  ]);
}
