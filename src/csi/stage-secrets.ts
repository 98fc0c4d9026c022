import type { ChapCredentials } from "../base/access.js";
import { MIN_CHAP_SECRET_BYTES } from "../base/limits.js";
import { Secret } from "../base/secret.js";
import { CsiError } from "./errors.js";

type TextMap = Readonly<Record<string, string>>;

/** Our names first, then those that users of open-iscsi and csi-driver-iscsi have in their Secrets. */
const NAMES = {
  user: ["chapUser", "node.session.auth.username"],
  secret: ["chapSecret", "node.session.auth.password"],
  mutualUser: ["mutualUser", "node.session.auth.username_in"],
  mutualSecret: ["mutualSecret", "node.session.auth.password_in"],
} as const;

/**
 * CHAP credentials of a node-stage Secret; undefined when it has none. CSI_INVALID_ARGUMENT for a half pair or a
 * secret shorter than RFC 7143 §9.2.1 allows; the message names keys, never values.
 */
export function chapFromSecrets(secrets: TextMap): ChapCredentials | undefined {
  const user = pick(secrets, NAMES.user);
  const secret = pick(secrets, NAMES.secret);
  const mutualUser = pick(secrets, NAMES.mutualUser);
  const mutualSecret = pick(secrets, NAMES.mutualSecret);
  requirePair(user, secret, NAMES.user[0], NAMES.secret[0]);
  requirePair(mutualUser, mutualSecret, NAMES.mutualUser[0], NAMES.mutualSecret[0]);
  if (user === undefined || secret === undefined) {
    if (mutualUser === undefined) return undefined;
    throw invalid(`the node-stage secret has ${NAMES.mutualUser[0]} without ${NAMES.user[0]}; mutual CHAP needs both`);
  }
  const oneWay = { user, secret: toSecret(secret, NAMES.secret[0]) };
  if (mutualUser === undefined || mutualSecret === undefined) return oneWay;
  // RFC 7143 §9.2.1: with one secret for both directions, each end could be made to answer its own challenge.
  if (secret === mutualSecret) throw invalid("the node-stage secret has one CHAP secret for both directions; use two");
  return { ...oneWay, mutualUser, mutualSecret: toSecret(mutualSecret, NAMES.mutualSecret[0]) };
}

/** An empty value is none: csi-driver-iscsi demanded keys that people filled with nothing. */
function pick(secrets: TextMap, names: readonly string[]): string | undefined {
  return names.map((name) => secrets[name]).find((value) => value !== undefined && value !== "");
}

function requirePair(user: string | undefined, secret: string | undefined, userName: string, secretName: string): void {
  if ((user === undefined) === (secret === undefined)) return;
  throw invalid(`the node-stage secret has one of ${userName} and ${secretName}; CHAP needs both`);
}

function toSecret(value: string, name: string): Secret {
  if (Buffer.byteLength(value) < MIN_CHAP_SECRET_BYTES) {
    throw invalid(`${name} of the node-stage secret has fewer than ${MIN_CHAP_SECRET_BYTES} bytes (RFC 7143 §9.2.1)`);
  }
  return Secret.from(value);
}

function invalid(message: string): CsiError {
  return new CsiError("CSI_INVALID_ARGUMENT", message);
}
