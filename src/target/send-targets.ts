import type { PortalAddress } from "../base/access.js";
import { formatPortal } from "../base/portal.js";
import type { TargetPortal } from "./api.js";

/** A target as discovery lists it. */
export interface ListedTarget {
  readonly name: string;
  /** Which of the server's portals are told: all of them where nothing is said. */
  readonly advertisedPortals?: readonly PortalAddress[] | undefined;
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

/** An IPv4 address as IPv4 initiators use it: a socket for both families sees their addresses mapped. */
export function unmappedHost(host: string): string {
  return host.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, "");
}

/**
 * The answer to SendTargets (RFC 7143 §13.3, Appendix C): every listed target with its addresses. A portal bound to
 * every interface is listed under the address the initiator reached us at, or under those that are advertised. A target
 * none of whose advertised portals is ours is listed without an address, which stands for the one reached.
 */
export function sendTargetsAnswer(options: {
  readonly targets: readonly ListedTarget[];
  /** As bound. */
  readonly portals: readonly TargetPortal[];
  readonly reachedHost: string;
}): [string, string][] {
  const reachedHost = unmappedHost(options.reachedHost);
  return options.targets.flatMap(({ name, advertisedPortals }): [string, string][] => {
    const addresses = options.portals.flatMap((portal) => {
      const hosts = advertisedPortals === undefined ? [portal.host] : advertisedHosts(portal, advertisedPortals);
      return hosts.map((host) => {
        const address = formatPortal({ host: isWildcard(host) ? reachedHost : host, port: portal.port });
        return `${address},${portalGroupTagOf(portal)}`;
      });
    });
    const unique = [...new Set(addresses)];
    return [["TargetName", name], ...unique.map((address): [string, string] => ["TargetAddress", address])];
  });
}

/** The hosts of the advertised portals that are this one. */
function advertisedHosts(portal: TargetPortal, advertised: readonly PortalAddress[]): string[] {
  const isThis = ({ host, port }: PortalAddress): boolean =>
    port === portal.port && (host === portal.host || isWildcard(portal.host));
  return advertised.filter(isThis).map(({ host }) => host);
}
