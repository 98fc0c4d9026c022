/** An address by its bytes, in network order. An IPv4-mapped IPv6 address is the IPv4 address inside it (RFC 4291 §2.5.5.2). */
export interface IpAddress {
  readonly family: "ipv4" | "ipv6";
  /** 4 or 16 numbers from 0 to 255. */
  readonly bytes: readonly number[];
}

/** The part of the address space that shares the first `prefixLength` bits with `address`. */
export interface Subnet {
  readonly address: string;
  readonly prefixLength: number;
}

const GROUPS = 8;
const MAPPED_PREFIX: readonly number[] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
const MAPPED_PREFIX_BITS = 96;

/**
 * Reads dotted decimal or the text forms of RFC 4291 §2.2, the latter with a zone (`fe80::1%eth0`), which is no part of
 * the address. Undefined when the text is no address: a DNS name, brackets, a port, and numbers with leading zeroes,
 * which some systems take for octal, are none.
 */
export function parseIpAddress(text: string): IpAddress | undefined {
  if (!text.includes(":")) {
    const bytes = parseDotted(text);
    return bytes === undefined ? undefined : { family: "ipv4", bytes };
  }
  const bytes = parseIpv6(text);
  if (bytes === undefined) return undefined;
  return isMapped(bytes) ? { family: "ipv4", bytes: bytes.slice(MAPPED_PREFIX.length) } : { family: "ipv6", bytes };
}

/** Is the text an IPv4 or IPv6 address, rather than a name? */
export function isIpAddress(text: string): boolean {
  return parseIpAddress(text) !== undefined;
}

/**
 * The one text that all spellings of an address share: dotted decimal, also for IPv4-mapped addresses, or RFC 5952, without
 * its zone. Undefined when the text is no address.
 */
export function canonicalIpAddress(text: string): string | undefined {
  const address = parseIpAddress(text);
  return address === undefined ? undefined : formatIpAddress(address);
}

/** Dotted decimal, or IPv6 as RFC 5952 §4 wants it. */
export function formatIpAddress({ family, bytes }: IpAddress): string {
  if (family === "ipv4") return bytes.join(".");
  const groups = Array.from({ length: GROUPS }, (_, index) => (at(bytes, index * 2) << 8) | at(bytes, index * 2 + 1));
  const { start, length } = longestZeroRun(groups);
  const hex = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(":");
  // One group of zeroes alone is not shortened (§4.2.2).
  return length < 2 ? hex(groups) : `${hex(groups.slice(0, start))}::${hex(groups.slice(start + length))}`;
}

/**
 * Does the address lie in the subnet? Zones are not compared. False for texts that are no addresses, for two families, and
 * for a prefix that is no whole number between 0 and the bits of the address.
 */
export function isInSubnet(address: string, subnet: Subnet): boolean {
  const one = parseIpAddress(address);
  const other = parseIpAddress(subnet.address);
  if (one === undefined || other === undefined || one.family !== other.family) return false;
  // The prefix of a mapped subnet counts the bits of the mapping.
  const isMappedSubnet = other.family === "ipv4" && subnet.address.includes(":");
  const prefixBits = subnet.prefixLength - (isMappedSubnet ? MAPPED_PREFIX_BITS : 0);
  if (!Number.isInteger(prefixBits) || prefixBits < 0 || prefixBits > other.bytes.length * 8) return false;
  return one.bytes.every((byte, index) => {
    const bits = Math.min(8, Math.max(0, prefixBits - index * 8));
    const mask = (0xff << (8 - bits)) & 0xff;
    return (byte & mask) === (at(other.bytes, index) & mask);
  });
}

function parseDotted(text: string): readonly number[] | undefined {
  const parts = text.split(".");
  const isAddress =
    parts.length === 4 && parts.every((part) => /^(?:0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256);
  return isAddress ? parts.map(Number) : undefined;
}

function parseIpv6(text: string): readonly number[] | undefined {
  const [address = "", zone, ...rest] = text.split("%");
  if (rest.length > 0 || (zone !== undefined && !/^[\w.-]+$/.test(zone))) return undefined;
  const halves = address.split("::");
  if (halves.length > 2) return undefined;
  // Dotted decimal may stand for the last two groups only (RFC 4291 §2.2, form 3).
  const [head, tail] = halves.map((half, index) => parseGroups(half, index === halves.length - 1));
  if (head === undefined) return undefined;
  if (halves.length === 1) return head.length === GROUPS * 2 ? head : undefined;
  // `::` stands for at least one group.
  const zeroes = tail === undefined ? -1 : GROUPS * 2 - head.length - tail.length;
  return tail === undefined || zeroes < 2 ? undefined : [...head, ...Array<number>(zeroes).fill(0), ...tail];
}

/** The bytes of groups with colons between; none for an empty text. */
function parseGroups(text: string, mayEndDotted: boolean): readonly number[] | undefined {
  if (text === "") return [];
  const bytes: number[] = [];
  const groups = text.split(":");
  for (const [index, group] of groups.entries()) {
    if (/^[0-9a-fA-F]{1,4}$/.test(group)) {
      const value = Number.parseInt(group, 16);
      bytes.push(value >> 8, value & 0xff);
      continue;
    }
    const dotted = mayEndDotted && index === groups.length - 1 ? parseDotted(group) : undefined;
    if (dotted === undefined) return undefined;
    bytes.push(...dotted);
  }
  return bytes;
}

function isMapped(bytes: readonly number[]): boolean {
  return MAPPED_PREFIX.every((byte, index) => byte === bytes[index]);
}

/** The first of the longest runs of zero groups (RFC 5952 §4.2.3). */
function longestZeroRun(groups: readonly number[]): { readonly start: number; readonly length: number } {
  let best = { start: 0, length: 0 };
  let length = 0;
  groups.forEach((group, index) => {
    length = group === 0 ? length + 1 : 0;
    if (length > best.length) best = { start: index - length + 1, length };
  });
  return best;
}

function at(bytes: readonly number[], index: number): number {
  return bytes[index] ?? 0;
}
