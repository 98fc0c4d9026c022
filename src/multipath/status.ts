import type { AluaState } from "../scsi/alua.js";
import type { PathPolicy } from "./path-policy.js";

export type PathState =
  /** Carries requests, or would if the policy chose it. */
  | "up"
  /** Was never up yet. */
  | "connecting"
  /** Was up, and is looked for. */
  | "down"
  /** Connected, but a request or a check over it failed: looked at before it is used again. */
  | "suspect"
  /** Up again, but it has come and gone so often that it is left alone for a while. */
  | "damped"
  /** What is behind it is not the volume. */
  | "refused"
  /** Taken out of service by an operator. */
  | "failed";

/** One path as a table shows it. */
export interface PathStatus {
  readonly id: string;
  readonly state: PathState;
  /** Why it is not up; empty when it is. */
  readonly reason: string;
  /** May the policy choose it now: up, with an access state that takes requests, and not left out by role? */
  readonly isChosen: boolean;
  readonly isStandby: boolean;
  readonly weight: number;
  /** Place in the plan; 0 is preferred. */
  readonly rank: number;
  /** Undefined where the unit has no such states. */
  readonly accessState: AluaState | undefined;
  readonly portGroup: number | undefined;
  readonly requestsInFlight: number;
  readonly bytesInFlight: number;
  readonly readOperations: number;
  readonly writeOperations: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  /** Of the last seconds; 0 when idle. */
  readonly bytesPerSecond: number;
  /** Requests that ended with an error over this path and went to another. */
  readonly errors: number;
  /** Times it went down. */
  readonly failures: number;
  /** The last thing that happened to it, for people; empty before anything did. */
  readonly lastEvent: string;
  /** Milliseconds since 1970; 0 before anything happened. */
  readonly lastEventTimeMs: number;
}

export interface MultipathStatus {
  readonly policy: PathPolicy;
  /** Requests that wait because no path can carry them. */
  readonly heldRequests: number;
  readonly paths: readonly PathStatus[];
}

export type PathEventKind =
  | "path-added"
  | "path-up"
  | "path-down"
  | "path-refused"
  | "path-suspect"
  | "path-damped"
  | "path-failed-by-operator"
  | "path-restored-by-operator"
  | "path-removed"
  | "access-state-changed"
  | "access-state-set"
  | "active-path-changed"
  | "capacity-disagrees"
  | "no-path"
  | "path-available"
  | "no-path-timeout";

/** Something happened to the paths of a volume. `pathId` is empty for what concerns all of them. */
export interface PathEvent {
  readonly kind: PathEventKind;
  readonly pathId: string;
  /** For people; holds no secret. */
  readonly message: string;
}

/** The paths of a volume, for those who look at them and change them. */
export interface PathControl {
  status(): MultipathStatus;
  /** From the next request on. */
  setPolicy(policy: PathPolicy): void;
  /** Takes a path out of service; its requests end first. Throws MULTIPATH_PATH_UNKNOWN, MULTIPATH_LAST_PATH. */
  failPath(pathId: string): void;
  /** Puts it back. Throws MULTIPATH_PATH_UNKNOWN. */
  restorePath(pathId: string): void;
  /** Another weight or role from the next request on. Throws MULTIPATH_PATH_UNKNOWN. */
  changePath(pathId: string, change: PathChange): void;
  onPathEvent(listener: (event: PathEvent) => void): () => void;
}

export interface PathChange {
  readonly weight?: number;
  readonly isStandby?: boolean;
}
