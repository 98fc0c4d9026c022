import { createCipheriv, createDecipheriv } from "node:crypto";
import { z } from "zod";
import type { ChapCredentials } from "../base/access.js";
import type { Random } from "../base/random.js";
import { Secret } from "../base/secret.js";
import { StorageError } from "./backend.js";

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

const credentialsSchema = z.object({
  user: z.string(),
  secret: z.base64(),
  mutualUser: z.string().optional(),
  mutualSecret: z.base64().optional(),
});

/** Bytes of a store key. */
export const STORE_KEY_BYTES = KEY_BYTES;

/**
 * CHAP credentials as a store keeps them: `v1.` and base64url of nonce (12), AES-256-GCM ciphertext, tag (16). The
 * volume and the initiator are bound as additional data, so that a sealed pair moved elsewhere does not open.
 */
export class ChapSeal {
  readonly #key: Secret;
  readonly #random: Random;

  /** `key` is STORE_KEY_BYTES long. */
  constructor(options: { readonly key: Secret }, dependencies: { readonly random: Random }) {
    if (options.key.lengthBytes !== KEY_BYTES) {
      throw new StorageError("STORAGE_FAILED", `the store key must have ${KEY_BYTES} bytes`);
    }
    this.#key = options.key;
    this.#random = dependencies.random;
  }

  seal(chap: ChapCredentials, volumeId: string, iqn: string): string {
    const plaintext = Buffer.from(
      JSON.stringify({
        user: chap.user,
        secret: chap.secret.reveal().toString("base64"),
        mutualUser: chap.mutualUser,
        mutualSecret: chap.mutualSecret?.reveal().toString("base64"),
      }),
    );
    const nonce = this.#random.bytes(NONCE_BYTES);
    const cipher = createCipheriv("aes-256-gcm", this.#key.reveal(), nonce);
    cipher.setAAD(additionalData(volumeId, iqn));
    const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
    plaintext.fill(0);
    return `v1.${Buffer.concat([nonce, ciphertext, cipher.getAuthTag()]).toString("base64url")}`;
  }

  /** STORAGE_FAILED when it was not sealed by this key for this volume and initiator. */
  open(sealed: string, volumeId: string, iqn: string): ChapCredentials {
    const message = Buffer.from(sealed.replace(/^v1\./, ""), "base64url");
    try {
      const decipher = createDecipheriv("aes-256-gcm", this.#key.reveal(), message.subarray(0, NONCE_BYTES), {
        authTagLength: TAG_BYTES,
      });
      decipher.setAAD(additionalData(volumeId, iqn));
      decipher.setAuthTag(message.subarray(message.length - TAG_BYTES));
      const ciphertext = message.subarray(NONCE_BYTES, message.length - TAG_BYTES);
      const plaintext = Buffer.concat([decipher.update(ciphertext), decipher.final()]);
      const credentials = toCredentials(plaintext.toString());
      plaintext.fill(0);
      return credentials;
    } catch {
      // Without the cause: what a parser says of a secret must not travel in an error.
      throw new StorageError(
        "STORAGE_FAILED",
        `the CHAP credentials of volume ${volumeId} for ${iqn} do not open with this store's key; ` +
          "restore store.key, or unpublish the volume and publish it again",
      );
    }
  }
}

function additionalData(volumeId: string, iqn: string): Buffer {
  return Buffer.from(JSON.stringify(["hawser store chap v1", volumeId, iqn]));
}

function toCredentials(text: string): ChapCredentials {
  const { user, secret, mutualUser, mutualSecret } = credentialsSchema.parse(JSON.parse(text));
  return {
    user,
    secret: Secret.from(Buffer.from(secret, "base64")),
    ...(mutualUser === undefined ? {} : { mutualUser }),
    ...(mutualSecret === undefined ? {} : { mutualSecret: Secret.from(Buffer.from(mutualSecret, "base64")) }),
  };
}
