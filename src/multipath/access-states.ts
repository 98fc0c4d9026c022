import { type AluaState, isAluaUsable, type TargetPortGroup, type TargetPortGroups } from "../scsi/alua.js";

/** Of a path that takes no requests in its access state. */
export const NO_TIER = Number.POSITIVE_INFINITY;

const tiers: readonly AluaState[] = ["active-optimized", "active-non-optimized", "lba-dependent"];

/**
 * Which paths go before which: those of the lowest tier are used while there is one. A unit without access states
 * (undefined) has only best paths.
 */
export function accessTier(state: AluaState | undefined): number {
  if (state === undefined) return 0;
  return isAluaUsable(state) ? tiers.indexOf(state) : NO_TIER;
}

/** The access states of the unit as reported last. They belong to the unit, so any path may bring them. */
export class AccessStates {
  #groups: ReadonlyMap<number, TargetPortGroup> = new Map();

  /** Undefined where the unit has no such group, or did not report it. */
  group(portGroup: number | undefined): TargetPortGroup | undefined {
    return portGroup === undefined ? undefined : this.#groups.get(portGroup);
  }

  update({ groups }: TargetPortGroups): void {
    this.#groups = new Map(groups.map((group) => [group.group, group]));
  }
}
