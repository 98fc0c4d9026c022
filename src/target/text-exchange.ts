import { MAX_TEXT_NEGOTIATION_BYTES } from "../base/limits.js";
import { RESERVED_TAG } from "../wire/constants.js";
import type { TextRequestPdu, TextResponsePdu } from "../wire/pdu.js";
import { decodeTextKeys, encodeTextKeys, splitText, TextAssembler } from "../wire/text-keys.js";

export type TextAnswers = readonly (readonly [string, string])[];

/** A text response without its sequence numbers. */
export type TextReply = Omit<TextResponsePdu, "statSn" | "expCmdSn" | "maxCmdSn">;

/**
 * Text requests in full feature phase (RFC 7143 §11.10, §11.11): requests and answers over several PDUs, one
 * negotiation at a time.
 */
export class TextExchange {
  readonly #answer: (pairs: [string, string][]) => TextAnswers;
  #assembler = new TextAssembler(MAX_TEXT_NEGOTIATION_BYTES);
  #unsent: Buffer[] = [];
  #tag = RESERVED_TAG;
  #nextTag = 1;

  /** `answer` gets all pairs of a request and returns the answers; what it throws passes through `receive`. */
  constructor(answer: (pairs: [string, string][]) => TextAnswers) {
    this.#answer = answer;
  }

  /**
   * Takes a request; returns the response to it, or undefined when it continues nothing that is under way and must
   * be rejected. `segmentBytes` is what the initiator takes in one PDU.
   */
  receive(pdu: TextRequestPdu, segmentBytes: number): TextReply | undefined {
    if (pdu.targetTransferTag === RESERVED_TAG) {
      // A fresh tag resets whatever was under way (§11.10.4).
      this.#assembler = new TextAssembler(MAX_TEXT_NEGOTIATION_BYTES);
      this.#unsent = [];
    } else if (pdu.targetTransferTag !== this.#tag) {
      return undefined;
    }
    this.#assembler.append(pdu.data);
    if (pdu.isContinued) return this.#reply(pdu, { data: Buffer.alloc(0), isFinal: false, isContinued: false });
    const pairs = decodeTextKeys(this.#assembler.finish());
    if (this.#unsent.length === 0) this.#unsent = splitText(encodeTextKeys(this.#answer(pairs)), segmentBytes);
    const data = this.#unsent.shift() ?? Buffer.alloc(0);
    const isLast = this.#unsent.length === 0;
    // An initiator that does not say F=1 goes on negotiating: the answer leaves it a tag to do so.
    return this.#reply(pdu, { data, isFinal: isLast && pdu.isFinal, isContinued: !isLast });
  }

  #reply(pdu: TextRequestPdu, part: { data: Buffer; isFinal: boolean; isContinued: boolean }): TextReply {
    if (part.isFinal) {
      this.#tag = RESERVED_TAG;
    } else if (this.#tag === RESERVED_TAG) {
      this.#tag = this.#nextTag;
      this.#nextTag = this.#nextTag + 1 === RESERVED_TAG ? 1 : this.#nextTag + 1;
    }
    return {
      type: "text-response",
      ...part,
      lun: pdu.lun,
      initiatorTaskTag: pdu.initiatorTaskTag,
      targetTransferTag: this.#tag,
    };
  }
}
