import { timingSafeEqual } from "node:crypto";
import type { ChapCredentials } from "../base/access.js";
import { AppError } from "../base/errors.js";
import type { Random } from "../base/random.js";
import { openSealedChap, sealChap } from "../base/sealed-chap.js";
import type { SealingKeyPair } from "../base/sealing.js";
import type { Secret } from "../base/secret.js";

/** Marks what is sealed for our own records: such a text does not open as one from a publish context, nor the reverse. */
const OWN_RECORDS = "records of this node";

/** CHAP as it rests in volume records: sealed with the node's own key, bound to its volume. */
export class ChapVault {
  readonly #keyPair: SealingKeyPair;
  readonly #random: Random;

  constructor(options: { readonly keyPair: SealingKeyPair }, dependencies: { readonly random: Random }) {
    this.#keyPair = options.keyPair;
    this.#random = dependencies.random;
  }

  seal(volumeHandle: string, chap: ChapCredentials): string {
    const context = { volumeHandle, nodeId: OWN_RECORDS };
    return sealChap(this.#keyPair.publicKey, chap, context, { random: this.#random });
  }

  /** Throws SEALING_OPEN_FAILED when the node's key is another now. */
  open(volumeHandle: string, sealed: string): ChapCredentials {
    return openSealedChap(this.#keyPair, sealed, { volumeHandle, nodeId: OWN_RECORDS });
  }

  /** Are these the credentials that were sealed? Not so, too, when they do not open any more. */
  holds(volumeHandle: string, sealed: string, chap: ChapCredentials): boolean {
    let known: ChapCredentials;
    try {
      known = this.open(volumeHandle, sealed);
    } catch (error) {
      if (error instanceof AppError) return false;
      throw error;
    }
    const isSameUser = known.user === chap.user && known.mutualUser === chap.mutualUser;
    const isSameSecret = isSame(known.secret, chap.secret) && isSame(known.mutualSecret, chap.mutualSecret);
    return isSameUser && isSameSecret;
  }
}

/** In a time that tells nothing of where they differ. */
function isSame(a: Secret | undefined, b: Secret | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.lengthBytes === b.lengthBytes && timingSafeEqual(a.reveal(), b.reveal());
}
