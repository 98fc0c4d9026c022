import { MAX_LOGIN_EXCHANGES, MAX_TEXT_NEGOTIATION_BYTES } from "../base/limits.js";
import { serialAdd } from "../base/serial32.js";
import { LoginStage } from "../wire/constants.js";
import type { LoginRequestPdu, LoginResponsePdu } from "../wire/pdu.js";
import { ProtocolError } from "../wire/errors.js";
import { decodeTextKeys, encodeTextKeys, splitText, TextAssembler } from "../wire/text-keys.js";
import { LoginError } from "./errors.js";
import type { TextPairs } from "./negotiate.js";
import { DEFAULT_PARAMETERS } from "./parameters.js";

/** The target broke the login protocol. The connection is of no more use; `details.section` says which rule. */
export class LoginProtocolError extends ProtocolError {
  constructor(message: string, section: string) {
    super("LOGIN_PROTOCOL_ERROR", message, { section: `RFC 7143 ${section}` });
  }
}

/** What all requests of one login carry alike (RFC 7143 §11.12). */
export interface LoginIdentity {
  readonly isid: Buffer;
  readonly tsih: number;
  readonly initiatorTaskTag: number;
  readonly cid: number;
  readonly cmdSn: number;
  /** ExpStatSN of the connection that this login restarts (§11.12.9); 0 when it restarts none. */
  readonly oldExpStatSn: number;
}

/** A stage, and the one we are ready to go to, if any. */
export interface LoginStagePosition {
  readonly currentStage: LoginStage;
  readonly nextStage?: LoginStage;
}

export type LoginReception =
  /** The exchange itself goes on: a piece of our text, or an empty request that asks for more of theirs. */
  | { readonly kind: "send"; readonly pdu: LoginRequestPdu }
  /** The target's text is complete. `nextStage` is there when the target left the stage. */
  | { readonly kind: "text"; readonly pairs: TextPairs; readonly nextStage?: LoginStage }
  /** Status-Class other than 0: the login is over. */
  | { readonly kind: "status"; readonly pairs: TextPairs };

/**
 * Moves text over Login Requests and Responses: splits ours, joins theirs (C bit), and holds every header field to the
 * rules of §6.2, §6.3, §11.12 and §11.13. Knows nothing of keys.
 */
export class LoginExchange {
  readonly #identity: LoginIdentity;
  readonly #unsent: Buffer[] = [];
  readonly #received = new TextAssembler(MAX_TEXT_NEGOTIATION_BYTES);
  /** Text of all PDUs of the login so far. */
  #receivedBytes = 0;
  #position: LoginStagePosition = { currentStage: LoginStage.securityNegotiation };
  #outstanding: LoginRequestPdu | undefined;
  #expStatSn: number;
  #isFirstResponse = true;
  #exchanges = 0;

  constructor(identity: LoginIdentity) {
    this.#identity = identity;
    this.#expStatSn = identity.oldExpStatSn;
  }

  /** The StatSN that the next PDU of the target will carry. */
  get expStatSn(): number {
    return this.#expStatSn;
  }

  /** The next request for a complete text of ours. */
  send(pairs: TextPairs, position: LoginStagePosition): LoginRequestPdu {
    this.#position = position;
    // §6.3: the default MaxRecvDataSegmentLength holds during login, whatever is being declared.
    const pieces = splitText(encodeTextKeys(pairs), DEFAULT_PARAMETERS.targetMaxRecvDataSegmentLength);
    this.#unsent.push(...pieces);
    return this.#nextRequest();
  }

  /** Takes the response to the outstanding request. Throws LoginProtocolError. */
  receive(pdu: LoginResponsePdu): LoginReception {
    const request = this.#outstanding;
    if (request === undefined) throw new LoginProtocolError("the target sent a Login Response to no request", "§6.3");
    this.#outstanding = undefined;
    this.#checkIdentity(pdu);
    if (pdu.statusClass !== 0) return { kind: "status", pairs: decodeTextKeys(pdu.data) };
    this.#checkSequence(pdu);
    checkStages(request, pdu);
    this.#checkSession(pdu);
    if (this.#unsent.length > 0) {
      if (pdu.data.length > 0 || pdu.isContinued) {
        throw new LoginProtocolError("the target answered before our text was complete", "§6.2");
      }
      return { kind: "send", pdu: this.#nextRequest() };
    }
    this.#append(pdu.data);
    if (pdu.isContinued) {
      // §11.12.2, §6.2: an empty request without T asks for the rest.
      this.#position = { currentStage: this.#position.currentStage };
      return { kind: "send", pdu: this.#nextRequest() };
    }
    const pairs = decodeTextKeys(this.#received.finish());
    return pdu.isTransit ? { kind: "text", pairs, nextStage: pdu.nextStage } : { kind: "text", pairs };
  }

  #nextRequest(): LoginRequestPdu {
    this.#exchanges += 1;
    if (this.#exchanges > MAX_LOGIN_EXCHANGES) {
      throw new LoginError(
        "LOGIN_TOO_MANY_EXCHANGES",
        `the target did not end the login within ${MAX_LOGIN_EXCHANGES} exchanges`,
        { retry: "other-path" },
      );
    }
    const data = this.#unsent.shift() ?? Buffer.alloc(0);
    const isContinued = this.#unsent.length > 0;
    const { currentStage, nextStage } = this.#position;
    const { isid, tsih, initiatorTaskTag, cid, cmdSn } = this.#identity;
    const isTransit = nextStage !== undefined && !isContinued;
    const pdu: LoginRequestPdu = {
      type: "login-request",
      isTransit,
      isContinued,
      currentStage,
      nextStage: isTransit ? nextStage : LoginStage.securityNegotiation,
      versionMax: 0,
      versionMin: 0,
      ...{ isid, tsih, initiatorTaskTag, cid, cmdSn },
      expStatSn: this.#expStatSn,
      data,
    };
    this.#outstanding = pdu;
    return pdu;
  }

  /** Bounds the whole login, not only one text of it. */
  #append(data: Buffer): void {
    this.#receivedBytes += data.length;
    if (this.#receivedBytes > MAX_TEXT_NEGOTIATION_BYTES) {
      throw new LoginProtocolError(`the target sent more than ${MAX_TEXT_NEGOTIATION_BYTES} bytes of text`, "§6.1");
    }
    this.#received.append(data);
  }

  #checkIdentity(pdu: LoginResponsePdu): void {
    if (pdu.initiatorTaskTag !== this.#identity.initiatorTaskTag) {
      throw new LoginProtocolError("the Login Response carries another Initiator Task Tag", "§6.3");
    }
    // A refused login may come from code that never looked at the rest of the request.
    if (pdu.statusClass === 0 && !pdu.isid.equals(this.#identity.isid)) {
      throw new LoginProtocolError("the Login Response carries another ISID", "§11.13");
    }
    if (pdu.statusClass === 0 && pdu.versionActive !== 0) {
      throw new LoginProtocolError(`the target chose iSCSI version ${pdu.versionActive}, not 0`, "§11.13.2");
    }
  }

  #checkSequence(pdu: LoginResponsePdu): void {
    if (!this.#isFirstResponse && pdu.statSn !== this.#expStatSn) {
      throw new LoginProtocolError(`StatSN is ${pdu.statSn} where ${this.#expStatSn} was due`, "§11.13.4");
    }
    this.#isFirstResponse = false;
    this.#expStatSn = serialAdd(pdu.statSn, 1);
  }

  #checkSession(pdu: LoginResponsePdu): void {
    const isFinal = pdu.isTransit && pdu.nextStage === LoginStage.fullFeature;
    const { tsih } = this.#identity;
    if (isFinal && pdu.tsih === 0) throw new LoginProtocolError("the final Login Response carries TSIH 0", "§11.13.3");
    if (pdu.tsih !== tsih && !(isFinal && tsih === 0)) {
      throw new LoginProtocolError(`the Login Response carries TSIH ${pdu.tsih}, not ${tsih}`, "§11.13.3");
    }
  }
}

/** §6.3, §11.13.6: the target stays in our stage, or leaves it for one we asked for. */
function checkStages(request: LoginRequestPdu, response: LoginResponsePdu): void {
  if (response.currentStage !== request.currentStage) {
    throw new LoginProtocolError(
      `the target is in stage ${response.currentStage}, the login in stage ${request.currentStage}`,
      "§6.3",
    );
  }
  if (!response.isTransit) return;
  if (!request.isTransit || response.isContinued) {
    throw new LoginProtocolError("the target left the stage without being asked to", "§11.13.6");
  }
  if (response.nextStage <= response.currentStage || response.nextStage > request.nextStage) {
    throw new LoginProtocolError(`the target went to stage ${response.nextStage}, which we did not propose`, "§6.3");
  }
}
