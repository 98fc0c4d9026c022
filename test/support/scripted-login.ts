import { SeededRandom } from "../../src/base/seeded-random.js";
import type {
  InitiatorLoginDependencies,
  InitiatorLoginOptions,
  LoginResult,
  LoginStep,
} from "../../src/login/initiator-login.js";
import { InitiatorLogin } from "../../src/login/initiator-login.js";
import type { TextPairs } from "../../src/login/negotiate.js";
import type { LoginRequestPdu, LoginResponsePdu } from "../../src/wire/pdu.js";
import { decodeTextKeys, encodeTextKeys } from "../../src/wire/text-keys.js";
import { loginOptions } from "./login-driver.js";

export type PdusText = Readonly<Record<string, string>>;

/** A login with the test in the target's chair. */
export class ScriptedLogin {
  readonly login: InitiatorLogin;
  request: LoginRequestPdu;
  #statSn = 100;

  constructor(changes: Partial<InitiatorLoginOptions> = {}, dependencies: Partial<InitiatorLoginDependencies> = {}) {
    this.login = new InitiatorLogin(loginOptions(changes), { random: new SeededRandom(1), ...dependencies });
    this.request = this.login.start();
  }

  /** Keys of the latest request. */
  get sent(): PdusText {
    return Object.fromEntries(decodeTextKeys(this.request.data));
  }

  /** A response that follows all rules, before `changes`. */
  response(pairs: TextPairs | PdusText, changes: Partial<LoginResponsePdu> = {}): LoginResponsePdu {
    const list = Array.isArray(pairs) ? (pairs as TextPairs) : Object.entries(pairs);
    const { request } = this;
    const isTransit = changes.isTransit ?? request.isTransit;
    const nextStage = changes.nextStage ?? (isTransit ? request.nextStage : 0);
    const pdu: LoginResponsePdu = {
      type: "login-response",
      isTransit,
      isContinued: false,
      currentStage: request.currentStage,
      nextStage,
      versionMax: 0,
      versionActive: 0,
      isid: Buffer.from(request.isid),
      tsih: isTransit && nextStage === 3 && request.tsih === 0 ? 0x77 : request.tsih,
      initiatorTaskTag: request.initiatorTaskTag,
      statusClass: 0,
      statusDetail: 0,
      statSn: this.#statSn,
      expCmdSn: request.cmdSn,
      maxCmdSn: request.cmdSn + 31,
      data: encodeTextKeys(list),
      ...changes,
    };
    this.#statSn += 1;
    return pdu;
  }

  /** Answers, and keeps the request that follows. */
  answer(pairs: TextPairs | PdusText, changes: Partial<LoginResponsePdu> = {}): LoginStep {
    const step = this.login.receive(this.response(pairs, changes));
    if (step.kind === "send") this.request = step.pdu;
    return step;
  }

  /** Agrees with every operational offer of the latest request. */
  agree(): PdusText {
    const declared = new Set([
      "MaxRecvDataSegmentLength",
      "InitiatorName",
      "TargetName",
      "SessionType",
      "InitiatorAlias",
    ]);
    return Object.fromEntries(
      Object.entries(this.sent)
        .filter(([name]) => !declared.has(name))
        .map(([name, value]) => [name, value.split(",")[0] ?? ""]),
    );
  }

  /** The operational stage in one exchange. */
  finish(): LoginResult {
    const step = this.answer(this.agree());
    if (step.kind !== "done") throw new Error(`the login is not done: ${step.kind}`);
    return step.result;
  }
}
