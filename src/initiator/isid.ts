import type { Random } from "../base/random.js";

const TYPE_RANDOM = 0x80;

/**
 * A random ISID (RFC 7143 §11.12.5, type 10b): one byte of type, three random bytes, two of qualifier, which are random
 * as well. Keep it with the record of the volume: the same ISID at the next login replaces the old session.
 */
export function createIsid(random: Random): Buffer {
  const isid = random.bytes(6);
  isid[0] = TYPE_RANDOM;
  return isid;
}
