import type { ChapCredentials, PortalAddress } from "../base/access.js";
import type { BlockDevice } from "../block/device.js";

/** Who may log in to a target. */
export interface AccessRule {
  readonly initiatorName: string;
  readonly chap?: ChapCredentials;
}

export interface TargetDefinition {
  readonly name: string;
  readonly alias?: string;
  /** By LUN number. The embedded target borrows the devices; it never closes them. */
  readonly luns: ReadonlyMap<number, BlockDevice>;
  /** `any`: every initiator, with `chap` if that is given; else only those listed. */
  readonly access:
    | { readonly kind: "any"; readonly chap?: ChapCredentials }
    | { readonly kind: "list"; readonly rules: readonly AccessRule[] };
}

export interface TargetSessionStatus {
  readonly targetName: string;
  readonly initiatorName: string;
  readonly isid: string;
  readonly tsih: number;
  readonly remoteAddress: string;
}

/**
 * The embedded target: several portals, several targets. Implemented by target/target-server.ts. All changes take
 * effect while sessions run: a target added answers at once, a removed rule ends that initiator's sessions, a grown
 * device raises CAPACITY DATA HAS CHANGED.
 */
export interface TargetServer {
  start(): Promise<void>;
  /** The portals as bound. */
  readonly portals: readonly PortalAddress[];
  addTarget(definition: TargetDefinition): void;
  /** Ends the sessions of the target, then forgets it. */
  removeTarget(name: string): Promise<void>;
  /** Replaces the access rules; sessions no longer allowed are ended before it resolves. */
  setAccess(name: string, access: TargetDefinition["access"]): Promise<void>;
  sessions(): readonly TargetSessionStatus[];
  stop(): Promise<void>;
}
