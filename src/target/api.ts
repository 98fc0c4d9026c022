import type { ChapCredentials, PortalAddress } from "../base/access.js";
import type { BlockDevice } from "../block/device.js";
import type { AluaState } from "../scsi/alua.js";
import type { RecoveryTally } from "./recovery-tally.js";

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
  /** Sends initiators elsewhere: see `TargetServerControl.setRedirect`. */
  readonly redirect?: TargetRedirect;
  /**
   * Which portals of the server discovery tells of: all of them where nothing is said. With a portal bound to every
   * interface, the addresses to tell.
   */
  readonly advertisedPortals?: readonly PortalAddress[];
  /** SET TARGET PORT GROUPS is served: initiators may change the access states (SPC-5 §5.18). False by default. */
  readonly explicitAccessStates?: boolean;
}

/** A portal of the server, and the portal group it belongs to (RFC 7143 §4.2.7.1): 1 where nothing is said. */
export interface TargetPortal extends PortalAddress {
  readonly portalGroupTag?: number;
}

interface RedirectTerms {
  readonly kind: "temporary" | "permanent";
  /** Tell only initiators that have proved themselves; else whoever asks is told at once. */
  readonly isAfterAuthentication?: boolean;
}

/** A target that has moved (RFC 7143 §11.13.5): new sessions are sent elsewhere, connections that join are not. */
export type TargetRedirect = RedirectTerms &
  (
    | {
        /** Where every new session is sent, whichever portal it comes to. */
        readonly portal: PortalAddress;
        readonly portals?: undefined;
      }
    | {
        /**
         * Further interfaces of the target, as addresses: new sessions are spread over them one after the other. Those
         * that come to one of them are taken there.
         */
        readonly portals: readonly PortalAddress[];
        readonly choose: "in-turn";
        readonly portal?: undefined;
      }
  );

/** Connections of a target: all that fit every field given. */
export interface ConnectionSelector {
  readonly initiatorName?: string;
  readonly tsih?: number;
  readonly cid?: number;
}

/** What a vendor's Asynchronous Message says (RFC 7143 §11.9.1, events 248 to 255). Numbers left out are 0. */
export interface VendorEvent {
  /** 255 where nothing is said. */
  readonly asyncEvent?: number;
  readonly asyncVCode: number;
  readonly parameter1?: number;
  readonly parameter2?: number;
  readonly parameter3?: number;
  readonly data?: Buffer;
}

export interface TargetConnectionStatus {
  readonly cid: number;
  readonly remoteAddress: string;
  /** `recovering` after a logout for recovery, `lost` without one (above error recovery level 0). */
  readonly state: "logged-in" | "lost" | "recovering";
}

export interface TargetSessionStatus {
  readonly targetName: string;
  readonly initiatorName: string;
  readonly isid: string;
  readonly tsih: number;
  /** Of the oldest connection; empty while there is none. */
  readonly remoteAddress: string;
  readonly portalGroupTag: number;
  readonly errorRecoveryLevel: 0 | 1 | 2;
  readonly connections: readonly TargetConnectionStatus[];
}

/**
 * The embedded target: several portals, several targets. Implemented by target/target-server.ts. All changes take
 * effect while sessions run: a target added answers at once, a removed rule ends that initiator's sessions, a grown
 * device raises CAPACITY DATA HAS CHANGED.
 *
 * Methods that name a target throw TARGET_NOT_FOUND when there is none.
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
  /** Ends everything; with a time limit above 0 after asking every initiator to log out in that time (event 1). */
  stop(options?: { readonly timeLimitSeconds?: number }): Promise<void>;
}

/** A target server that also speaks to its initiators of its own accord, and tells what it repaired. */
export interface TargetServerControl extends TargetServer {
  /** Sends new sessions elsewhere, or takes them again. Sessions that exist go on. Throws TARGET_INVALID. */
  setRedirect(name: string, redirect: TargetRedirect | undefined): void;
  /**
   * Asks for a logout of the connections (RFC 7143 §11.9.1, event 1), and drops those that are still there after
   * `timeLimitSeconds`. Resolves when they are gone.
   */
  requestLogout(name: string, request: ConnectionSelector & { readonly timeLimitSeconds: number }): Promise<void>;
  /** Drops connections: with a CID one after event 2, else all of each session after event 3. Tasks stay as the level says. */
  dropConnections(name: string, selector: ConnectionSelector): void;
  /** Asks for a negotiation on the connections (event 4). */
  requestNegotiation(name: string, request: ConnectionSelector & { readonly timeLimitSeconds: number }): void;
  /** Reports a SCSI event (event 0) to every session, once; `sense` is copied. */
  reportScsiEvent(name: string, event: { readonly lun: number; readonly sense: Buffer }): void;
  /** Sends a vendor's event on the connections; its data is copied. */
  sendVendorEvent(name: string, event: VendorEvent, selector?: ConnectionSelector): void;
  /**
   * Puts the port group of a portal group in another asymmetric access state (SPC-5 §5.18), for all units of the target.
   * Every nexus is owed ASYMMETRIC ACCESS STATE CHANGED. `isPreferred` stays as it is where nothing is said. Throws
   * TARGET_INVALID for a portal group that the server does not have, and for LBA-dependent and unknown states.
   */
  setAccessState(
    name: string,
    portalGroupTag: number,
    state: AluaState,
    options?: { readonly isPreferred?: boolean },
  ): void;
  /** What was repaired so far, over all targets. */
  recoveryTally(): Readonly<RecoveryTally>;
}
