import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  hkdfSync,
  type KeyObject,
} from "node:crypto";
import { AppError } from "./errors.js";
import { MAX_SEALED_PLAINTEXT_BYTES } from "./limits.js";
import type { Random } from "./random.js";
import { Secret } from "./secret.js";

/**
 * Sealing to a key: only the holder of a node's X25519 private key can open what was sealed to its public key.
 * Each message has its own ephemeral key pair; the message key is HKDF-SHA256 (RFC 5869) of the X25519 (RFC 7748)
 * shared secret, and the cipher is AES-256-GCM with the purpose of the message as additional data.
 *
 * Text form: `v1.` and base64url of
 *
 *     0        32       44                     n-16     n
 *     +--------+--------+----------------------+--------+
 *     | eph.   | nonce  | ciphertext           | GCM    |
 *     | public | 12     | (as long as          | tag    |
 *     | key 32 |        |  the plaintext)      | 16     |
 *     +--------+--------+----------------------+--------+
 */
const VERSION_PREFIX = "v1.";
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const OVERHEAD_BYTES = KEY_BYTES + NONCE_BYTES + TAG_BYTES;
const HKDF_INFO = Buffer.from("hawser sealing v1");

/** DER wrapping of a raw key (RFC 8410 §4 and §7): fixed bytes before the 32 of the key. */
const PUBLIC_KEY_DER_PREFIX = Buffer.from("302a300506032b656e032100", "hex");
const PRIVATE_KEY_DER_PREFIX = Buffer.from("302e020100300506032b656e04220420", "hex");

/** What a sealed message is for. Both are bound to it: opened for another volume or node, it does not open. */
export interface SealingContext {
  readonly volumeHandle: string;
  /** The node's `node_id`, or another stable name of the one who opens. */
  readonly nodeId: string;
}

/** A node's key pair. `privateKey` is 32 bytes and never leaves the node. */
export interface SealingKeyPair {
  readonly publicKey: Buffer;
  readonly privateKey: Secret;
}

/** A fresh X25519 key pair; every 32 random bytes are a private key (RFC 7748 §5). */
export function generateSealingKeyPair(random: Random): SealingKeyPair {
  const privateKey = random.bytes(KEY_BYTES);
  try {
    return sealingKeyPairFromPrivate(Secret.from(privateKey));
  } finally {
    privateKey.fill(0);
  }
}

/** The pair that belongs to 32 bytes of private key. Throws SEALING_KEY_INVALID for another length. */
export function sealingKeyPairFromPrivate(privateKey: Secret): SealingKeyPair {
  return { publicKey: rawPublicKey(importPrivateKey(privateKey)), privateKey };
}

/**
 * Seals `plaintext` so that only the owner of `publicKey` (32 bytes) opens it, and only for the same context.
 * The result is printable ASCII. Throws SEALING_KEY_INVALID, SEALING_TOO_LARGE.
 */
export function sealForNode(
  publicKey: Buffer,
  plaintext: Secret,
  context: SealingContext,
  dependencies: { readonly random: Random },
): string {
  if (plaintext.lengthBytes > MAX_SEALED_PLAINTEXT_BYTES) {
    throw new AppError(
      "base",
      "SEALING_TOO_LARGE",
      `a secret of ${plaintext.lengthBytes} bytes cannot be sealed; the limit is ${MAX_SEALED_PLAINTEXT_BYTES}`,
    );
  }
  const ephemeral = generateSealingKeyPair(dependencies.random);
  const nonce = dependencies.random.bytes(NONCE_BYTES);
  const key = deriveKey(ephemeral.privateKey, publicKey, ephemeral.publicKey, publicKey);
  try {
    const cipher = createCipheriv("aes-256-gcm", key, nonce);
    cipher.setAAD(encodeContext(context));
    const ciphertext = Buffer.concat([cipher.update(plaintext.reveal()), cipher.final()]);
    const message = Buffer.concat([ephemeral.publicKey, nonce, ciphertext, cipher.getAuthTag()]);
    return VERSION_PREFIX + message.toString("base64url");
  } finally {
    key.fill(0);
    ephemeral.privateKey.wipe();
  }
}

/**
 * Opens what `sealForNode` made. Throws SEALING_FORMAT when it is no sealed message, SEALING_OPEN_FAILED when it was
 * sealed to another key or for another context, or was changed.
 */
export function openSealed(keyPair: SealingKeyPair, sealed: string, context: SealingContext): Secret {
  const message = decodeMessage(sealed);
  const ephemeralPublicKey = message.subarray(0, KEY_BYTES);
  const nonce = message.subarray(KEY_BYTES, KEY_BYTES + NONCE_BYTES);
  const ciphertext = message.subarray(KEY_BYTES + NONCE_BYTES, message.length - TAG_BYTES);
  let key: Buffer | undefined;
  try {
    key = deriveKey(keyPair.privateKey, ephemeralPublicKey, ephemeralPublicKey, keyPair.publicKey);
    const decipher = createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(encodeContext(context));
    decipher.setAuthTag(message.subarray(message.length - TAG_BYTES));
    const opened = Buffer.concat([decipher.update(ciphertext), decipher.final()]);
    const secret = Secret.from(opened);
    opened.fill(0);
    return secret;
  } catch {
    // The cause is left out on purpose: a library's message must not become a way to carry key material.
    throw new AppError(
      "base",
      "SEALING_OPEN_FAILED",
      `the sealed secret of volume ${context.volumeHandle} does not open: it was sealed to another node key or ` +
        "volume, or was changed; publish the volume to this node again",
      { details: { volumeHandle: context.volumeHandle } },
    );
  } finally {
    key?.fill(0);
  }
}

function decodeMessage(sealed: string): Buffer {
  const longest = VERSION_PREFIX.length + Math.ceil(((OVERHEAD_BYTES + MAX_SEALED_PLAINTEXT_BYTES) * 4) / 3);
  const isWellFormed = sealed.length <= longest && /^v1\.[A-Za-z0-9_-]+$/.test(sealed);
  const message = isWellFormed ? Buffer.from(sealed.slice(VERSION_PREFIX.length), "base64url") : Buffer.alloc(0);
  if (message.length >= OVERHEAD_BYTES) return message;
  throw new AppError(
    "base",
    "SEALING_FORMAT",
    "the sealed secret is not a message of format v1; publish the volume to this node again",
  );
}

/** Both public keys go into the derivation, so that a message key belongs to exactly one sender and receiver. */
function deriveKey(ownPrivate: Secret, peerPublic: Buffer, ephemeralPublic: Buffer, receiverPublic: Buffer): Buffer {
  const shared = diffieHellman({ privateKey: importPrivateKey(ownPrivate), publicKey: importPublicKey(peerPublic) });
  try {
    const salt = Buffer.concat([ephemeralPublic, receiverPublic]);
    return Buffer.from(hkdfSync("sha256", shared, salt, HKDF_INFO, KEY_BYTES));
  } finally {
    shared.fill(0);
  }
}

/** Each part after its length in 32 bits: no two contexts have the same bytes. */
function encodeContext(context: SealingContext): Buffer {
  return Buffer.concat(
    [context.volumeHandle, context.nodeId].flatMap((part) => {
      const bytes = Buffer.from(part);
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      return [length, bytes];
    }),
  );
}

function importPublicKey(publicKey: Buffer): KeyObject {
  checkKeyLength(publicKey.length);
  return createPublicKey({ key: Buffer.concat([PUBLIC_KEY_DER_PREFIX, publicKey]), format: "der", type: "spki" });
}

function importPrivateKey(privateKey: Secret): KeyObject {
  checkKeyLength(privateKey.lengthBytes);
  const der = Buffer.concat([PRIVATE_KEY_DER_PREFIX, privateKey.reveal()]);
  try {
    return createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  } finally {
    der.fill(0);
  }
}

function rawPublicKey(privateKey: KeyObject): Buffer {
  const der = createPublicKey(privateKey).export({ format: "der", type: "spki" });
  return Buffer.from(der.subarray(PUBLIC_KEY_DER_PREFIX.length));
}

function checkKeyLength(lengthBytes: number): void {
  if (lengthBytes === KEY_BYTES) return;
  throw new AppError(
    "base",
    "SEALING_KEY_INVALID",
    `an X25519 key has ${KEY_BYTES} bytes, this one has ${lengthBytes}`,
  );
}
