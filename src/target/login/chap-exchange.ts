import type { ChapCredentials } from "../../base/access.js";
import type { Random } from "../../base/random.js";
import {
  chapResponse,
  createChapChallenge,
  equalsInConstantTime,
  formatChapBinary,
  parseChapAlgorithms,
  parseChapBinary,
  parseChapIdentifier,
  selectChapAlgorithm,
  verifyChapResponse,
  type ChapAlgorithm,
} from "../../login/chap-algorithms.js";
import { LoginRefusal, LoginStatus } from "./login-refusal.js";

type Pairs = [string, string][];

/** Finds the credentials a CHAP user name stands for; undefined when there are none. */
export type CredentialLookup = (user: string) => ChapCredentials | undefined;

/**
 * The target's side of CHAP (RFC 7143 §9.2.1, §12.1.3): algorithm, challenge, verification, and the answer to the
 * initiator's own challenge when it demands mutual authentication. Every failure is the same refusal, so that an
 * initiator cannot tell a wrong name from a wrong secret.
 */
export class ChapExchange {
  readonly #lookup: CredentialLookup;
  readonly #random: Random;
  #challenge:
    { readonly algorithm: ChapAlgorithm; readonly identifier: number; readonly challenge: Buffer } | undefined;
  #isComplete = false;

  constructor(options: { readonly lookup: CredentialLookup }, dependencies: { readonly random: Random }) {
    this.#lookup = options.lookup;
    this.#random = dependencies.random;
  }

  /** Did the initiator prove itself? */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Takes the CHAP keys of one request; returns ours. Throws LoginRefusal. */
  receive(keys: ReadonlyMap<string, string>): Pairs {
    const algorithms = keys.get("CHAP_A");
    if (algorithms !== undefined) return this.#begin(algorithms);
    if (keys.has("CHAP_N") || keys.has("CHAP_R")) return this.#verify(keys);
    return [];
  }

  #begin(algorithms: string): Pairs {
    if (this.#challenge !== undefined) throw failure("CHAP_A came twice");
    const algorithm = selectChapAlgorithm(parseChapAlgorithms(algorithms));
    if (algorithm === undefined) throw failure("no common CHAP algorithm");
    const { identifier, challenge } = createChapChallenge(algorithm, this.#random);
    this.#challenge = { algorithm, identifier, challenge };
    return [
      ["CHAP_A", String(algorithm)],
      ["CHAP_I", String(identifier)],
      ["CHAP_C", formatChapBinary(challenge)],
    ];
  }

  #verify(keys: ReadonlyMap<string, string>): Pairs {
    const sent = this.#challenge;
    const name = keys.get("CHAP_N");
    const answer = keys.get("CHAP_R");
    if (sent === undefined || this.#isComplete || name === undefined || answer === undefined) {
      throw failure("CHAP keys came out of order");
    }
    const response = parse(() => parseChapBinary("CHAP_R", answer));
    const credentials = this.#lookup(name);
    if (credentials === undefined || !verifyChapResponse({ ...sent, secret: credentials.secret }, response)) {
      throw failure("the CHAP name or secret is wrong");
    }
    this.#isComplete = true;
    const identifier = keys.get("CHAP_I");
    const challenge = keys.get("CHAP_C");
    if (identifier === undefined && challenge === undefined) return [];
    if (identifier === undefined || challenge === undefined) throw failure("half a mutual CHAP challenge came");
    return this.#answer(
      credentials,
      parse(() => parseChapIdentifier(identifier)),
      parse(() => parseChapBinary("CHAP_C", challenge)),
    );
  }

  #answer(credentials: ChapCredentials, identifier: number, challenge: Buffer): Pairs {
    const { mutualUser, mutualSecret, secret } = credentials;
    const sent = this.#challenge;
    if (sent === undefined || mutualUser === undefined || mutualSecret === undefined) {
      throw failure("mutual CHAP was demanded, and the target has no mutual name and secret for this initiator");
    }
    if (equalsInConstantTime(challenge, sent.challenge)) throw failure("our own CHAP challenge came back");
    if (equalsInConstantTime(secret.reveal(), mutualSecret.reveal())) {
      throw failure("the mutual CHAP secret equals the initiator's, which RFC 7143 §9.2.1 forbids; change one of them");
    }
    const response = chapResponse({ algorithm: sent.algorithm, identifier, challenge, secret: mutualSecret });
    return [
      ["CHAP_N", mutualUser],
      ["CHAP_R", formatChapBinary(response)],
    ];
  }
}

function parse<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw failure(error instanceof Error ? error.message : "a CHAP value cannot be read");
  }
}

function failure(message: string): LoginRefusal {
  return new LoginRefusal(LoginStatus.authenticationFailure, message);
}
