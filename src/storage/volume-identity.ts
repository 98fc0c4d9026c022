import { createHash } from "node:crypto";

/**
 * The identity a volume shows for all its life, made from its id, which is random and never used again: an NAA
 * designator of type 3, locally assigned (SPC-4 §7.8.6.6.4), which needs no registered company id, and a serial.
 */
export function volumeIdentity(volumeId: string): { readonly id: string; readonly serial: string } {
  const hash = createHash("sha256").update(`hawser volume ${volumeId}`).digest("hex");
  return { id: `naa.3${hash.slice(0, 15)}`, serial: hash.slice(15, 39) };
}
