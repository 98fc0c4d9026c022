import type { Clock } from "../base/clock.js";
import type { Logger } from "../base/logger.js";
import type { BufferPool } from "./buffer-pool.js";
import type { TargetConnection } from "./connection.js";
import type { AdmittedSession } from "./login-connection.js";
import { LoginRefusal, LoginStatus } from "./login/login-refusal.js";
import type { LoginGrant, LoginIdentity, LoginNames, WindowNumbers } from "./login/target-login.js";
import type { RecoveryTally } from "./recovery-tally.js";
import { TargetSession } from "./session.js";
import type { TargetRuntime } from "./target-runtime.js";
import type { TextAnswers } from "./text-exchange.js";

export interface SessionRegistryOptions {
  readonly maxSessions: number;
  /** Commands one session may have in flight. */
  readonly queueDepth: number;
}

export interface SessionRegistryDependencies {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly pool: BufferPool;
  readonly tally: RecoveryTally;
  /** The target as it is served now. */
  readonly target: (name: string) => TargetRuntime | undefined;
  readonly sendTargets: (initiatorName: string, connection: TargetConnection, value: string) => TextAnswers;
}

export interface RegisteredSession {
  readonly session: TargetSession;
  readonly target: TargetRuntime;
}

/** The normal sessions of a server by TSIH: makes them, and lets connections join them. */
export class SessionRegistry {
  readonly #options: SessionRegistryOptions;
  readonly #deps: SessionRegistryDependencies;
  readonly #sessions = new Map<number, RegisteredSession>();
  #nextTsih = 1;

  constructor(options: SessionRegistryOptions, dependencies: SessionRegistryDependencies) {
    this.#options = options;
    this.#deps = dependencies;
  }

  all(): Iterable<RegisteredSession> {
    return this.#sessions.values();
  }

  windowOf(tsih: number): WindowNumbers | undefined {
    return this.#sessions.get(tsih)?.session.window;
  }

  /** A TSIH that no session has (RFC 7143 §11.12.6: never 0). */
  takeTsih(): number {
    do {
      this.#nextTsih = this.#nextTsih >= 0xffff ? 1 : this.#nextTsih + 1;
    } while (this.#sessions.has(this.#nextTsih));
    return this.#nextTsih;
  }

  /**
   * The session that a login with a TSIH is for: of the same initiator, ISID and target, met in the same portal group
   * (RFC 7143 §6.3.1, §11.13.5). Throws LoginRefusal.
   */
  joinable(names: LoginNames, identity: LoginIdentity, portalGroupTag: number): TargetSession {
    const found = this.#sessions.get(identity.tsih);
    const isSame =
      found?.target.name === names.targetName &&
      found?.session.initiatorName === names.initiatorName &&
      found.session.isid.equals(identity.isid);
    if (found === undefined || !isSame) {
      throw new LoginRefusal(LoginStatus.sessionDoesNotExist, `there is no session with TSIH ${identity.tsih}`);
    }
    if (found.session.portalGroupTag !== portalGroupTag) {
      const message = `the session belongs to portal group ${found.session.portalGroupTag}, not to ${portalGroupTag}`;
      throw new LoginRefusal(LoginStatus.cannotIncludeInSession, message);
    }
    return found.session;
  }

  /** Takes in the connection of a granted login. Throws LoginRefusal. */
  async admit(grant: LoginGrant, connection: TargetConnection, portalGroupTag: number): Promise<AdmittedSession> {
    const target = grant.targetName === undefined ? undefined : this.#deps.target(grant.targetName);
    if (target === undefined) throw withdrawn(grant);
    const session =
      grant.tsih === 0
        ? await this.#create(grant, target, portalGroupTag)
        : this.joinable(grant, grant, portalGroupTag);
    const slot = await session.join(grant, connection);
    return { tsih: session.tsih, begin: () => slot.begin() };
  }

  async #create(grant: LoginGrant, target: TargetRuntime, portalGroupTag: number): Promise<TargetSession> {
    // §6.3.5: the old session's tasks end before the new one is answered.
    const existing = target.sessionOf(grant.initiatorName, grant.isid, portalGroupTag);
    await existing?.drop("the initiator logged in again with the same ISID");
    const isDenied = target.decide(grant.initiatorName).kind === "denied";
    if (this.#deps.target(target.name) !== target || isDenied) throw withdrawn(grant);
    if (this.#sessions.size >= this.#options.maxSessions) {
      throw new LoginRefusal(LoginStatus.outOfResources, `there are ${this.#sessions.size} sessions already`);
    }
    const { clock, logger, pool, tally, sendTargets } = this.#deps;
    const tsih = this.takeTsih();
    const session = new TargetSession(
      { grant, tsih, portalGroupTag, queueDepth: this.#options.queueDepth },
      {
        clock,
        logger,
        pool,
        tally,
        deviceServer: target.deviceServer,
        scope: target,
        sendTargets: (connection, value) =>
          sendTargets(grant.initiatorName, connection, value === "" ? target.name : value),
      },
    );
    this.#sessions.set(tsih, { session, target });
    target.join(session);
    void session.ended.then(() => this.#sessions.delete(tsih));
    return session;
  }
}

function withdrawn(grant: LoginGrant): LoginRefusal {
  const message = `${grant.targetName ?? "the target"} was withdrawn while its login was under way`;
  return new LoginRefusal(LoginStatus.targetRemoved, message);
}
