import { MAX_LOGIN_EXCHANGES, MAX_TEXT_NEGOTIATION_BYTES } from "../../base/limits.js";
import type { Random } from "../../base/random.js";
import { NegotiationError, Negotiator, type OperationalPreferences, type SessionType } from "../../login/negotiate.js";
import { DEFAULT_PARAMETERS, type NegotiatedParameters } from "../../login/parameters.js";
import { LoginStage } from "../../wire/constants.js";
import { ProtocolError } from "../../wire/errors.js";
import { NO_DATA } from "../../wire/header.js";
import type { LoginRequestPdu, LoginResponsePdu } from "../../wire/pdu.js";
import { decodeTextKeys, encodeTextKeys, splitText, TextAssembler } from "../../wire/text-keys.js";
import { ChapExchange, type CredentialLookup } from "./chap-exchange.js";
import { LoginRefusal, LoginStatus } from "./login-refusal.js";

/** Segment length that holds for both directions until the login ends (RFC 7143 §6.3). */
const LOGIN_SEGMENT_BYTES = 8192;

/** The one protocol version there is (RFC 7143 §11.12.4). */
const VERSION = 0;

/** What the server says about an initiator that names itself. */
export interface LoginAdmission {
  /** Present when the initiator must prove itself with CHAP. */
  readonly chap: CredentialLookup | undefined;
  /** For `AuthMethod=CHAP` alone where None would do: discovery of targets that have CHAP. */
  readonly optionalChap?: CredentialLookup;
  readonly targetAlias?: string;
  /** The session that the connection joins: its values hold (RFC 7143 §6.3.1). */
  readonly joined?: NegotiatedParameters;
  /** The login ends with this once the initiator has proved itself. */
  readonly redirect?: LoginRefusal;
}

/** Who may come in: asked once, as soon as the names are known. Throws LoginRefusal. */
export type LoginGatekeeper = (names: LoginNames, identity: LoginIdentity) => LoginAdmission;

/** Which session and connection a login is for. */
export interface LoginIdentity {
  /** Six bytes. */
  readonly isid: Buffer;
  /** 0 for a new session. */
  readonly tsih: number;
  readonly cid: number;
}

/** The command window of a session, for the responses to a connection that joins it. */
export interface WindowNumbers {
  readonly expCmdSn: number;
  readonly maxCmdSn: number;
}

export interface LoginNames {
  readonly initiatorName: string;
  /** Undefined in a discovery session. */
  readonly targetName: string | undefined;
}

export interface TargetLoginOptions {
  readonly preferences: OperationalPreferences;
  readonly portalGroupTag: number;
  readonly initialStatSn: number;
  readonly queueDepth: number;
  readonly gatekeeper: LoginGatekeeper;
  /** The window of the session with this TSIH; undefined for 0 and for a session that is not there. */
  readonly windowOf: (tsih: number) => WindowNumbers | undefined;
}

/** What a finished login agreed on; the server turns it into a session and a TSIH. */
export interface LoginGrant extends LoginNames, LoginIdentity {
  readonly sessionType: SessionType;
  readonly parameters: NegotiatedParameters;
  readonly expCmdSn: number;
  /** ExpStatSN of the connection that this one takes the place of, if it does (§11.12.9). */
  readonly oldExpStatSn: number;
  readonly initiatorAlias: string | undefined;
}

export type TargetLoginStep =
  | { readonly kind: "respond"; readonly response: LoginResponsePdu }
  /** The login succeeded: make the session, then send what `finish` returns. */
  | { readonly kind: "granted"; readonly grant: LoginGrant }
  /** Send the response and close. */
  | { readonly kind: "refuse"; readonly response: LoginResponsePdu; readonly refusal: LoginRefusal };

interface Identity extends LoginNames {
  readonly sessionType: SessionType;
  readonly admission: LoginAdmission;
  readonly negotiator: Negotiator;
}

/** The target's side of one login (RFC 7143 §6.3): sans-I/O, one request in, one step out. */
export class TargetLogin {
  readonly #options: TargetLoginOptions;
  readonly #random: Random;
  #assembler = new TextAssembler(MAX_TEXT_NEGOTIATION_BYTES);
  #first: LoginRequestPdu | undefined;
  #last: LoginRequestPdu | undefined;
  #identity: Identity | undefined;
  #stage: LoginStage | undefined;
  #statSn: number;
  #exchanges = 0;
  #chap: ChapExchange | undefined;
  #isAuthenticated = false;
  #hasDeclared = false;
  /** The rest of an answer that did not fit in one PDU, and the stage that follows it. */
  #unsent: Buffer[] = [];
  #unsentNextStage: LoginStage | undefined;

  constructor(options: TargetLoginOptions, dependencies: { readonly random: Random }) {
    this.#options = options;
    this.#random = dependencies.random;
    this.#statSn = options.initialStatSn;
  }

  /** StatSN of the next response. */
  get statSn(): number {
    return this.#statSn;
  }

  /** Takes the next request. */
  receive(pdu: LoginRequestPdu): TargetLoginStep {
    this.#last = pdu;
    try {
      return this.#receive(pdu);
    } catch (error) {
      return this.refuse(toRefusal(error));
    }
  }

  /** The last response of a granted login. */
  finish(tsih: number): LoginResponsePdu {
    return { ...this.#response(LoginStage.fullFeature, this.#takeUnsent()), tsih };
  }

  /** The response that ends the login with a status. */
  refuse(refusal: LoginRefusal): TargetLoginStep {
    const response = {
      ...this.#response(undefined, encodeTextKeys(refusal.text)),
      statusClass: refusal.status >>> 8,
      statusDetail: refusal.status & 0xff,
    };
    return { kind: "refuse", response, refusal };
  }

  #receive(pdu: LoginRequestPdu): TargetLoginStep {
    this.#exchanges += 1;
    if (this.#exchanges > MAX_LOGIN_EXCHANGES) throw invalid("the login takes too many exchanges");
    this.#checkHeader(pdu);
    this.#assembler.append(pdu.data);
    if (pdu.isContinued) {
      return { kind: "respond", response: this.#response(undefined, NO_DATA) };
    }
    const pairs = decodeTextKeys(this.#assembler.finish());
    this.#assembler = new TextAssembler(MAX_TEXT_NEGOTIATION_BYTES);
    if (this.#unsent.length > 0) {
      if (pairs.length > 0) throw invalid("text came while our own answer was not complete");
      return this.#sendRest();
    }
    return this.#answer(pdu, pairs);
  }

  #checkHeader(pdu: LoginRequestPdu): void {
    const first = this.#first;
    if (first === undefined) {
      this.#first = { ...pdu, isid: Buffer.from(pdu.isid), data: NO_DATA };
      if (pdu.versionMin > VERSION) {
        throw new LoginRefusal(
          LoginStatus.unsupportedVersion,
          `the initiator needs version ${pdu.versionMin} or newer`,
        );
      }
      this.#stage = pdu.currentStage;
      return;
    }
    const isSame =
      first.isid.equals(pdu.isid) &&
      first.tsih === pdu.tsih &&
      first.cid === pdu.cid &&
      first.initiatorTaskTag === pdu.initiatorTaskTag;
    if (!isSame) throw invalid("ISID, TSIH, CID or task tag changed within one login");
    if (pdu.currentStage !== this.#stage) throw invalid("the request belongs to another stage");
  }

  #answer(pdu: LoginRequestPdu, pairs: [string, string][]): TargetLoginStep {
    this.#identity ??= this.#identify(pairs);
    const identity = this.#identity;
    const isSecurity = pdu.currentStage === LoginStage.securityNegotiation;
    if (!isSecurity && identity.admission.chap !== undefined && !this.#isAuthenticated) {
      throw new LoginRefusal(LoginStatus.authenticationFailure, "the initiator skipped the authentication it needs");
    }
    const security = pairs.filter(([key]) => isSecurityKey(key));
    if (!isSecurity && security.length > 0) throw invalid("security keys came outside the security stage");
    const others = pairs.filter(([key]) => !isSecurityKey(key));
    const answers = isSecurity ? this.#authenticate(new Map(security), identity) : [];
    answers.push(...this.#declare(identity, isSecurity));
    const reply = identity.negotiator.receive(others, isSecurity ? "security" : "operational");
    answers.push(...reply.answers.map(([key, value]): [string, string] => [key, value]));
    return this.#respond(pdu, identity, answers, isSecurity);
  }

  #respond(
    pdu: LoginRequestPdu,
    identity: Identity,
    answers: [string, string][],
    isSecurity: boolean,
  ): TargetLoginStep {
    const isStageDone = isSecurity ? this.#isAuthenticated : identity.negotiator.isComplete;
    const nextStage = pdu.isTransit && isStageDone ? pdu.nextStage : undefined;
    if (nextStage !== undefined && nextStage <= pdu.currentStage) throw invalid("the next stage is not a later one");
    this.#unsent = splitText(encodeTextKeys(answers), LOGIN_SEGMENT_BYTES);
    this.#unsentNextStage = nextStage;
    if (this.#unsent.length > 1) return this.#sendRest();
    return this.#sendLast();
  }

  /** One PDU of a long answer: C stays set until the last one. */
  #sendRest(): TargetLoginStep {
    if (this.#unsent.length === 1) return this.#sendLast();
    const part = this.#unsent.shift() ?? NO_DATA;
    return { kind: "respond", response: { ...this.#response(undefined, part), isContinued: true } };
  }

  #sendLast(): TargetLoginStep {
    const nextStage = this.#unsentNextStage;
    if (nextStage === LoginStage.fullFeature) {
      const redirect = this.#identity?.admission.redirect;
      if (redirect !== undefined) throw redirect;
      return { kind: "granted", grant: this.#grant() };
    }
    const response = this.#response(nextStage, this.#takeUnsent());
    if (nextStage !== undefined) this.#stage = nextStage;
    return { kind: "respond", response };
  }

  #takeUnsent(): Buffer {
    const data = this.#unsent[0] ?? NO_DATA;
    this.#unsent = [];
    return data;
  }

  #identify(pairs: readonly [string, string][]): Identity {
    const keys = new Map(pairs);
    const initiatorName = keys.get("InitiatorName")?.toLowerCase();
    if (initiatorName === undefined || initiatorName === "") throw missing("InitiatorName");
    const sessionType = keys.get("SessionType") ?? "Normal";
    if (sessionType !== "Normal" && sessionType !== "Discovery") {
      throw new LoginRefusal(LoginStatus.unsupportedSessionType, "the initiator asked for an unknown session type");
    }
    const targetName = sessionType === "Normal" ? keys.get("TargetName")?.toLowerCase() : undefined;
    if (sessionType === "Normal" && targetName === undefined) throw missing("TargetName");
    const names = { initiatorName, targetName };
    const first = this.#first;
    if (first === undefined) throw invalid("the login has no first request");
    const admission = this.#options.gatekeeper(names, first);
    const { joined } = admission;
    const negotiator = new Negotiator({
      role: "target",
      sessionType,
      isLeading: joined === undefined,
      preferences: preferencesOf(this.#options.preferences, sessionType),
      ...(joined === undefined ? {} : { current: newConnectionOf(joined) }),
    });
    return { ...names, sessionType, admission, negotiator };
  }

  /** TargetPortalGroupTag and TargetAlias in the first answer, our segment length in the operational stage. */
  #declare(identity: Identity, isSecurity: boolean): [string, string][] {
    const pairs: [string, string][] = [];
    if (!this.#hasDeclared && identity.sessionType === "Normal") {
      pairs.push(["TargetPortalGroupTag", String(this.#options.portalGroupTag)]);
      const { targetAlias } = identity.admission;
      if (targetAlias !== undefined) pairs.push(["TargetAlias", targetAlias]);
      for (const [key] of pairs) identity.negotiator.noteDeclared(key);
    }
    this.#hasDeclared = true;
    if (!isSecurity) pairs.push(...identity.negotiator.offers().map(([key, value]): [string, string] => [key, value]));
    return pairs;
  }

  #authenticate(keys: ReadonlyMap<string, string>, identity: Identity): [string, string][] {
    const answers: [string, string][] = [];
    const offered = keys.get("AuthMethod");
    if (offered !== undefined) answers.push(["AuthMethod", this.#chooseMethod(offered.split(","), identity.admission)]);
    if (this.#chap !== undefined) {
      answers.push(...this.#chap.receive(keys));
      this.#isAuthenticated = this.#chap.isComplete;
    } else if (offered === undefined && identity.admission.chap === undefined) {
      // §6.3.2: an initiator that proposes no method asks for none.
      this.#isAuthenticated = true;
    }
    return answers;
  }

  #chooseMethod(methods: readonly string[], admission: LoginAdmission): string {
    const lookup = admission.chap ?? (methods.includes("None") ? undefined : admission.optionalChap);
    if (lookup !== undefined && methods.includes("CHAP")) {
      this.#chap = new ChapExchange({ lookup }, { random: this.#random });
      return "CHAP";
    }
    if (lookup === undefined && methods.includes("None")) {
      this.#isAuthenticated = true;
      return "None";
    }
    throw new LoginRefusal(LoginStatus.authenticationFailure, "the initiator and the target have no common AuthMethod");
  }

  #grant(): LoginGrant {
    const { first, identity } = { first: this.#first, identity: this.#identity };
    if (first === undefined || identity === undefined) throw invalid("the login ended before it began");
    return {
      initiatorName: identity.initiatorName,
      targetName: identity.targetName,
      sessionType: identity.sessionType,
      parameters: identity.negotiator.result(),
      isid: first.isid,
      tsih: first.tsih,
      cid: first.cid,
      expCmdSn: this.#last?.cmdSn ?? first.cmdSn,
      oldExpStatSn: first.expStatSn,
      initiatorAlias: identity.negotiator.declared("InitiatorAlias")[0],
    };
  }

  /** §11.13.4: of the session that is joined, or the window a new one begins with. */
  #numbers(cmdSn: number): WindowNumbers {
    const joined = this.#options.windowOf(this.#first?.tsih ?? 0);
    return joined ?? { expCmdSn: cmdSn, maxCmdSn: (cmdSn + this.#options.queueDepth - 1) >>> 0 };
  }

  #response(nextStage: LoginStage | undefined, data: Buffer): LoginResponsePdu {
    const request = this.#last ?? this.#first;
    const statSn = this.#statSn;
    this.#statSn = (statSn + 1) >>> 0;
    const { expCmdSn, maxCmdSn } = this.#numbers(request?.cmdSn ?? 0);
    return {
      type: "login-response",
      isTransit: nextStage !== undefined,
      isContinued: false,
      currentStage: this.#stage ?? LoginStage.securityNegotiation,
      nextStage: nextStage ?? LoginStage.securityNegotiation,
      versionMax: VERSION,
      versionActive: VERSION,
      isid: request?.isid ?? Buffer.alloc(6),
      tsih: this.#first?.tsih ?? 0,
      initiatorTaskTag: request?.initiatorTaskTag ?? 0,
      statSn,
      expCmdSn,
      maxCmdSn,
      statusClass: 0,
      statusDetail: 0,
      data,
    };
  }
}

/** §7.4.1, §13.21: a discovery session has level 0 and one connection. */
function preferencesOf(preferences: OperationalPreferences, sessionType: SessionType): OperationalPreferences {
  return sessionType === "Normal" ? preferences : { ...preferences, errorRecoveryLevel: 0, maxConnections: 1 };
}

/** Digests and segment lengths are each connection's own, and begin with the RFC's defaults (§13). */
function newConnectionOf(session: NegotiatedParameters): NegotiatedParameters {
  const {
    headerDigest,
    dataDigest,
    initiatorMaxRecvDataSegmentLength: initiatorBytes,
    targetMaxRecvDataSegmentLength: targetBytes,
  } = DEFAULT_PARAMETERS;
  return {
    ...session,
    headerDigest,
    dataDigest,
    initiatorMaxRecvDataSegmentLength: initiatorBytes,
    targetMaxRecvDataSegmentLength: targetBytes,
  };
}

function isSecurityKey(key: string): boolean {
  return key === "AuthMethod" || key.startsWith("CHAP_");
}

function missing(key: string): LoginRefusal {
  return new LoginRefusal(LoginStatus.missingParameter, `the initiator's first request has no ${key}`);
}

function invalid(message: string): LoginRefusal {
  return new LoginRefusal(LoginStatus.invalidDuringLogin, message);
}

function toRefusal(error: unknown): LoginRefusal {
  if (error instanceof LoginRefusal) return error;
  if (error instanceof NegotiationError || error instanceof ProtocolError) {
    return new LoginRefusal(LoginStatus.initiatorError, error.message);
  }
  throw error;
}
