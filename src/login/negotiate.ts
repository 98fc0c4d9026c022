import { ExtensionOffers } from "./extension-keys.js";
import type { KeyDefinition } from "./keys.js";
import { findKey, isReservedAnswer, KEYS } from "./keys.js";
import { NegotiationError, showValue } from "./negotiate-error.js";
import type { Answer, Preference } from "./negotiate-values.js";
import { acceptAnswer, answerProposal, formatPreference, isDetermining, parseKeyNumber } from "./negotiate-values.js";
import type { NegotiatedKey } from "./negotiate-outcome.js";
import { composeParameters, isNegotiatedKey, parameterOfKey } from "./negotiate-outcome.js";
import type { OperationalPreferences } from "./negotiate-preferences.js";
import type { NegotiatedParameters } from "./parameters.js";
import { DEFAULT_PARAMETERS } from "./parameters.js";

export { NegotiationError } from "./negotiate-error.js";
export type { NegotiationErrorCode } from "./negotiate-error.js";
export { DEFAULT_PREFERENCES, digestPreference } from "./negotiate-preferences.js";
export type { OperationalPreferences } from "./negotiate-preferences.js";

/** Key=value pairs of one logical text segment, in order. */
export type TextPairs = readonly (readonly [key: string, value: string])[];

export type NegotiationRole = "initiator" | "target";
export type SessionType = "Normal" | "Discovery";

/** Which rules of §13 hold for a key that arrives: the login stages, or text in full feature phase. */
export type NegotiationStage = "security" | "operational" | "full-feature";

export interface NegotiatorOptions {
  readonly role: NegotiationRole;
  readonly sessionType: SessionType;
  /** The first connection of its session: only there may keys of use LO be negotiated. */
  readonly isLeading: boolean;
  readonly preferences: OperationalPreferences;
  /** What holds when the negotiation begins: the session's values; by default the RFC's. */
  readonly current?: NegotiatedParameters;
  /** Offered beside the keys of the RFC: see checkExtensionKeys. */
  readonly extensionKeys?: TextPairs;
}

/** What came of a batch of received pairs. */
export interface NegotiationReply {
  /** To be sent back, in this order; may be empty. */
  readonly answers: TextPairs;
  /** At least one answer decides something: the peer must hear it before the stage ends. */
  readonly isAnswerRequired: boolean;
}

/** Keys whose answer depends on others of the same batch: judged last (§13.14, §13.19). */
const DEPENDENT_KEYS: ReadonlySet<string> = new Set(["FirstBurstLength", "MaxOutstandingR2T"]);

/**
 * One operational negotiation seen from one end (RFC 7143 §6.2, §13): proposes, answers, and gives the result. Closed:
 * every pair a peer can send yields an answer, a noted value, or a NegotiationError.
 */
export class Negotiator {
  readonly #options: NegotiatorOptions;
  /** Our proposals without an answer yet, by key. */
  readonly #pending = new Map<string, string>();
  /** Values agreed on, as text, by key. */
  readonly #agreed = new Map<string, string>();
  /** Keys the peer has used up in this negotiation. */
  readonly #concluded = new Set<string>();
  readonly #declaredByUs = new Set<string>();
  readonly #declaredByPeer = new Map<string, string[]>();
  readonly #extensions: ExtensionOffers;

  /** Throws NegotiationError for extension keys that cannot be offered. */
  constructor(options: NegotiatorOptions) {
    this.#options = options;
    this.#extensions = new ExtensionOffers(options.extensionKeys ?? []);
  }

  /**
   * What this side proposes and declares of its own accord, each key once. An initiator proposes every key of the
   * session; a target only declares its MaxRecvDataSegmentLength.
   */
  offers(): TextPairs {
    const { preferences, role } = this.#options;
    const pairs: (readonly [string, string])[] = [];
    if (!this.#declaredByUs.has("MaxRecvDataSegmentLength")) {
      this.#declaredByUs.add("MaxRecvDataSegmentLength");
      pairs.push(["MaxRecvDataSegmentLength", String(preferences.maxRecvDataSegmentLength)]);
    }
    if (role === "target") return pairs;
    for (const key of KEYS) {
      if (!isNegotiatedKey(key.name) || !this.#isOffered(key, key.name)) continue;
      const value = formatPreference(this.#preference(key.name));
      this.#pending.set(key.name, value);
      pairs.push([key.name, value]);
    }
    return [...pairs, ...this.#extensions.offers];
  }

  /** What the peer said to our extension keys so far. */
  get extensionAnswers(): TextPairs {
    return this.#extensions.answers;
  }

  /** Notes what we declared outside `offers`, so that a `NotUnderstood` for it is recognised. */
  noteDeclared(name: string): void {
    this.#declaredByUs.add(name);
  }

  /**
   * Takes the operational and any-stage pairs of one complete text segment. Security keys are the caller's.
   * Throws NegotiationError; the negotiation is then over.
   */
  receive(pairs: TextPairs, stage: NegotiationStage): NegotiationReply {
    const answers: (readonly [string, string])[] = [];
    let isAnswerRequired = false;
    const isLast = ([name]: readonly [string, string]): boolean => DEPENDENT_KEYS.has(name);
    for (const [name, value] of [...pairs.filter((pair) => !isLast(pair)), ...pairs.filter(isLast)]) {
      const key = findKey(name);
      const answer = key === undefined ? this.#receiveUnknown(name, value) : this.#receiveKnown(key, value, stage);
      if (answer === undefined) continue;
      answers.push([name, answer.text]);
      isAnswerRequired ||= key !== undefined && !answer.isOptional;
    }
    return { answers, isAnswerRequired };
  }

  /** Have all our proposals been answered, or need no answer? */
  get isComplete(): boolean {
    return this.#unanswered().length === 0;
  }

  /** What the peer declared under a key (`TargetAlias`, `InitiatorName` …); several for TargetAddress. */
  declared(name: string): readonly string[] {
    return this.#declaredByPeer.get(name) ?? [];
  }

  /**
   * What holds from now on, frozen. Throws NegotiationError when a proposal of ours is open (NEGOTIATION_INCOMPLETE) or
   * a digest we demand was not agreed on (NEGOTIATION_UNACCEPTABLE).
   */
  result(): NegotiatedParameters {
    const unanswered = this.#unanswered();
    if (unanswered.length > 0) {
      throw new NegotiationError(
        "NEGOTIATION_INCOMPLETE",
        `the peer ended the negotiation without answering ${unanswered.join(", ")}`,
        { keys: unanswered },
      );
    }
    const parameters = this.#parameters();
    for (const name of ["HeaderDigest", "DataDigest"] as const) {
      const property = parameterOfKey[name];
      if (!this.#options.preferences[property].includes(parameters[property])) {
        throw new NegotiationError(
          "NEGOTIATION_UNACCEPTABLE",
          `${name} came out as ${parameters[property]}, but ${this.#options.preferences[property].join(" or ")} is ` +
            "demanded; allow the digest on the other side or do not demand it here",
          { key: name },
        );
      }
    }
    return parameters;
  }

  #receiveUnknown(name: string, value: string): Answer | undefined {
    if (this.#extensions.take(name, value)) {
      this.#conclude(name, "RFC 7143 §13.22");
      return undefined;
    }
    if (isReservedAnswer(value)) {
      throw new NegotiationError(
        "NEGOTIATION_RESERVED_VALUE",
        `the peer sent ${showValue(name)}=${value}, which answers nothing we sent (RFC 7143 §6.2)`,
        { key: name.slice(0, 63) },
      );
    }
    this.#conclude(name, "RFC 7143 §6.3");
    return { text: "NotUnderstood", isOptional: true };
  }

  #receiveKnown(key: KeyDefinition, value: string, stage: NegotiationStage): Answer | undefined {
    this.#checkStage(key, stage);
    const offered = this.#pending.get(key.name);
    if (offered !== undefined) {
      this.#pending.delete(key.name);
      this.#conclude(key.name, key.section);
      const agreed = acceptAnswer(key, offered, value);
      if (agreed !== undefined) this.#agreed.set(key.name, agreed);
      return undefined;
    }
    if (key.isDeclarative && this.#declaredByUs.has(key.name) && isReservedAnswer(value)) {
      acceptAnswer(key, "", value);
      return undefined;
    }
    if (!key.mayRepeat) this.#conclude(key.name, key.section);
    this.#checkSender(key);
    if (key.type.kind === "obsolete") return { text: "Reject", isOptional: false };
    this.#checkNotReserved(key, value);
    if (key.isDeclarative) {
      this.#receiveDeclaration(key, value);
      return undefined;
    }
    return this.#answer(key, value);
  }

  #answer(key: KeyDefinition, value: string): Answer {
    const { sessionType, isLeading } = this.#options;
    if (key.irrelevantWhen !== undefined && sessionType === "Discovery")
      return { text: "Irrelevant", isOptional: false };
    // Session-wide values are fixed by the leading login: `Reject` leaves them as they are (§6.2, §13).
    if (!isNegotiatedKey(key.name) || (key.use === "LO" && !isLeading)) return { text: "Reject", isOptional: false };
    if (key.irrelevantWhen === "discovery-or-no-unsolicited-data" && this.#isWithoutUnsolicitedData()) {
      return { text: "Irrelevant", isOptional: false };
    }
    const answer = answerProposal(key, value, this.#preference(key.name));
    if (answer.value !== undefined) this.#agreed.set(key.name, answer.value);
    return answer;
  }

  #receiveDeclaration(key: KeyDefinition, value: string): void {
    const isValid =
      key.type.kind === "number"
        ? parseKeyNumber(key.type, value) !== undefined
        : key.type.kind === "list"
          ? key.type.values.includes(value)
          : key.type.kind === "text" && Buffer.byteLength(value) <= key.type.maximumBytes;
    if (!isValid) {
      throw new NegotiationError(
        "NEGOTIATION_VALUE_INVALID",
        `the peer declared ${key.name}=${showValue(value)}, which ${key.section} does not admit`,
        { key: key.name, section: key.section },
      );
    }
    this.#declaredByPeer.set(key.name, [...this.declared(key.name), value]);
  }

  /** What we want of a key, after the integrity rules with what is agreed so far. */
  #preference(name: NegotiatedKey): Preference {
    const { preferences, sessionType } = this.#options;
    // §7.4.1: a discovery session has no recovery, whatever either side could do.
    if (name === "ErrorRecoveryLevel" && sessionType === "Discovery") return 0;
    if (name === "FirstBurstLength") {
      const maxBurstLength = this.#agreed.get("MaxBurstLength");
      return Math.min(preferences.firstBurstLength, Number(maxBurstLength ?? preferences.maxBurstLength));
    }
    if (name === "MaxOutstandingR2T") {
      const level = Number(this.#agreed.get("ErrorRecoveryLevel") ?? this.#unsettledLevel());
      const inOrder = this.#agreed.get("DataSequenceInOrder");
      const isInOrder = inOrder === undefined ? preferences.dataSequenceInOrder : inOrder === "Yes";
      return level !== 0 && isInOrder ? 1 : preferences.maxOutstandingR2T;
    }
    return preferences[parameterOfKey[name]];
  }

  /** The level while nothing is agreed: a target's initiator that did not ask for one has what holds already. */
  #unsettledLevel(): number {
    const { role, preferences, current = DEFAULT_PARAMETERS } = this.#options;
    return role === "target" ? current.errorRecoveryLevel : preferences.errorRecoveryLevel;
  }

  #isOffered(key: KeyDefinition, name: NegotiatedKey): boolean {
    const { sessionType, isLeading, preferences } = this.#options;
    if (this.#concluded.has(key.name) || this.#pending.has(key.name)) return false;
    if (key.use === "LO" && !isLeading) return false;
    const value = formatPreference(preferences[parameterOfKey[name]]);
    // Some targets stumble over anything but the bare minimum in a discovery login, digests above all.
    if (sessionType === "Discovery") return key.use === "IO" && value !== key.defaultValue;
    return !key.isOptionalForPeer || value !== key.defaultValue;
  }

  #isWithoutUnsolicitedData(): boolean {
    return this.#agreed.get("InitialR2T") === "Yes" && this.#agreed.get("ImmediateData") === "No";
  }

  #unanswered(): readonly string[] {
    return [...this.#pending].flatMap(([name, offered]) => {
      const key = findKey(name);
      return key === undefined || key.isOptionalForPeer || isDetermining(key.type, offered) ? [] : [name];
    });
  }

  #conclude(name: string, section: string): void {
    if (this.#concluded.has(name)) {
      throw new NegotiationError(
        "NEGOTIATION_KEY_REPEATED",
        `the peer sent ${showValue(name)} twice in one negotiation (RFC 7143 §6.3)`,
        { key: name.slice(0, 63), section },
      );
    }
    this.#concluded.add(name);
  }

  #checkStage(key: KeyDefinition, stage: NegotiationStage): void {
    const isAllowed =
      stage === "full-feature"
        ? key.use === "ALL" || key.use === "FFPO"
        : key.use !== "FFPO" && key.use !== "security" && (stage === "operational" || key.isAnyStage);
    if (!isAllowed || key.name === "SendTargets") throw notAllowed(key, `in the ${stage} stage`);
  }

  #checkSender(key: KeyDefinition): void {
    const peer = this.#options.role === "initiator" ? "target" : "initiator";
    const isTargetName = key.name === "TargetName" && peer === "target";
    if ((key.senders !== "both" && key.senders !== peer) || isTargetName) throw notAllowed(key, `from the ${peer}`);
  }

  #checkNotReserved(key: KeyDefinition, value: string): void {
    if (!isReservedAnswer(value)) return;
    throw new NegotiationError(
      "NEGOTIATION_RESERVED_VALUE",
      `the peer proposed ${key.name}=${value}; that word is only an answer (RFC 7143 §6.2)`,
      { key: key.name, section: key.section },
    );
  }

  #parameters(): NegotiatedParameters {
    const { current = DEFAULT_PARAMETERS, role, preferences, sessionType } = this.#options;
    const ours = this.#declaredByUs.has("MaxRecvDataSegmentLength") ? preferences.maxRecvDataSegmentLength : undefined;
    const declared = this.declared("MaxRecvDataSegmentLength")[0];
    const theirs = declared === undefined ? undefined : Number(declared);
    const [initiatorLength, targetLength] = role === "initiator" ? [ours, theirs] : [theirs, ours];
    return composeParameters({
      outcome: (name) => this.#outcome(name),
      current,
      isDiscovery: sessionType === "Discovery",
      initiatorMaxRecvDataSegmentLength: initiatorLength ?? current.initiatorMaxRecvDataSegmentLength,
      targetMaxRecvDataSegmentLength: targetLength ?? current.targetMaxRecvDataSegmentLength,
    });
  }

  /** The text a key ended with: what was agreed, or a proposal of ours that decided alone. */
  #outcome(name: NegotiatedKey): string | undefined {
    const offered = this.#pending.get(name);
    const key = findKey(name);
    if (offered !== undefined && key !== undefined && isDetermining(key.type, offered)) return offered;
    return this.#agreed.get(name);
  }
}

function notAllowed(key: KeyDefinition, where: string): NegotiationError {
  return new NegotiationError("NEGOTIATION_KEY_NOT_ALLOWED", `${key.name} is not allowed ${where} (${key.section})`, {
    key: key.name,
    section: key.section,
  });
}
