import type { ChapCredentials } from "../base/access.js";
import { AppError } from "../base/errors.js";
import { MAX_OUTSTANDING_CHAP_CHALLENGES } from "../base/limits.js";
import type { Random } from "../base/random.js";
import type { ChapAlgorithm } from "./chap-algorithms.js";
import {
  CHAP_MD5,
  chapResponse,
  ChapValueError,
  createChapChallenge,
  equalsInConstantTime,
  formatChapBinary,
  isChapAlgorithm,
  isChapSecretLongEnough,
  parseChapBinary,
  parseChapIdentifier,
  verifyChapResponse,
} from "./chap-algorithms.js";
import { AuthError, LoginError } from "./errors.js";
import type { TextPairs } from "./negotiate.js";

/**
 * The challenges this process has sent and not yet seen answered, over all connections: one that comes back as the
 * peer's own challenge is an attack (RFC 7143 §9.2.1). Share one between all logins.
 */
export class OutstandingChallenges {
  readonly #challenges = new Set<string>();

  /** Remembers a challenge; the oldest is forgotten past MAX_OUTSTANDING_CHAP_CHALLENGES. */
  add(challenge: Buffer): void {
    for (const oldest of this.#challenges) {
      if (this.#challenges.size < MAX_OUTSTANDING_CHAP_CHALLENGES) break;
      this.#challenges.delete(oldest);
    }
    this.#challenges.add(challenge.toString("latin1"));
  }

  delete(challenge: Buffer): void {
    this.#challenges.delete(challenge.toString("latin1"));
  }

  has(challenge: Buffer): boolean {
    return this.#challenges.has(challenge.toString("latin1"));
  }

  get size(): number {
    return this.#challenges.size;
  }
}

/**
 * Strongest first, MD5 last. A target takes the first it has (§12.1.3). Targets that fail on the long list or compute
 * an algorithm wrongly are met by one more attempt with MD5 alone: see nextChapAttempt.
 */
export const DEFAULT_CHAP_ALGORITHMS: readonly ChapAlgorithm[] = Object.freeze([8, 7, 6, 5]);

/** What one login tried. */
export interface ChapAttempt {
  readonly offered: readonly ChapAlgorithm[];
  readonly chosen?: ChapAlgorithm;
}

/**
 * The list for one more login after `attempt` ended with `error`, or undefined when another would not help. Some
 * targets fail on any list but `5`, others compute SHA-2 wrongly: after such a failure MD5 alone is worth one attempt.
 * That gives an attacker nothing, since MD5 must be in every offer.
 */
export function nextChapAttempt(attempt: ChapAttempt, error: unknown): readonly ChapAlgorithm[] | undefined {
  const onlyMd5 = [CHAP_MD5];
  if (attempt.chosen === CHAP_MD5 || attempt.offered.every((algorithm) => algorithm === CHAP_MD5)) return undefined;
  if (error instanceof AuthError) {
    const isHopeful =
      error.code === "LOGIN_AUTHENTICATION_FAILED" ||
      error.code === "AUTH_ALGORITHM_REFUSED" ||
      error.code === "AUTH_EXCHANGE_BROKEN" ||
      error.code === "AUTH_TARGET_NOT_PROVEN";
    return isHopeful ? onlyMd5 : undefined;
  }
  if (error instanceof LoginError) {
    const statusClass = error.details["statusClass"];
    const isUnspecific =
      statusClass === 3 || error.code === "LOGIN_INITIATOR_ERROR" || error.code === "LOGIN_MISSING_PARAMETER";
    return isUnspecific && attempt.chosen === undefined ? onlyMd5 : undefined;
  }
  // The target closed the connection when it saw the list.
  const isConnectionLost = error instanceof AppError && error.layer === "transport";
  return isConnectionLost && attempt.chosen === undefined ? onlyMd5 : undefined;
}

export interface ChapInitiatorOptions {
  readonly credentials: ChapCredentials;
  readonly algorithms: readonly ChapAlgorithm[];
  /** The connection is inside IPsec, so secrets under 96 bits may be used (§9.2.1). */
  readonly isShortSecretAllowed: boolean;
}

export interface ChapInitiatorDependencies {
  readonly random: Random;
  readonly challenges: OutstandingChallenges;
}

type ChapState = "start" | "algorithms-sent" | "response-sent" | "proven";

/** The initiator's half of one CHAP exchange (§12.1.3). Throws AuthError, after which it is of no more use. */
export class ChapInitiator {
  readonly #options: ChapInitiatorOptions;
  readonly #dependencies: ChapInitiatorDependencies;
  readonly #received = new Map<string, string>();
  #state: ChapState = "start";
  #chosen: ChapAlgorithm | undefined;
  #own: { readonly identifier: number; readonly challenge: Buffer } | undefined;

  constructor(options: ChapInitiatorOptions, dependencies: ChapInitiatorDependencies) {
    checkCredentials(options);
    this.#options = options;
    this.#dependencies = dependencies;
  }

  /** The algorithm the target chose, once it has. */
  get chosen(): ChapAlgorithm | undefined {
    return this.#chosen;
  }

  /** Has our response been sent, so that the stage may end? */
  get isResponseSent(): boolean {
    return this.#state === "response-sent" || this.#state === "proven";
  }

  /** The first keys of the exchange. */
  start(): TextPairs {
    this.#state = "algorithms-sent";
    return [["CHAP_A", this.#options.algorithms.join(",")]];
  }

  /** Takes the CHAP keys of one text segment, in whatever order and number; gives the keys to send now. */
  receive(pairs: TextPairs): TextPairs {
    for (const [key, value] of pairs) {
      if (this.#received.has(key)) throw broken(`the target sent ${key} twice`);
      this.#received.set(key, value);
    }
    if (this.#state === "algorithms-sent") return this.#answerChallenge();
    if (this.#state === "response-sent" && this.#own !== undefined) this.#verifyTarget(this.#own);
    return [];
  }

  /** The target wants to leave the stage. Throws AuthError when it still owes something. */
  finish(): void {
    if (!this.isResponseSent) throw broken("the target wants to go on before CHAP is done");
    if (this.#own !== undefined && this.#state !== "proven") {
      throw new AuthError(
        "AUTH_TARGET_NOT_PROVEN",
        "the target did not prove itself: it left out CHAP_N and CHAP_R; give it the mutual CHAP user and secret",
      );
    }
  }

  /** Forgets the challenge we sent. To be called when the login ends, whatever its outcome. */
  release(): void {
    if (this.#own !== undefined) this.#dependencies.challenges.delete(this.#own.challenge);
  }

  #answerChallenge(): TextPairs {
    const chosen = this.#received.get("CHAP_A");
    if (chosen !== undefined) this.#chosen = this.#checkChosen(chosen);
    const identifierText = this.#received.get("CHAP_I");
    const challengeText = this.#received.get("CHAP_C");
    if (this.#chosen === undefined || identifierText === undefined || challengeText === undefined) return [];
    const algorithm = this.#chosen;
    const [identifier, challenge] = asAuthError(() => [
      parseChapIdentifier(identifierText),
      parseChapBinary("CHAP_C", challengeText),
    ]);
    if (this.#dependencies.challenges.has(challenge)) throw reflected("challenge");
    const { user, secret, mutualSecret } = this.#options.credentials;
    const response = chapResponse({ algorithm, identifier, secret, challenge });
    const pairs: (readonly [string, string])[] = [
      ["CHAP_N", user],
      ["CHAP_R", formatChapBinary(response)],
    ];
    if (mutualSecret !== undefined) {
      const own = createChapChallenge(algorithm, this.#dependencies.random);
      this.#dependencies.challenges.add(own.challenge);
      this.#own = own;
      pairs.push(["CHAP_I", String(own.identifier)], ["CHAP_C", formatChapBinary(own.challenge)]);
    }
    this.#received.clear();
    this.#state = "response-sent";
    return pairs;
  }

  #checkChosen(text: string): ChapAlgorithm {
    const number = /^[0-9]{1,3}$/.test(text) ? Number(text) : Number.NaN;
    if (!isChapAlgorithm(number) || !this.#options.algorithms.includes(number)) {
      throw new AuthError(
        "AUTH_ALGORITHM_REFUSED",
        `the target took none of the CHAP algorithms ${this.#options.algorithms.join(", ")} (RFC 7143 §12.1.3)`,
      );
    }
    return number;
  }

  #verifyTarget(own: { readonly identifier: number; readonly challenge: Buffer }): void {
    const name = this.#received.get("CHAP_N");
    const responseText = this.#received.get("CHAP_R");
    const { secret, mutualUser, mutualSecret } = this.#options.credentials;
    const algorithm = this.#chosen;
    if (name === undefined || responseText === undefined || algorithm === undefined || mutualSecret === undefined)
      return;
    const response = asAuthError(() => parseChapBinary("CHAP_R", responseText));
    const input = { algorithm, identifier: own.identifier, challenge: own.challenge };
    if (equalsInConstantTime(chapResponse({ ...input, secret }), response)) throw reflected("response");
    const isProven = verifyChapResponse({ ...input, secret: mutualSecret }, response);
    const isNamed = mutualUser === undefined || equalsInConstantTime(Buffer.from(mutualUser), Buffer.from(name));
    if (!isProven || !isNamed) {
      throw new AuthError(
        "AUTH_TARGET_NOT_PROVEN",
        "the target's CHAP name or response is wrong; check the mutual CHAP user and secret on both sides",
      );
    }
    this.#state = "proven";
  }
}

function checkCredentials(options: ChapInitiatorOptions): void {
  const { user, secret, mutualUser, mutualSecret } = options.credentials;
  if (user === "" || secret.lengthBytes === 0 || (mutualUser !== undefined && mutualSecret === undefined)) {
    throw new AuthError("AUTH_CREDENTIALS_INCOMPLETE", "CHAP needs a user and a secret, for each direction asked for");
  }
  const isShort =
    !isChapSecretLongEnough(secret) || (mutualSecret !== undefined && !isChapSecretLongEnough(mutualSecret));
  if (isShort && !options.isShortSecretAllowed) {
    throw new AuthError(
      "AUTH_SECRET_TOO_SHORT",
      "a CHAP secret has less than 12 bytes (96 bits, RFC 7143 §9.2.1); use a longer one on both sides",
    );
  }
  if (mutualSecret !== undefined && equalsInConstantTime(secret.reveal(), mutualSecret.reveal())) {
    throw new AuthError(
      "AUTH_SECRETS_EQUAL",
      "the CHAP secrets of the two directions are equal, which lets anyone be the target (RFC 7143 §9.2.1)",
    );
  }
}

function broken(why: string): AuthError {
  return new AuthError("AUTH_EXCHANGE_BROKEN", `CHAP failed: ${why} (RFC 7143 §12.1.3)`);
}

function reflected(what: "challenge" | "response"): AuthError {
  return new AuthError(
    "AUTH_REFLECTED",
    `CHAP failed: the target's ${what} is one of ours; it may be an attacker, or hold our secret for its own ` +
      "(RFC 7143 §9.2.1)",
  );
}

function asAuthError<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof ChapValueError) throw broken(error.message);
    throw error;
  }
}
