import type { ChapCredentials } from "../base/access.js";
import type { Random } from "../base/random.js";
import { openSealedChap, sealChap } from "../base/sealed-chap.js";
import type { SealingKeyPair } from "../base/sealing.js";

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
}
