import { createHash } from "node:crypto";
import type { DeviceIdentity } from "./device.js";

/**
 * An identity for a volume of ours, the same as long as its name is. NAA format 3h, locally assigned (SPC-5
 * §7.7.6.5.4): format 6h would need a company identifier registered with the IEEE. Of the 60 free bits all come from
 * a hash of the name, so volumes of two hosts do not meet by counting alike.
 */
export function localIdentity(name: string): DeviceIdentity {
  const hash = createHash("sha256").update("hawser volume\0").update(name).digest("hex");
  return {
    id: `naa.3${hash.slice(0, 15)}`,
    vendor: "HAWSER",
    product: "VIRTUAL DISK",
    revision: "0001",
    serial: hash.slice(16, 48),
  };
}
