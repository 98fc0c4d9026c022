import type { Secret } from "./secret.js";

/** One portal of a target. `host` is an address (IPv6 without brackets) or a DNS name. */
export interface PortalAddress {
  readonly host: string;
  readonly port: number;
}

/** CHAP for one target: the initiator proves itself with `user`/`secret`; the mutual pair is demanded of the target. */
export interface ChapCredentials {
  readonly user: string;
  readonly secret: Secret;
  readonly mutualUser?: string;
  readonly mutualSecret?: Secret;
}

/** `prefer-crc32c` offers both and takes what the target chooses. */
export type DigestChoice = "none" | "crc32c" | "prefer-crc32c";
