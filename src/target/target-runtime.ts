import type { ChapCredentials, PortalAddress } from "../base/access.js";
import type { Clock } from "../base/clock.js";
import type { Logger } from "../base/logger.js";
import type { AluaState } from "../scsi/alua.js";
import type { AccessRule, TargetDefinition } from "./api.js";
import type { BufferPool } from "./buffer-pool.js";
import type { CredentialLookup } from "./login/chap-exchange.js";
import { TargetError } from "./errors.js";
import { Redirects } from "./redirects.js";
import { AccessStates, isSettable, SETTABLE_STATES } from "./scsi/access-states.js";
import { Condition } from "./scsi/check-condition.js";
import { DeviceServer } from "./scsi/device-server.js";
import { LogicalUnit } from "./scsi/logical-unit.js";
import type { ReservationStore } from "./scsi/persistent-reservations.js";
import { SessionEvents } from "./session-events.js";
import type { TargetSession } from "./session.js";
import type { TaskManagementScope } from "./task-management.js";

export interface TargetRuntimeDependencies {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly pool: BufferPool;
  readonly reservationStore?: ReservationStore;
}

/** What an initiator name may do with a target. */
export type AccessDecision =
  | { readonly kind: "denied" }
  | { readonly kind: "open" }
  | { readonly kind: "chap"; readonly credentials: ChapCredentials };

/** One target while it is served: its units, who may use them, and its sessions. */
export class TargetRuntime implements TaskManagementScope {
  readonly name: string;
  readonly alias: string | undefined;
  readonly deviceServer: DeviceServer;
  readonly events: SessionEvents;
  /** Where new sessions are sent instead. */
  readonly redirects: Redirects;
  readonly advertisedPortals: readonly PortalAddress[] | undefined;
  readonly #accessStates: AccessStates;
  readonly #units: ReadonlyMap<number, LogicalUnit>;
  readonly #sessions = new Set<TargetSession>();
  #access: TargetDefinition["access"];

  constructor(
    options: {
      readonly definition: TargetDefinition;
      readonly hasAtomicWrites: boolean;
      /** Of the server's portals: the target's ports. */
      readonly portalGroupTags: readonly number[];
    },
    dependencies: TargetRuntimeDependencies,
  ) {
    const { definition, hasAtomicWrites, portalGroupTags } = options;
    this.name = definition.name.toLowerCase();
    this.alias = definition.alias;
    this.#access = definition.access;
    this.redirects = new Redirects({ targetName: this.name, redirect: definition.redirect });
    this.advertisedPortals = definition.advertisedPortals;
    const accessStates = new AccessStates({ portalGroupTags, isExplicit: definition.explicitAccessStates ?? false });
    this.#accessStates = accessStates;
    this.events = new SessionEvents({ sessions: () => this.#sessions, clock: dependencies.clock });
    this.#units = new Map(
      [...definition.luns].map(([number, device]) => {
        const unit = new LogicalUnit(
          { number, device, targetName: this.name, hasAtomicWrites, accessStates },
          dependencies,
        );
        unit.announceAccessChange = (nexusId) => this.#announceAccessChange({ unit, nexusId });
        unit.abortTasksOf = (nexusIds) => this.#abortTasksOf(unit, nexusIds);
        return [number, unit];
      }),
    );
    this.deviceServer = new DeviceServer({ units: this.#units }, dependencies);
  }

  sessions(): Iterable<TargetSession> {
    return this.#sessions;
  }

  units(): Iterable<LogicalUnit> {
    return this.#units.values();
  }

  setAccess(access: TargetDefinition["access"]): void {
    this.#access = access;
  }

  /** May this initiator log in, and how must it prove itself? */
  decide(initiatorName: string): AccessDecision {
    const access = this.#access;
    if (access.kind === "any") return decision(access);
    const rule = access.rules.find((each) => each.initiatorName.toLowerCase() === initiatorName);
    return rule === undefined ? { kind: "denied" } : decision(rule);
  }

  /** See `TargetServerControl.setAccessState`. */
  setAccessState(group: number, state: AluaState, options: { readonly isPreferred?: boolean } = {}): void {
    if (!this.#accessStates.hasPort(group)) {
      const message = `${this.name} has no portal group ${group}; name the portalGroupTag of one of the server's portals`;
      throw new TargetError("TARGET_INVALID", message);
    }
    if (!isSettable(state)) {
      const message = `a port group cannot be put in the state ${state}; choose one of ${SETTABLE_STATES.join(", ")}`;
      throw new TargetError("TARGET_INVALID", message);
    }
    if (this.#accessStates.apply([{ group, state, ...options }], "target")) this.#announceAccessChange();
  }

  /** Takes a session in: its nexus exists from now on. */
  join(session: TargetSession): void {
    this.#sessions.add(session);
    for (const unit of this.#units.values()) unit.nexusStarted(session.nexus.id);
    void session.ended.then(() => this.#leave(session));
  }

  /** The session of this initiator port with this portal group, if there is one (RFC 7143 §6.3.5). */
  sessionOf(initiatorName: string, isid: Buffer, portalGroupTag: number): TargetSession | undefined {
    for (const session of this.#sessions) {
      const isSamePort = session.initiatorName === initiatorName && session.isid.equals(isid);
      if (isSamePort && session.portalGroupTag === portalGroupTag) return session;
    }
    return undefined;
  }

  /** Ends the sessions that the access rules no longer allow. */
  async dropDenied(previous: TargetDefinition["access"]): Promise<void> {
    const denied = [...this.#sessions].filter((session) => {
      const now = this.decide(session.initiatorName);
      return now.kind === "denied" || !isSameProof(previous, this.#access, session.initiatorName);
    });
    await Promise.all(denied.map((session) => session.drop("access was withdrawn")));
  }

  get access(): TargetDefinition["access"] {
    return this.#access;
  }

  /** Ends all sessions and lets go of the devices. */
  async dispose(reason: string): Promise<void> {
    await Promise.all([...this.#sessions].map((session) => session.drop(reason)));
    for (const unit of this.#units.values()) unit.dispose();
  }

  #leave(session: TargetSession): void {
    this.#sessions.delete(session);
    const { id } = session.nexus;
    for (const other of this.#sessions) if (other.nexus.id === id) return;
    for (const unit of this.#units.values()) unit.nexusLost(id);
  }

  /** Who asked for the change knows of it, but only from the unit it asked. */
  #announceAccessChange(origin?: { readonly unit: LogicalUnit; readonly nexusId: string }): void {
    for (const unit of this.#units.values()) {
      unit.attentionForAll(Condition.accessStateChanged, unit === origin?.unit ? origin.nexusId : undefined);
    }
  }

  async #abortTasksOf(unit: LogicalUnit, nexusIds: readonly string[]): Promise<void> {
    const victims = [...this.#sessions].filter((session) => nexusIds.includes(session.nexus.id));
    await Promise.all(victims.map((session) => session.abortTasks(unit)));
  }
}

/** CHAP for one known pair of name and secret. */
export function lookupOf(credentials: ChapCredentials): CredentialLookup {
  return (user) => (user === credentials.user ? credentials : undefined);
}

function decision(rule: { readonly chap?: ChapCredentials }): AccessDecision {
  return rule.chap === undefined ? { kind: "open" } : { kind: "chap", credentials: rule.chap };
}

/** Did the initiator prove itself with what is asked for now? Changed credentials end a session as a removed rule does. */
function isSameProof(
  before: TargetDefinition["access"],
  after: TargetDefinition["access"],
  initiatorName: string,
): boolean {
  const old = chapOf(before, initiatorName);
  const now = chapOf(after, initiatorName);
  if (old === undefined || now === undefined) return now === undefined;
  return old.user === now.user && old.secret.reveal().equals(now.secret.reveal());
}

function chapOf(access: TargetDefinition["access"], initiatorName: string): ChapCredentials | undefined {
  if (access.kind === "any") return access.chap;
  return access.rules.find((rule: AccessRule) => rule.initiatorName.toLowerCase() === initiatorName)?.chap;
}
