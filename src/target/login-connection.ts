import type { Logger } from "../base/logger.js";
import type { Random } from "../base/random.js";
import type { LoginRequestPdu } from "../wire/pdu.js";
import type { LoginDriver, TargetConnection } from "./connection.js";
import { LoginRefusal } from "./login/login-refusal.js";
import { TargetLogin, type LoginGrant, type TargetLoginOptions } from "./login/target-login.js";

export interface LoginConnectionDependencies {
  readonly connection: TargetConnection;
  readonly random: Random;
  readonly logger: Logger;
  /**
   * Makes the session of a granted login, ending one it takes the place of first. Resolves to the TSIH and to what
   * is to be done once the final response is queued. Rejects with a LoginRefusal.
   */
  readonly admit: (grant: LoginGrant) => Promise<AdmittedSession>;
}

export interface AdmittedSession {
  readonly tsih: number;
  /** Hands the connection over to the session. */
  begin(): void;
}

/** Drives one login on one connection. */
export class LoginConnection implements LoginDriver {
  readonly #login: TargetLogin;
  readonly #deps: LoginConnectionDependencies;
  #isWaiting = false;

  constructor(options: TargetLoginOptions, dependencies: LoginConnectionDependencies) {
    this.#deps = dependencies;
    this.#login = new TargetLogin(options, { random: dependencies.random });
  }

  onLoginRequest(pdu: LoginRequestPdu): void {
    const { connection } = this.#deps;
    // One request at a time (§6.3): while the old session ends nothing may come.
    if (this.#isWaiting) {
      connection.destroy();
      return;
    }
    const step = this.#login.receive(pdu);
    if (step.kind === "respond") connection.send(step.response);
    else if (step.kind === "refuse") this.#refuse(step.refusal, step.response);
    else void this.#admit(step.grant);
  }

  onClosed(): void {
    this.#isWaiting = true;
  }

  async #admit(grant: LoginGrant): Promise<void> {
    const { connection, admit } = this.#deps;
    this.#isWaiting = true;
    connection.pauseInput();
    try {
      const session = await admit(grant);
      connection.send(this.#login.finish(session.tsih));
      connection.statSn = this.#login.statSn;
      session.begin();
    } catch (error) {
      if (error instanceof LoginRefusal) {
        const step = this.#login.refuse(error);
        if (step.kind === "refuse") this.#refuse(step.refusal, step.response);
      } else {
        this.#deps.logger.error("a login failed inside the target", { peer: connection.remoteAddress, error });
        connection.destroy();
      }
    } finally {
      connection.resumeInput();
    }
  }

  #refuse(refusal: LoginRefusal, response: Parameters<TargetConnection["send"]>[0]): void {
    const { connection, logger } = this.#deps;
    logger.warn("refusing a login", { peer: connection.remoteAddress, reason: refusal.message, ...refusal.details });
    connection.send(response);
    connection.end();
  }
}
