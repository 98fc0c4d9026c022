import type { ChapCredentials } from "./access.js";
import { AppError } from "./errors.js";
import type { Random } from "./random.js";
import { openSealed, sealForNode, type SealingContext, type SealingKeyPair } from "./sealing.js";
import { Secret } from "./secret.js";

/**
 * CHAP credentials sealed to a node's key, for the publish context and for the node's own records: JSON with the
 * secrets in base64, sealed as sealing.ts says.
 */
export function sealChap(
  publicKey: Buffer,
  chap: ChapCredentials,
  context: SealingContext,
  dependencies: { readonly random: Random },
): string {
  const plaintext = Buffer.from(
    JSON.stringify({
      user: chap.user,
      secret: chap.secret.reveal().toString("base64"),
      mutualUser: chap.mutualUser,
      mutualSecret: chap.mutualSecret?.reveal().toString("base64"),
    }),
  );
  const secret = Secret.from(plaintext);
  try {
    return sealForNode(publicKey, secret, context, dependencies);
  } finally {
    plaintext.fill(0);
    secret.wipe();
  }
}

/** The credentials back. Throws as openSealed does, and SEALING_FORMAT when what was sealed is not credentials. */
export function openSealedChap(keyPair: SealingKeyPair, sealed: string, context: SealingContext): ChapCredentials {
  const opened = openSealed(keyPair, sealed, context);
  try {
    const chap = parseChap(opened.reveal().toString());
    if (chap !== undefined) return chap;
  } finally {
    opened.wipe();
  }
  throw new AppError(
    "base",
    "SEALING_FORMAT",
    `what was sealed for volume ${context.volumeHandle} is not a set of CHAP credentials`,
  );
}

/** Undefined instead of an error: a parser's message would quote the secret. */
function parseChap(text: string): ChapCredentials | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { user, secret, mutualUser, mutualSecret } = value as Readonly<Record<string, unknown>>;
  if (typeof user !== "string" || typeof secret !== "string") return undefined;
  return {
    user,
    secret: fromBase64(secret),
    ...(typeof mutualUser === "string" ? { mutualUser } : {}),
    ...(typeof mutualSecret === "string" ? { mutualSecret: fromBase64(mutualSecret) } : {}),
  };
}

function fromBase64(text: string): Secret {
  const bytes = Buffer.from(text, "base64");
  const secret = Secret.from(bytes);
  bytes.fill(0);
  return secret;
}
