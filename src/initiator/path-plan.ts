import { createHash } from "node:crypto";
import type { PortalAddress } from "../base/access.js";
import { MAX_PATHS_PER_VOLUME } from "../base/limits.js";
import { isInSubnet, isIpAddress } from "../base/ip-address.js";
import { formatPortal } from "../base/portal.js";
import type { NetworkInterfaceAddress } from "../host/network-interfaces.js";

/** One way to a target: out of the node by a source, into the target by a portal. */
export interface PathPlan {
  /** Stays the same while source and portal do: `eth1/10.0.1.5->10.0.1.9:3260`, or the portal alone. */
  readonly id: string;
  readonly portal: PortalAddress;
  readonly localAddress?: string;
  readonly localInterface?: string;
}

export interface PathPlanRequest {
  /** In the order in which they are preferred. */
  readonly portals: readonly PortalAddress[];
  /** Interfaces by name and addresses of this node, `all`, or none: then the routes choose the source. */
  readonly sources: readonly string[];
  /** Addresses of this node as they are now. */
  readonly interfaces: readonly NetworkInterfaceAddress[];
}

/** A place connections come from. */
interface Source {
  readonly localAddress?: string;
  readonly localInterface?: string;
}

/**
 * The paths that portals and sources make: each source with each portal that it can reach, portal by portal. A source that
 * the node does not have now makes none; it may come later. At most MAX_PATHS_PER_VOLUME.
 */
export function planPaths({ portals, sources, interfaces }: PathPlanRequest): readonly PathPlan[] {
  const plans = new Map<string, PathPlan>();
  for (const portal of portals) {
    for (const source of sourcesOf(portal, sources, interfaces)) {
      const id = pathId(portal, source);
      if (plans.size < MAX_PATHS_PER_VOLUME && !plans.has(id)) plans.set(id, { id, portal, ...source });
    }
  }
  return [...plans.values()];
}

/**
 * The ISID of a path (RFC 7143 §11.12.5, type 10b): made of the volume's own and the path's name, so that it is the same
 * after a restart, whichever paths there are then. Six bytes.
 */
export function pathIsid(volumeIsid: Buffer, id: string): Buffer {
  const hash = createHash("sha256").update(volumeIsid).update(id).digest();
  return Buffer.concat([volumeIsid.subarray(0, 1), hash.subarray(0, 5)]);
}

function pathId(portal: PortalAddress, { localAddress, localInterface }: Source): string {
  const source = [localInterface, localAddress].filter((part) => part !== undefined).join("/");
  return source === "" ? formatPortal(portal) : `${source}->${formatPortal(portal)}`;
}

function sourcesOf(
  portal: PortalAddress,
  sources: readonly string[],
  interfaces: readonly NetworkInterfaceAddress[],
): readonly Source[] {
  if (sources.length === 0) return [{}];
  const family = familyOf(portal.host);
  const possible = interfaces.filter((entry) => family === undefined || entry.family === family);
  if (sources.includes("all")) {
    const near = possible.filter((entry) => !entry.isInternal && reaches(entry, portal.host));
    // A portal behind a router: which interface leads there is for the routes to say.
    return near.length === 0 ? [{}] : near.map((entry) => boundTo(entry, portal));
  }
  return sources.flatMap((source) => {
    if (!isIpAddress(source)) return ofInterface(source, possible, portal);
    const owner = possible.find((entry) => entry.address === source);
    if (owner !== undefined) return [boundTo(owner, portal)];
    // Every address of 127.0.0.0/8 is the node's own, though only one is listed.
    const isLocal = possible.some((entry) => entry.isInternal && isInSubnet(source, entry));
    return isLocal ? [{ localAddress: source }] : [];
  });
}

/** The address of the interface that the portal is next to; where it has several, the first will do otherwise. */
function ofInterface(
  name: string,
  possible: readonly NetworkInterfaceAddress[],
  portal: PortalAddress,
): readonly Source[] {
  const own = possible.filter((entry) => entry.name === name && !isLinkLocal(entry.address));
  const chosen = own.find((entry) => reaches(entry, portal.host)) ?? own[0];
  return chosen === undefined ? [] : [boundTo(chosen, portal)];
}

function boundTo({ name, address }: NetworkInterfaceAddress, portal: PortalAddress): Source {
  // What a name resolves to decides about the family, so its address cannot be chosen here.
  return familyOf(portal.host) === undefined
    ? { localInterface: name }
    : { localInterface: name, localAddress: address };
}

function reaches(entry: NetworkInterfaceAddress, host: string): boolean {
  return isIpAddress(host) && isInSubnet(host, entry);
}

function familyOf(host: string): "ipv4" | "ipv6" | undefined {
  if (!isIpAddress(host)) return undefined;
  return host.includes(":") ? "ipv6" : "ipv4";
}

function isLinkLocal(address: string): boolean {
  return /^fe[89ab]/i.test(address);
}
