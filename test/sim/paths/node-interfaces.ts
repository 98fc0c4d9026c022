import type { NetworkInterfaces } from "../../../src/host/network-interfaces.js";
import { SOURCES } from "./path-plan.js";

/** The interfaces of a node: one for each of the sources. */
export function nodeInterfaces(): NetworkInterfaces {
  return {
    list: () =>
      SOURCES.map(({ name, address }) => ({
        name,
        address,
        family: "ipv4" as const,
        prefixLength: 24,
        isInternal: false,
      })),
  };
}
