import type { ChapCredentials, DigestChoice } from "../base/access.js";
import { assert } from "../base/assert.js";
import type { Random } from "../base/random.js";
import { LoginStage } from "../wire/constants.js";
import type { LoginRequestPdu, LoginResponsePdu } from "../wire/pdu.js";
import type { ChapAlgorithm } from "./chap-algorithms.js";
import { CHAP_MD5, isChapSecretLongEnough } from "./chap-algorithms.js";
import { ChapInitiator, DEFAULT_CHAP_ALGORITHMS, nextChapAttempt, OutstandingChallenges } from "./chap-initiator.js";
import { AuthError, LoginError } from "./errors.js";
import { findKey, isReservedAnswer } from "./keys.js";
import { LoginExchange, LoginProtocolError } from "./login-exchange.js";
import { loginStatusError } from "./login-status.js";
import type { OperationalPreferences, SessionType, TextPairs } from "./negotiate.js";
import { DEFAULT_PREFERENCES, digestPreference, NegotiationError, Negotiator } from "./negotiate.js";
import type { NegotiatedParameters } from "./parameters.js";
import { DEFAULT_PARAMETERS } from "./parameters.js";
import type { Redirect } from "./redirect.js";
import { parseTargetAddress } from "./redirect.js";

export interface InitiatorLoginOptions {
  readonly initiatorName: string;
  readonly initiatorAlias?: string;
  /** Absent in a discovery session. Names go to the wire as they are: see normalizeNodeName. */
  readonly targetName?: string;
  readonly sessionType: SessionType;
  /** Six bytes; borrowed. */
  readonly isid: Buffer;
  /** 0 for a new session (or to reinstate one), else the session that the connection joins. */
  readonly tsih: number;
  readonly cid: number;
  /** First of a new session, or the next one of the session that the connection joins; not used up (§11.12.8). */
  readonly cmdSn: number;
  /** ExpStatSN of the connection with this `cid` that the login restarts (§6.3.4, §11.12.9). */
  readonly oldExpStatSn?: number;
  readonly initiatorTaskTag: number;
  readonly chap?: ChapCredentials;
  /** In order of preference; MD5 is added at the end when it is missing (§12.1.3). Default DEFAULT_CHAP_ALGORITHMS. */
  readonly chapAlgorithms?: readonly ChapAlgorithm[];
  /** The connection runs inside IPsec: secrets under 96 bits give a warning instead of an error (§9.2.1). */
  readonly isShortChapSecretAllowed?: boolean;
  readonly headerDigest: DigestChoice;
  readonly dataDigest: DigestChoice;
  /** What to propose instead of DEFAULT_PREFERENCES. */
  readonly offers?: Partial<Omit<OperationalPreferences, "headerDigest" | "dataDigest">>;
  /**
   * What the leading login negotiated: must be there for a connection that joins its session. The values of the
   * session hold for it too; its digests and MaxRecvDataSegmentLength are its own.
   */
  readonly sessionParameters?: NegotiatedParameters;
  /** The portal group that discovery named, or that the session to be joined is in; another one fails the login. */
  readonly expectedPortalGroupTag?: number;
  /** Keys of our own to offer in the leading login of a normal session: see checkExtensionKeys. */
  readonly extensionKeys?: TextPairs;
  /** Without CHAP, begin in the operational stage (one round trip less, but some targets want the security stage). */
  readonly isSecurityStageSkipped?: boolean;
}

export interface InitiatorLoginDependencies {
  readonly random: Random;
  /** Shared between all logins of the process, to notice reflected challenges. Default: this login's alone. */
  readonly challenges?: OutstandingChallenges;
}

/** Something to tell the operator although the login succeeded. */
export type LoginWarning =
  /** A CHAP secret has less than 96 bits. */
  | "CHAP_SECRET_SHORT"
  /** CHAP is configured here, but the target asked for no authentication. */
  | "CHAP_NOT_ASKED_FOR";

export interface LoginResult {
  readonly parameters: NegotiatedParameters;
  readonly tsih: number;
  readonly targetPortalGroupTag: number | undefined;
  readonly targetAlias?: string;
  /** What the target said to our extension keys, `NotUnderstood` and the like included; a key it left out is not here. */
  readonly extensionAnswers: TextPairs;
  /** The StatSN of the target's next PDU. */
  readonly nextExpStatSn: number;
  /** The CmdSN of the login: the first non-immediate command of a new session carries it. */
  readonly cmdSn: number;
  readonly expCmdSn: number;
  readonly maxCmdSn: number;
  /** Digests in use from the next PDU on, in both directions (§13.1). */
  readonly isHeaderDigestUsed: boolean;
  readonly isDataDigestUsed: boolean;
  readonly authMethod: "None" | "CHAP";
  readonly chapAlgorithm?: ChapAlgorithm;
  readonly warnings: readonly LoginWarning[];
}

export type LoginStep =
  | { readonly kind: "send"; readonly pdu: LoginRequestPdu }
  | { readonly kind: "done"; readonly result: LoginResult }
  | { readonly kind: "redirect"; readonly redirect: Redirect };

type LoginState = "initial" | "method" | "chap" | "security-end" | "operational" | "over";

const toOperational = {
  currentStage: LoginStage.securityNegotiation,
  nextStage: LoginStage.operationalNegotiation,
} as const;
const inSecurity = { currentStage: LoginStage.securityNegotiation } as const;
const toFullFeature = { currentStage: LoginStage.operationalNegotiation, nextStage: LoginStage.fullFeature } as const;

/**
 * The initiator's login on one connection, without I/O (RFC 7143 §6.3): `start` gives the first request, `receive` takes
 * each response. Throws AuthError, LoginError, LoginProtocolError, NegotiationError, and the codec's ProtocolError; the
 * connection must then be closed. No error carries key material.
 */
export class InitiatorLogin {
  readonly #options: InitiatorLoginOptions;
  readonly #exchange: LoginExchange;
  readonly #negotiator: Negotiator;
  readonly #chap: ChapInitiator | undefined;
  readonly #chapAlgorithms: readonly ChapAlgorithm[];
  readonly #authMethods: readonly string[];
  #state: LoginState = "initial";
  #authMethod: "None" | "CHAP" = "None";
  #wasChapOffered = false;

  /** Throws AuthError when the CHAP credentials break §9.2.1, NegotiationError for extension keys that cannot be. */
  constructor(options: InitiatorLoginOptions, dependencies: InitiatorLoginDependencies) {
    assert(options.isid.length === 6, "an ISID has six bytes");
    assert(
      (options.targetName === undefined) === (options.sessionType === "Discovery"),
      "a normal session has a target",
    );
    const { isid, tsih, initiatorTaskTag, cid, cmdSn, oldExpStatSn = 0 } = options;
    const isJoining = tsih !== 0;
    // §4.3: a discovery session has one connection.
    assert(!isJoining || options.sessionType === "Normal", "only a normal session can be joined");
    assert(isJoining === (options.sessionParameters !== undefined), "a session that is joined has its parameters");
    assert(isJoining || oldExpStatSn === 0, "a new session restarts no connection");
    this.#options = options;
    this.#exchange = new LoginExchange({ isid, tsih, initiatorTaskTag, cid, cmdSn, oldExpStatSn });
    const configured = options.chapAlgorithms ?? DEFAULT_CHAP_ALGORITHMS;
    this.#chapAlgorithms = configured.includes(CHAP_MD5) ? configured : [...configured, CHAP_MD5];
    this.#negotiator = new Negotiator({
      role: "initiator",
      sessionType: options.sessionType,
      isLeading: !isJoining,
      preferences: {
        ...DEFAULT_PREFERENCES,
        ...options.offers,
        headerDigest: digestPreference(options.headerDigest),
        dataDigest: digestPreference(options.dataDigest),
      },
      ...(options.sessionParameters === undefined ? {} : { current: forJoining(options.sessionParameters) }),
      ...(isJoining || options.sessionType === "Discovery" ? {} : { extensionKeys: options.extensionKeys ?? [] }),
    });
    if (options.chap === undefined) {
      this.#authMethods = ["None"];
      return;
    }
    this.#chap = new ChapInitiator(
      {
        credentials: options.chap,
        algorithms: this.#chapAlgorithms,
        isShortSecretAllowed: options.isShortChapSecretAllowed ?? false,
      },
      { random: dependencies.random, challenges: dependencies.challenges ?? new OutstandingChallenges() },
    );
    // A target that must prove itself may not get away with no authentication at all.
    this.#authMethods = options.chap.mutualSecret === undefined ? ["CHAP", "None"] : ["CHAP"];
  }

  /** The first request. To be called once. */
  start(): LoginRequestPdu {
    assert(this.#state === "initial", "a login starts once");
    const { initiatorName, initiatorAlias, targetName, sessionType, tsih } = this.#options;
    const pairs: (readonly [string, string])[] = [["InitiatorName", initiatorName]];
    if (initiatorAlias !== undefined) pairs.push(["InitiatorAlias", initiatorAlias]);
    if (targetName !== undefined) pairs.push(["TargetName", targetName]);
    if (tsih === 0) pairs.push(["SessionType", sessionType]);
    for (const [name] of pairs) this.#negotiator.noteDeclared(name);
    if (this.#chap === undefined && this.#options.isSecurityStageSkipped === true) {
      this.#state = "operational";
      return this.#exchange.send([...pairs, ...this.#negotiator.offers()], toFullFeature);
    }
    this.#state = "method";
    pairs.push(["AuthMethod", this.#authMethods.join(",")]);
    return this.#exchange.send(pairs, this.#chap === undefined ? toOperational : inSecurity);
  }

  /** Takes the target's next response. After `done`, `redirect` or an error the login is over. */
  receive(pdu: LoginResponsePdu): LoginStep {
    assert(this.#state !== "initial" && this.#state !== "over", "a login receives between its start and its end");
    try {
      const step = this.#step(pdu);
      if (step.kind !== "send") this.abandon();
      return step;
    } catch (error) {
      this.abandon();
      throw error;
    }
  }

  /** Ends the login without a result, as when the connection is lost; forgets the challenge sent. */
  abandon(): void {
    this.#state = "over";
    this.#chap?.release();
  }

  /**
   * After the login failed with `error` (the transport's error when the connection broke): the algorithms for one more
   * login, or undefined when that would not help. See nextChapAttempt in chap-initiator.ts.
   */
  nextChapAttempt(error: unknown): readonly ChapAlgorithm[] | undefined {
    if (this.#chap === undefined || !this.#wasChapOffered) return undefined;
    const chosen = this.#chap.chosen;
    return nextChapAttempt({ offered: this.#chapAlgorithms, ...(chosen === undefined ? {} : { chosen }) }, error);
  }

  #step(pdu: LoginResponsePdu): LoginStep {
    const reception = this.#exchange.receive(pdu);
    switch (reception.kind) {
      case "send":
        return reception;
      case "status":
        return this.#endByStatus(pdu, reception.pairs);
      case "text":
        return this.#state === "operational"
          ? this.#receiveOperational(reception.pairs, pdu)
          : this.#receiveSecurity(reception.pairs, reception.nextStage);
    }
  }

  #endByStatus(pdu: LoginResponsePdu, pairs: TextPairs): LoginStep {
    const subject = this.#options.targetName ?? "the portal for discovery";
    if (pdu.statusClass !== 1) throw this.#statusError(pdu, subject);
    const address = pairs.find(([name]) => name === "TargetAddress")?.[1];
    if (address === undefined) throw new LoginProtocolError("a redirect gives no TargetAddress", "§11.13.5");
    const { host, port } = parseTargetAddress(address);
    return { kind: "redirect", redirect: { kind: pdu.statusDetail === 2 ? "permanent" : "temporary", host, port } };
  }

  #statusError(pdu: LoginResponsePdu, subject: string): LoginError {
    const { statusClass, statusDetail } = pdu;
    // Some targets have no better word than "initiator error" for a wrong CHAP response.
    const isChapAnswer = this.#state === "security-end" && this.#authMethod === "CHAP";
    if (!isChapAnswer || statusClass !== 2 || statusDetail !== 0) {
      return loginStatusError(statusClass, statusDetail, subject);
    }
    return new AuthError(
      "LOGIN_AUTHENTICATION_FAILED",
      `login to ${subject} failed: the target refused our CHAP response (status 0x0200); check the CHAP user and secret`,
      { details: { statusClass, statusDetail, subject } },
    );
  }

  #receiveSecurity(pairs: TextPairs, nextStage: LoginStage | undefined): LoginStep {
    const isSecurityKey = ([name]: readonly [string, string]): boolean => findKey(name)?.use === "security";
    const { answers } = this.#negotiator.receive(
      pairs.filter((pair) => !isSecurityKey(pair)),
      "security",
    );
    this.#checkPortalGroup();
    const chapPairs: (readonly [string, string])[] = [];
    const toSend = [...answers];
    for (const [name, value] of pairs.filter(isSecurityKey)) {
      if (name === "AuthMethod") toSend.push(...this.#receiveMethod(value));
      else if (name.startsWith("CHAP_")) chapPairs.push([name, value]);
      else throw new AuthError("AUTH_EXCHANGE_BROKEN", `the target sent ${name}, a key of a method we did not offer`);
    }
    if (chapPairs.length > 0) {
      if (this.#chap === undefined || this.#authMethod !== "CHAP") {
        throw new AuthError("AUTH_EXCHANGE_BROKEN", "the target sent CHAP keys although CHAP was not agreed on");
      }
      toSend.push(...this.#chap.receive(chapPairs));
      if (this.#chap.isResponseSent) this.#state = "security-end";
    }
    if (nextStage !== undefined) return this.#leaveSecurity();
    return this.#state === "security-end" || (this.#state === "method" && this.#chap === undefined)
      ? { kind: "send", pdu: this.#exchange.send(toSend, toOperational) }
      : { kind: "send", pdu: this.#exchange.send(toSend, inSecurity) };
  }

  /** The target chose a method: gives the first keys of its exchange (§12.1). */
  #receiveMethod(value: string): TextPairs {
    if (this.#state !== "method") {
      throw new NegotiationError("NEGOTIATION_KEY_REPEATED", "the target sent AuthMethod twice (RFC 7143 §6.3)", {
        key: "AuthMethod",
      });
    }
    if (isReservedAnswer(value) || !this.#authMethods.includes(value)) {
      const demand = this.#chap === undefined ? "it wants authentication: configure CHAP" : "configure CHAP on it";
      throw new AuthError(
        "AUTH_METHOD_REFUSED",
        `the target accepted none of the authentication methods ${this.#authMethods.join(", ")}; ${demand}`,
      );
    }
    if (value === "CHAP" && this.#chap !== undefined) {
      this.#authMethod = "CHAP";
      this.#state = "chap";
      this.#wasChapOffered = true;
      return this.#chap.start();
    }
    this.#state = "security-end";
    return [];
  }

  #leaveSecurity(): LoginStep {
    if (this.#authMethod === "CHAP") this.#chap?.finish();
    else if (!this.#authMethods.includes("None")) {
      throw new AuthError("AUTH_METHOD_REFUSED", "the target left out authentication, which is configured as mutual");
    }
    this.#state = "operational";
    return { kind: "send", pdu: this.#exchange.send(this.#negotiator.offers(), toFullFeature) };
  }

  #receiveOperational(pairs: TextPairs, pdu: LoginResponsePdu): LoginStep {
    const { answers, isAnswerRequired } = this.#negotiator.receive(pairs, "operational");
    this.#checkPortalGroup();
    if (!pdu.isTransit) return { kind: "send", pdu: this.#exchange.send(answers, toFullFeature) };
    if (isAnswerRequired) {
      throw new LoginProtocolError("the final Login Response proposes keys that want an answer", "§11.13.6");
    }
    return { kind: "done", result: this.#result(pdu) };
  }

  #checkPortalGroup(): void {
    const expected = this.#options.expectedPortalGroupTag;
    const tag = this.#portalGroupTag();
    if (expected === undefined || tag === undefined || tag === expected) return;
    const problem =
      this.#options.tsih === 0
        ? `discovery said ${expected}; discover the target again`
        : `the session is in ${expected}, and cannot span both; use portals of one portal group for one session`;
    throw new LoginError("LOGIN_PORTAL_GROUP_MISMATCH", `the portal belongs to portal group ${tag}, ${problem}`, {
      retry: "other-path",
      details: { expected, tag },
    });
  }

  #portalGroupTag(): number | undefined {
    const text = this.#negotiator.declared("TargetPortalGroupTag")[0];
    return text === undefined ? undefined : Number(text);
  }

  #result(pdu: LoginResponsePdu): LoginResult {
    const parameters = this.#negotiator.result();
    const targetAlias = this.#negotiator.declared("TargetAlias")[0];
    const chapAlgorithm = this.#authMethod === "CHAP" ? this.#chap?.chosen : undefined;
    return Object.freeze({
      parameters,
      tsih: pdu.tsih,
      targetPortalGroupTag: this.#portalGroupTag(),
      ...(targetAlias === undefined ? {} : { targetAlias }),
      extensionAnswers: this.#negotiator.extensionAnswers,
      nextExpStatSn: this.#exchange.expStatSn,
      cmdSn: this.#options.cmdSn,
      expCmdSn: pdu.expCmdSn,
      maxCmdSn: pdu.maxCmdSn,
      isHeaderDigestUsed: parameters.headerDigest === "CRC32C",
      isDataDigestUsed: parameters.dataDigest === "CRC32C",
      authMethod: this.#authMethod,
      ...(chapAlgorithm === undefined ? {} : { chapAlgorithm }),
      warnings: this.#warnings(),
    });
  }

  #warnings(): readonly LoginWarning[] {
    const { chap } = this.#options;
    if (chap === undefined) return [];
    if (this.#authMethod === "None") return ["CHAP_NOT_ASKED_FOR"];
    const secrets = chap.mutualSecret === undefined ? [chap.secret] : [chap.secret, chap.mutualSecret];
    return secrets.every(isChapSecretLongEnough) ? [] : ["CHAP_SECRET_SHORT"];
  }
}

/** What holds on a new connection of a session until its own login has settled the rest (§13: scope CO). */
function forJoining(session: NegotiatedParameters): NegotiatedParameters {
  const { headerDigest, dataDigest, initiatorMaxRecvDataSegmentLength, targetMaxRecvDataSegmentLength } =
    DEFAULT_PARAMETERS;
  return {
    ...session,
    ...{ headerDigest, dataDigest, initiatorMaxRecvDataSegmentLength, targetMaxRecvDataSegmentLength },
  };
}
