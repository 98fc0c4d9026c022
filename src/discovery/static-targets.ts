import type { PortalAddress } from "../base/access.js";
import { formatPortal } from "../base/portal.js";
import { normalizeNodeName } from "../login/node-name.js";
import { DiscoveryError } from "./errors.js";
import type { DiscoveredTarget } from "./send-targets.js";

export interface StaticTarget {
  readonly targetName: string;
  readonly portals: readonly PortalAddress[];
}

/**
 * Targets that an operator names instead of a portal that would list them, in the shape of a discovery: names in their
 * normal form, portals of one name together, each once. Throws DiscoveryError STATIC_TARGET_INVALID for a target without
 * portal, NodeNameError for a name that is none (RFC 7143 §4.2.7).
 */
export function staticTargets(entries: readonly StaticTarget[]): DiscoveredTarget[] {
  const byName = new Map<string, Map<string, PortalAddress>>();
  for (const { targetName, portals } of entries) {
    const name = normalizeNodeName(targetName);
    if (portals.length === 0) {
      throw new DiscoveryError("STATIC_TARGET_INVALID", `the target ${name} has no portal; name at least one`);
    }
    const known = byName.get(name) ?? new Map<string, PortalAddress>();
    for (const portal of portals) known.set(formatPortal(portal), { host: portal.host, port: portal.port });
    byName.set(name, known);
  }
  return [...byName].map(([targetName, portals]) => ({ targetName, portals: [...portals.values()] }));
}
