import type { ChapCredentials, PortalAddress } from "../base/access.js";
import type { Clock, Timer } from "../base/clock.js";
import {
  MAX_NODE_NAME_BYTES,
  TARGET_LOGIN_TIMEOUT_MS,
  TARGET_MAX_CONNECTIONS,
  TARGET_MAX_SESSIONS,
  TARGET_PING_INTERVAL_MS,
  TARGET_POOL_BYTES,
  TARGET_QUEUE_DEPTH,
} from "../base/limits.js";
import { errorMessage } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { Random } from "../base/random.js";
import { DEFAULT_PREFERENCES, type OperationalPreferences } from "../login/negotiate.js";
import type { ByteStream, Listener, ListeningSocket } from "../transport/transport.js";
import type { TargetDefinition, TargetServer, TargetSessionStatus } from "./api.js";
import { BufferPool } from "./buffer-pool.js";
import { TargetConnection } from "./connection.js";
import { DiscoverySession } from "./discovery-session.js";
import { TargetError } from "./errors.js";
import { LoginConnection, type AdmittedSession } from "./login-connection.js";
import { LoginRefusal, LoginStatus } from "./login/login-refusal.js";
import type { LoginAdmission, LoginGrant, LoginNames } from "./login/target-login.js";
import type { ReservationStore } from "./scsi/persistent-reservations.js";
import { sendTargetsAnswer } from "./send-targets.js";
import { TargetSession } from "./session.js";
import { lookupOf, TargetRuntime } from "./target-runtime.js";

/** All portals are one portal group, and one target port: any of them reaches any session's units. */
const PORTAL_GROUP_TAG = 1;

export interface TargetServerLimits {
  readonly maxSessions?: number;
  readonly maxConnections?: number;
  /** Commands one session may have in flight. */
  readonly queueDepth?: number;
  readonly loginTimeoutMs?: number;
  /** A silent initiator is pinged after this time, and given up after as much again. */
  readonly pingIntervalMs?: number;
}

export interface TargetServerOptions {
  /** Port 0 takes any free port; `portals` tells which. */
  readonly portals: readonly PortalAddress[];
  readonly limits?: TargetServerLimits;
  /** What is offered and accepted in negotiations, where it differs from the defaults. */
  readonly preferences?: Partial<OperationalPreferences>;
  /**
   * Offer WRITE ATOMIC. Only for devices that keep such a write whole when power is lost midway: initiators build
   * their crash safety on it.
   */
  readonly offersAtomicWrites?: boolean;
}

export interface TargetServerDependencies {
  readonly listener: Listener;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Keeps persistent reservations over restarts (APTPL). Without it APTPL is refused. */
  readonly reservationStore?: ReservationStore;
}

/** The embedded target. Serves nothing until `start`. */
export function createTargetServer(options: TargetServerOptions, dependencies: TargetServerDependencies): TargetServer {
  return new EmbeddedTargetServer(options, dependencies);
}

class EmbeddedTargetServer implements TargetServer {
  readonly #options: TargetServerOptions;
  readonly #deps: TargetServerDependencies;
  readonly #limits: Required<TargetServerLimits>;
  readonly #preferences: OperationalPreferences;
  readonly #pool = new BufferPool({ maxKeptBytes: TARGET_POOL_BYTES });
  readonly #targets = new Map<string, TargetRuntime>();
  readonly #connections = new Set<TargetConnection>();
  readonly #sessions = new Map<number, { readonly session: TargetSession; readonly target: TargetRuntime }>();
  readonly #removing = new Map<string, Promise<void>>();
  #sockets: ListeningSocket[] = [];
  #pingTimer: Timer | undefined;
  #nextTsih = 1;
  #isStopped = false;

  constructor(options: TargetServerOptions, dependencies: TargetServerDependencies) {
    this.#options = options;
    this.#deps = dependencies;
    this.#limits = {
      maxSessions: TARGET_MAX_SESSIONS,
      maxConnections: TARGET_MAX_CONNECTIONS,
      queueDepth: TARGET_QUEUE_DEPTH,
      loginTimeoutMs: TARGET_LOGIN_TIMEOUT_MS,
      pingIntervalMs: TARGET_PING_INTERVAL_MS,
      ...options.limits,
    };
    this.#preferences = {
      ...DEFAULT_PREFERENCES,
      // Take what the initiator prefers: it knows whether its network needs digests.
      headerDigest: ["CRC32C", "None"],
      dataDigest: ["CRC32C", "None"],
      taskReporting: ["RFC3720", "ResponseFence"],
      iscsiProtocolLevel: 2,
      ...options.preferences,
    };
  }

  get portals(): readonly PortalAddress[] {
    return this.#sockets.flatMap(({ endpoint }) =>
      endpoint.kind === "tcp" ? [{ host: endpoint.host, port: endpoint.port }] : [],
    );
  }

  async start(): Promise<void> {
    if (this.#sockets.length > 0 || this.#isStopped) {
      throw new TargetError("TARGET_INVALID", "a target server is started once; make a new one");
    }
    for (const portal of this.#options.portals) {
      const onConnection = (stream: ByteStream): void => this.#accept(stream);
      try {
        this.#sockets.push(await this.#deps.listener.listen({ kind: "tcp", ...portal }, onConnection));
      } catch (error) {
        await this.stop();
        throw new TargetError("TARGET_PORTAL", `a portal of the target cannot be bound: ${errorMessage(error)}`, {
          cause: error,
        });
      }
    }
    this.#schedulePings();
  }

  addTarget(definition: TargetDefinition): void {
    const name = definition.name.toLowerCase();
    const isName = /^(iqn\.|eui\.|naa\.)/.test(name) && Buffer.byteLength(name) <= MAX_NODE_NAME_BYTES;
    if (!isName)
      throw new TargetError("TARGET_INVALID", `"${definition.name}" is not an iSCSI name (iqn., eui. or naa.)`);
    if (this.#targets.has(name)) throw new TargetError("TARGET_EXISTS", `the target ${name} is already served`);
    const hasAtomicWrites = this.#options.offersAtomicWrites ?? false;
    const { logger, reservationStore } = this.#deps;
    const runtime = new TargetRuntime(
      { definition, hasAtomicWrites },
      { logger, pool: this.#pool, ...(reservationStore === undefined ? {} : { reservationStore }) },
    );
    this.#targets.set(name, runtime);
  }

  async removeTarget(name: string): Promise<void> {
    const key = name.toLowerCase();
    const target = this.#targets.get(key);
    // Once forgotten nobody can log in; sessions end after that.
    this.#targets.delete(key);
    if (target === undefined) {
      await this.#removing.get(key);
      return;
    }
    const removal = target.dispose("the target was removed");
    this.#removing.set(key, removal);
    await removal.finally(() => this.#removing.delete(key));
  }

  async setAccess(name: string, access: TargetDefinition["access"]): Promise<void> {
    const target = this.#targets.get(name.toLowerCase());
    if (target === undefined) throw new TargetError("TARGET_NOT_FOUND", `there is no target ${name}`);
    const previous = target.access;
    target.setAccess(access);
    await target.dropDenied(previous);
  }

  sessions(): readonly TargetSessionStatus[] {
    return [...this.#sessions.values()].map(({ session, target }) => ({
      targetName: target.name,
      initiatorName: session.initiatorName,
      isid: session.isid.toString("hex"),
      tsih: session.tsih,
      remoteAddress: session.connection.remoteAddress,
    }));
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#pingTimer?.cancel();
    await Promise.all(this.#sockets.map((socket) => socket.close()));
    this.#sockets = [];
    const targets = [...this.#targets.values()];
    this.#targets.clear();
    await Promise.all([
      ...targets.map((target) => target.dispose("the target is shut down")),
      ...this.#removing.values(),
    ]);
    for (const connection of [...this.#connections]) connection.destroy();
  }

  #accept(stream: ByteStream): void {
    if (this.#isStopped || this.#connections.size >= this.#limits.maxConnections) {
      this.#deps.logger.warn("refusing a connection", { peer: stream.remoteAddress, open: this.#connections.size });
      stream.start({ onData: () => undefined, onClose: () => undefined });
      stream.destroy();
      return;
    }
    const { clock, random, logger } = this.#deps;
    const connection = new TargetConnection(
      { loginTimeoutMs: this.#limits.loginTimeoutMs, onClosed: () => this.#connections.delete(connection) },
      { stream, clock, logger, pool: this.#pool },
    );
    this.#connections.add(connection);
    const login = new LoginConnection(
      {
        preferences: this.#preferences,
        portalGroupTag: PORTAL_GROUP_TAG,
        initialStatSn: random.uint32(),
        queueDepth: this.#limits.queueDepth,
        gatekeeper: (names) => this.#gatekeep(names),
      },
      { connection, random, logger, admit: (grant) => this.#admit(grant, connection) },
    );
    connection.start(login);
  }

  /** Names are known: is there such a target, and may this initiator use it? */
  #gatekeep(names: LoginNames): LoginAdmission {
    const { initiatorName, targetName } = names;
    if (targetName === undefined) return { chap: undefined, optionalChap: this.#discoveryLookup(initiatorName) };
    const target = this.#targets.get(targetName);
    if (target === undefined) {
      const isRemoved = this.#removing.has(targetName);
      const status = isRemoved ? LoginStatus.targetRemoved : LoginStatus.targetNotFound;
      throw new LoginRefusal(status, `${initiatorName} asked for ${targetName}, which is not served`);
    }
    const decision = target.decide(initiatorName);
    if (decision.kind === "denied") {
      throw new LoginRefusal(LoginStatus.authorizationFailure, `${initiatorName} may not use ${targetName}`);
    }
    const chap = decision.kind === "chap" ? lookupOf(decision.credentials) : undefined;
    return { chap, ...(target.alias === undefined ? {} : { targetAlias: target.alias }) };
  }

  /** Discovery needs no proof, but an initiator that insists on CHAP may use any pair it has for one of our targets. */
  #discoveryLookup(initiatorName: string): (user: string) => ChapCredentials | undefined {
    return (user) => {
      for (const target of this.#targets.values()) {
        const decision = target.decide(initiatorName);
        if (decision.kind === "chap" && decision.credentials.user === user) return decision.credentials;
      }
      return undefined;
    };
  }

  async #admit(grant: LoginGrant, connection: TargetConnection): Promise<AdmittedSession> {
    if (grant.targetName === undefined) return this.#admitDiscovery(grant, connection);
    const target = this.#targets.get(grant.targetName);
    if (target === undefined) {
      throw new LoginRefusal(
        LoginStatus.targetRemoved,
        `${grant.targetName} was removed while its login was under way`,
      );
    }
    const existing = target.sessionOf(grant.initiatorName, grant.isid);
    if (grant.tsih !== 0) {
      const isKnown = existing?.tsih === grant.tsih;
      throw isKnown
        ? new LoginRefusal(LoginStatus.tooManyConnections, "a session here has one connection")
        : new LoginRefusal(LoginStatus.sessionDoesNotExist, `there is no session with TSIH ${grant.tsih}`);
    }
    // §6.3.5: the old session's tasks end before the new one is answered.
    await existing?.drop("the initiator logged in again with the same ISID");
    const decision = target.decide(grant.initiatorName);
    if (this.#targets.get(grant.targetName) !== target || decision.kind === "denied") {
      throw new LoginRefusal(
        LoginStatus.targetRemoved,
        `${grant.targetName} was withdrawn while its login was under way`,
      );
    }
    if (this.#sessions.size >= this.#limits.maxSessions) {
      throw new LoginRefusal(LoginStatus.outOfResources, `there are ${this.#sessions.size} sessions already`);
    }
    return this.#createSession(grant, target, connection);
  }

  #createSession(grant: LoginGrant, target: TargetRuntime, connection: TargetConnection): AdmittedSession {
    const tsih = this.#takeTsih();
    const session = new TargetSession(
      { grant, tsih, portalGroupTag: PORTAL_GROUP_TAG, queueDepth: this.#limits.queueDepth },
      {
        connection,
        deviceServer: target.deviceServer,
        pool: this.#pool,
        logger: this.#deps.logger,
        scope: target,
        sendTargets: (value) => this.#sendTargets(grant, connection, value === "" ? target.name : value),
      },
    );
    this.#sessions.set(tsih, { session, target });
    target.join(session);
    void session.ended.then(() => this.#sessions.delete(tsih));
    return {
      tsih,
      begin: () => {
        connection.enterFullFeature(session, grant.parameters);
        if (!connection.isOpen) session.onClosed();
      },
    };
  }

  #admitDiscovery(grant: LoginGrant, connection: TargetConnection): AdmittedSession {
    const session = new DiscoverySession(
      { grant, queueDepth: this.#limits.queueDepth },
      {
        connection,
        sendTargets: (value) => this.#sendTargets(grant, connection, value),
        onClosed: () => undefined,
      },
    );
    return { tsih: this.#takeTsih(), begin: () => connection.enterFullFeature(session, grant.parameters) };
  }

  /** Only what the initiator may use is listed; `All` belongs to discovery sessions (Appendix C). */
  #sendTargets(grant: LoginGrant, connection: TargetConnection, value: string): [string, string][] {
    const wanted = value.toLowerCase();
    const isAll = wanted === "all" && grant.sessionType === "Discovery";
    const targets = [...this.#targets.values()].filter((target) => {
      const isWanted = isAll || target.name === wanted;
      return isWanted && target.decide(grant.initiatorName).kind !== "denied";
    });
    const reachedHost = hostOf(connection.localAddress);
    return sendTargetsAnswer({ targets, portals: this.portals, reachedHost, portalGroupTag: PORTAL_GROUP_TAG });
  }

  #takeTsih(): number {
    do {
      this.#nextTsih = this.#nextTsih >= 0xffff ? 1 : this.#nextTsih + 1;
    } while (this.#sessions.has(this.#nextTsih));
    return this.#nextTsih;
  }

  #schedulePings(): void {
    const { pingIntervalMs } = this.#limits;
    this.#pingTimer = this.#deps.clock.setTimer(pingIntervalMs / 2, () => {
      if (this.#isStopped) return;
      const nowMs = this.#deps.clock.nowMs();
      for (const connection of [...this.#connections]) {
        const silentMs = nowMs - connection.lastReceivedMs;
        if (silentMs <= 2 * pingIntervalMs) continue;
        const message = `${connection.remoteAddress} did not answer for ${Math.round(silentMs / 1000)} s`;
        connection.destroy(new TargetError("TARGET_PEER_TIMEOUT", message));
      }
      for (const { session } of this.#sessions.values()) {
        if (nowMs - session.connection.lastReceivedMs > pingIntervalMs) session.ping();
      }
      this.#schedulePings();
    });
  }
}

/** The host of `host:port` or `[v6]:port`. */
function hostOf(address: string): string {
  return address.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
}
