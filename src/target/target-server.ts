import type { ChapCredentials, PortalAddress } from "../base/access.js";
import type { Clock, Timer } from "../base/clock.js";
import {
  MAX_NODE_NAME_BYTES,
  TARGET_LOGIN_TIMEOUT_MS,
  TARGET_MAX_CONNECTIONS,
  TARGET_MAX_CONNECTIONS_PER_SESSION,
  TARGET_MAX_SESSIONS,
  TARGET_PING_INTERVAL_MS,
  TARGET_POOL_BYTES,
  TARGET_QUEUE_DEPTH,
} from "../base/limits.js";
import { errorMessage } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { Random } from "../base/random.js";
import { DEFAULT_PREFERENCES, type OperationalPreferences } from "../login/negotiate.js";
import type { AluaState } from "../scsi/alua.js";
import type { ByteStream, Listener, ListeningSocket } from "../transport/transport.js";
import type {
  ConnectionSelector,
  TargetDefinition,
  TargetPortal,
  TargetRedirect,
  TargetServerControl,
  TargetSessionStatus,
  VendorEvent,
} from "./api.js";
import { BufferPool } from "./buffer-pool.js";
import { TargetConnection } from "./connection.js";
import { DiscoverySession } from "./discovery-session.js";
import { TargetError } from "./errors.js";
import { LoginConnection, type AdmittedSession } from "./login-connection.js";
import { LoginRefusal, LoginStatus } from "./login/login-refusal.js";
import type { LoginAdmission, LoginGrant, LoginIdentity, LoginNames } from "./login/target-login.js";
import type { ReservationStore } from "./scsi/persistent-reservations.js";
import { createRecoveryTally, type RecoveryTally } from "./recovery-tally.js";
import { portalGroupTagOf, sendTargetsAnswer } from "./send-targets.js";
import { SessionRegistry } from "./session-registry.js";
import { sessionStatus } from "./session-status.js";
import { lookupOf, TargetRuntime } from "./target-runtime.js";

interface BoundPortal {
  readonly socket: ListeningSocket;
  /** As bound: the real port when 0 was asked for. */
  readonly portal: TargetPortal;
}

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
  /** Port 0 takes any free port; `portals` tells which. Portals of one group reach the same sessions. */
  readonly portals: readonly TargetPortal[];
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
export function createTargetServer(
  options: TargetServerOptions,
  dependencies: TargetServerDependencies,
): TargetServerControl {
  return new EmbeddedTargetServer(options, dependencies);
}

class EmbeddedTargetServer implements TargetServerControl {
  readonly #options: TargetServerOptions;
  readonly #deps: TargetServerDependencies;
  readonly #limits: Required<TargetServerLimits>;
  readonly #preferences: OperationalPreferences;
  readonly #pool = new BufferPool({ maxKeptBytes: TARGET_POOL_BYTES });
  readonly #targets = new Map<string, TargetRuntime>();
  readonly #connections = new Set<TargetConnection>();
  readonly #registry: SessionRegistry;
  readonly #tally = createRecoveryTally();
  readonly #removing = new Map<string, Promise<void>>();
  #sockets: BoundPortal[] = [];
  #pingTimer: Timer | undefined;
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
      taskReporting: ["RFC3720", "ResponseFence", "FastAbort"],
      iscsiProtocolLevel: 2,
      maxConnections: TARGET_MAX_CONNECTIONS_PER_SESSION,
      errorRecoveryLevel: 2,
      ...options.preferences,
    };
    const { maxSessions, queueDepth } = this.#limits;
    this.#registry = new SessionRegistry(
      { maxSessions, queueDepth },
      {
        clock: dependencies.clock,
        logger: dependencies.logger,
        pool: this.#pool,
        tally: this.#tally,
        target: (name) => this.#targets.get(name),
        sendTargets: (initiatorName, connection, value) => this.#sendTargets(initiatorName, connection, value, false),
      },
    );
  }

  get portals(): readonly PortalAddress[] {
    return this.#sockets.map(({ portal: { host, port } }) => ({ host, port }));
  }

  async start(): Promise<void> {
    if (this.#sockets.length > 0 || this.#isStopped) {
      throw new TargetError("TARGET_INVALID", "a target server is started once; make a new one");
    }
    for (const portal of this.#options.portals) {
      const { host, port } = portal;
      const onConnection = (stream: ByteStream): void => this.#accept(stream, portalGroupTagOf(portal));
      try {
        const socket = await this.#deps.listener.listen({ kind: "tcp", host, port }, onConnection);
        const bound = socket.endpoint.kind === "tcp" ? socket.endpoint : portal;
        this.#sockets.push({ socket, portal: { ...portal, host: bound.host, port: bound.port } });
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
    const { clock, logger, reservationStore } = this.#deps;
    const runtime = new TargetRuntime(
      { definition, hasAtomicWrites, portalGroupTags: this.#options.portals.map(portalGroupTagOf) },
      { clock, logger, pool: this.#pool, ...(reservationStore === undefined ? {} : { reservationStore }) },
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
    const target = this.#find(name);
    const previous = target.access;
    target.setAccess(access);
    await target.dropDenied(previous);
  }

  setRedirect(name: string, redirect: TargetRedirect | undefined): void {
    this.#find(name).redirects.set(redirect);
  }

  requestLogout(name: string, request: ConnectionSelector & { readonly timeLimitSeconds: number }): Promise<void> {
    return this.#find(name).events.requestLogout(request);
  }

  dropConnections(name: string, selector: ConnectionSelector): void {
    this.#find(name).events.drop(selector);
  }

  requestNegotiation(name: string, request: ConnectionSelector & { readonly timeLimitSeconds: number }): void {
    this.#find(name).events.requestNegotiation(request);
  }

  reportScsiEvent(name: string, event: { readonly lun: number; readonly sense: Buffer }): void {
    this.#find(name).events.reportScsiEvent(event);
  }

  sendVendorEvent(name: string, event: VendorEvent, selector: ConnectionSelector = {}): void {
    this.#find(name).events.sendVendorEvent(event, selector);
  }

  setAccessState(
    name: string,
    portalGroupTag: number,
    state: AluaState,
    options: { readonly isPreferred?: boolean } = {},
  ): void {
    this.#find(name).setAccessState(portalGroupTag, state, options);
  }

  sessions(): readonly TargetSessionStatus[] {
    return [...this.#registry.all()].map(({ session, target }) => sessionStatus(session, target.name));
  }

  recoveryTally(): Readonly<RecoveryTally> {
    return { ...this.#tally };
  }

  async stop(options: { readonly timeLimitSeconds?: number } = {}): Promise<void> {
    this.#isStopped = true;
    this.#pingTimer?.cancel();
    await Promise.all(this.#sockets.map(({ socket }) => socket.close()));
    this.#sockets = [];
    const targets = [...this.#targets.values()];
    const { timeLimitSeconds = 0 } = options;
    if (timeLimitSeconds > 0) {
      await Promise.all(targets.map((target) => target.events.requestLogout({ timeLimitSeconds })));
    }
    this.#targets.clear();
    await Promise.all([
      ...targets.map((target) => target.dispose("the target is shut down")),
      ...this.#removing.values(),
    ]);
    for (const connection of [...this.#connections]) connection.destroy();
  }

  #find(name: string): TargetRuntime {
    const target = this.#targets.get(name.toLowerCase());
    if (target === undefined) throw new TargetError("TARGET_NOT_FOUND", `there is no target ${name}`);
    return target;
  }

  #accept(stream: ByteStream, portalGroupTag: number): void {
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
        portalGroupTag,
        initialStatSn: random.uint32(),
        queueDepth: this.#limits.queueDepth,
        gatekeeper: (names, identity) => this.#gatekeep(names, identity, portalGroupTag, connection),
        windowOf: (tsih) => this.#registry.windowOf(tsih),
      },
      { connection, random, logger, admit: (grant) => this.#admit(grant, connection, portalGroupTag) },
    );
    connection.start(login);
  }

  /** Names are known: is there such a target, and may this initiator use it? */
  #gatekeep(
    names: LoginNames,
    identity: LoginIdentity,
    portalGroupTag: number,
    connection: TargetConnection,
  ): LoginAdmission {
    const { initiatorName, targetName } = names;
    if (targetName === undefined) {
      // A discovery session has one connection (§4.3).
      if (identity.tsih !== 0) this.#registry.joinable(names, identity, portalGroupTag);
      return { chap: undefined, optionalChap: this.#discoveryLookup(initiatorName) };
    }
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
    const redirection = identity.tsih === 0 ? target.redirects.next(connection.localAddress) : undefined;
    if (redirection?.isAfterAuthentication === false) throw redirection.refusal;
    const chap = decision.kind === "chap" ? lookupOf(decision.credentials) : undefined;
    return {
      chap,
      ...(target.alias === undefined ? {} : { targetAlias: target.alias }),
      ...(redirection === undefined ? {} : { redirect: redirection.refusal }),
      ...(identity.tsih === 0 ? {} : { joined: this.#registry.joinable(names, identity, portalGroupTag).parameters }),
    };
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

  async #admit(grant: LoginGrant, connection: TargetConnection, portalGroupTag: number): Promise<AdmittedSession> {
    if (grant.targetName === undefined) return this.#admitDiscovery(grant, connection);
    return this.#registry.admit(grant, connection, portalGroupTag);
  }

  #admitDiscovery(grant: LoginGrant, connection: TargetConnection): AdmittedSession {
    const session = new DiscoverySession(
      { grant, queueDepth: this.#limits.queueDepth },
      {
        connection,
        sendTargets: (value) => this.#sendTargets(grant.initiatorName, connection, value, true),
        onClosed: () => undefined,
      },
    );
    return { tsih: this.#registry.takeTsih(), begin: () => connection.enterFullFeature(session, grant.parameters) };
  }

  /** Only what the initiator may use is listed; `All` belongs to discovery sessions (Appendix C). */
  #sendTargets(
    initiatorName: string,
    connection: TargetConnection,
    value: string,
    isDiscovery: boolean,
  ): [string, string][] {
    const wanted = value.toLowerCase();
    const isAll = wanted === "all" && isDiscovery;
    const targets = [...this.#targets.values()].filter((target) => {
      const isWanted = isAll || target.name === wanted;
      return isWanted && target.decide(initiatorName).kind !== "denied";
    });
    const reachedHost = hostOf(connection.localAddress);
    const portals = this.#sockets.map(({ portal }) => portal);
    return sendTargetsAnswer({ targets, portals, reachedHost });
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
      for (const { session } of this.#registry.all()) {
        for (const slot of session.slots) {
          if (nowMs - slot.connection.lastReceivedMs > pingIntervalMs) slot.ping();
        }
      }
      this.#schedulePings();
    });
  }
}

/** The host of `host:port` or `[v6]:port`. */
function hostOf(address: string): string {
  return address.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
}
