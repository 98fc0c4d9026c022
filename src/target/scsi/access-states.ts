import type { AluaState, TargetPortGroup } from "../../scsi/alua.js";

/** What a port group of ours can be put in: LBA-dependent access is for units that are split between controllers. */
export const SETTABLE_STATES = [
  "active-optimized",
  "active-non-optimized",
  "standby",
  "unavailable",
  "offline",
  "transitioning",
] as const satisfies readonly AluaState[];
export type SettableState = (typeof SETTABLE_STATES)[number];

/** STATUS CODE of a target port group descriptor: who changed the state last, SPC-5 §6.36. */
const StatusCode = { none: 0, bySetTargetPortGroups: 1, byTarget: 2 } as const;

/** A change of one group. */
export interface AccessChange {
  readonly group: number;
  readonly state: SettableState;
  /** PREF; stays as it is where nothing is said. */
  readonly isPreferred?: boolean;
}

interface Group {
  state: SettableState;
  isPreferred: boolean;
  statusCode: number;
}

/**
 * The asymmetric access states of a target's port groups (SPC-5 §5.18). One portal group is one target port with a
 * target port group of its own; all units of the target share the states.
 */
export class AccessStates {
  /** Does SET TARGET PORT GROUPS change states, or the target alone? */
  readonly isExplicit: boolean;
  readonly #groups: ReadonlyMap<number, Group>;

  /** `portalGroupTags`: those of the server, each once or more. */
  constructor(options: { readonly portalGroupTags: readonly number[]; readonly isExplicit: boolean }) {
    this.isExplicit = options.isExplicit;
    const tags = [...new Set(options.portalGroupTags)].sort((a, b) => a - b);
    // The only way there is, is the preferred one; of several none is before somebody says so.
    const isPreferred = tags.length === 1;
    this.#groups = new Map(
      tags.map((tag) => [tag, { state: "active-optimized", isPreferred, statusCode: StatusCode.none }]),
    );
  }

  get portCount(): number {
    return this.#groups.size;
  }

  /** Is there a target port with this relative identifier (and a group with this number)? */
  hasPort(relativePortId: number): boolean {
    return this.#groups.has(relativePortId);
  }

  /** The state of the group a target port is in. */
  stateOf(relativePortId: number): SettableState {
    return this.#groups.get(relativePortId)?.state ?? "active-optimized";
  }

  /** All groups as REPORT TARGET PORT GROUPS tells them, by number. */
  report(): TargetPortGroup[] {
    return [...this.#groups].map(([group, values]) => ({
      group,
      ...values,
      supportedStates: SETTABLE_STATES,
      ports: [group],
    }));
  }

  /** Applies changes of groups that are there; returns whether anything is different now. */
  apply(changes: readonly AccessChange[], by: "initiator" | "target"): boolean {
    let hasChanged = false;
    for (const { group, state, isPreferred } of changes) {
      const known = this.#groups.get(group);
      if (known === undefined) continue;
      const preference = isPreferred ?? known.isPreferred;
      if (known.state === state && known.isPreferred === preference) continue;
      hasChanged = true;
      known.state = state;
      known.isPreferred = preference;
      known.statusCode = by === "initiator" ? StatusCode.bySetTargetPortGroups : StatusCode.byTarget;
    }
    return hasChanged;
  }
}

/** Is this a state a port group can be put in? */
export function isSettable(state: AluaState): state is SettableState {
  return SETTABLE_STATES.some((settable) => settable === state);
}
