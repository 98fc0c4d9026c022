import type { ChapCredentials, DigestChoice, PortalAddress } from "../base/access.js";
import type { ReservationStatus } from "../initiator/reservation-status.js";
import type { VolumeConnectionStatus, VolumeSessionStatus } from "../initiator/session-status.js";
import type { InitiatorSettings } from "../initiator/settings.js";
import type { PathPolicy } from "../multipath/path-policy.js";
import type { MultipathStatus, PathChange } from "../multipath/status.js";
import type { ConnectionPolicy } from "../session/connection-policy.js";

export type AttachBackend = "nbd" | "fuse";

/** Everything the dataplane must know to give a volume a block device on this node. */
export interface AttachRequest {
  readonly volumeHandle: string;
  readonly portals: readonly PortalAddress[];
  readonly targetName: string;
  readonly lun: number;
  /** The identity the device must show (`naa.…`); empty: learned at first attach, demanded afterwards. */
  readonly expectedId: string;
  readonly isReadOnly: boolean;
  /** May other nodes write to it at the same time, who agree among themselves? Default no. */
  readonly isShared?: boolean;
  readonly headerDigest: DigestChoice;
  readonly dataDigest: DigestChoice;
  readonly chap?: ChapCredentials;
  /**
   * Names the grant under which this node may use the volume; empty when grants are not the controller's. A volume
   * that is still attached under another one was given to others in between: what it has not written is never written.
   */
  readonly publicationId: string;
  /** Where the initiator shall not go by its defaults. They hold until the volume is detached. */
  readonly settings?: InitiatorSettings;
  /** Which way the kernel gets the device; by default what the host has, nbd first. */
  readonly backend?: AttachBackend;
}

export interface AttachedVolume {
  readonly volumeHandle: string;
  /** `/dev/nbdN` or `/dev/loopN` now: use it at once, never store it. */
  readonly devicePath: string;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  readonly backend: AttachBackend;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  readonly isReadOnly: boolean;
  /** Identity as read from the device. */
  readonly deviceId: string;
  /** Grows with every attach of this volume on this node. */
  readonly generation: number;
  /** Did this volume ever carry a file system that was mounted here? Kept in the record; it is never formatted then. */
  readonly wasFormatted: boolean;
}

export type VolumeState = "attaching" | "attached" | "reconnecting" | "detaching" | "failed";

/** One session of a volume, and one connection of it. */
export type { VolumeConnectionStatus as ConnectionStatus, VolumeSessionStatus as SessionStatus };

/** A connection that a session shall have beside those it has. */
export interface AddedConnection {
  /** In the portal group of the session. */
  readonly portal: PortalAddress;
  /** For `weighted-path`: the lowest is used first; default 0. */
  readonly weight?: number;
  /** For `round-robin-subset`: used only while no active connection is alive; default no. */
  readonly isStandby?: boolean;
}

/** What an operator wants of one path: in or out of service, or another weight or role. */
export type AskedPathChange = { readonly action: "fail" | "restore" } | PathChange;

export interface VolumeStatus {
  readonly volume: AttachedVolume | undefined;
  readonly volumeHandle: string;
  readonly state: VolumeState;
  readonly reason: string;
  readonly sessions: readonly VolumeSessionStatus[];
  /** Of a volume with several paths. */
  readonly multipath?: MultipathStatus;
  /** Of a volume from which writers of other nodes are kept away. */
  readonly reservation?: ReservationStatus;
}

export interface DataplaneEvent {
  readonly timeMs: number;
  readonly volumeHandle: string;
  readonly kind: string;
  readonly message: string;
}

/** How a volume of this node stands. */
export interface VolumeCondition {
  readonly volumeHandle: string;
  readonly state: VolumeState;
  /** Why it is not in order: the code of the error; empty when it is, or when no error says it. */
  readonly code: string;
  /** The same for people; empty when it is in order. Holds no secret. */
  readonly reason: string;
  readonly targetName: string;
  /** Empty while the kernel has no device of it through this process. */
  readonly backend: AttachBackend | "";
  /** Size of the device as the kernel has it; 0 while there is none. */
  readonly deviceBytes: number;
  /** Size of the LUN as the target said last; 0 while there is no device. */
  readonly lunBytes: number;
  /** Paths that carry requests, or would if the policy chose them; 0 unless there are several, like the next. */
  readonly pathsUp: number;
  /** Those of the plan, without those that an operator took out of service. */
  readonly pathsTotal: number;
  /** The others of them. */
  readonly pathsMissing: readonly MissingPath[];
}

/** A path that should carry requests and does not. */
export interface MissingPath {
  readonly id: string;
  /** Why, for people: what is there may be bound to change. */
  readonly reason: string;
  /** What is behind it is not the volume, or must not be used. */
  readonly isRefused: boolean;
}

export type NodeConditionKind =
  /** The dataplane could not protect itself from a shortage of memory. */
  | "protection-missing"
  /** A volume record cannot be used. */
  | "record-damaged"
  /** A device of ours has no record, but is in use. */
  | "orphan-in-use";

/** Something of the node itself that an operator should know. */
export interface NodeCondition {
  readonly kind: NodeConditionKind;
  /** Tells several of one kind apart: a measure, a file, a device. */
  readonly subject: string;
  readonly message: string;
}

export interface ConditionUpdate {
  /** These are all volumes: one that is not among them is not here. */
  readonly isComplete: boolean;
  /** How the volumes stand that changed. */
  readonly volumes: readonly VolumeCondition[];
  /** Volumes that are not this node's any more. */
  readonly gone: readonly string[];
  /** Always all of them. */
  readonly node: readonly NodeCondition[];
}

/**
 * The control interface of the dataplane: served over gRPC on a unix socket (proto/hawser/dataplane/v1), implemented
 * in process by VolumeManager and remotely by DataplaneClient. Every call can be repeated; errors are AppErrors.
 */
export interface DataplaneApi {
  /** Attaches or returns what is attached. Code VOLUME_MISMATCH when attached with other parameters. */
  attach(request: AttachRequest, signal?: AbortSignal): Promise<AttachedVolume>;
  /** Detaches; no error when it is not attached. Code DEVICE_BUSY names the holders. */
  detach(volumeHandle: string, signal?: AbortSignal): Promise<void>;
  /** Reads the capacity again and makes the device as large as the LUN. */
  resize(volumeHandle: string, signal?: AbortSignal): Promise<AttachedVolume>;
  /** Records that the volume carries a file system from now on: before it is first mounted. */
  markFormatted(volumeHandle: string, fsType: string): Promise<void>;
  /**
   * How the commands of an attached volume are spread over its connections: from the next command on, and kept until it
   * is detached.
   */
  setConnectionPolicy(volumeHandle: string, policy: ConnectionPolicy): Promise<void>;
  /**
   * One more connection for the session of an attached volume; resolves with its CID. Asked twice, it adds two. It is gone when the volume is
   * detached or the dataplane restarted: the setting `connections` is what lasts.
   */
  addConnection(volumeHandle: string, connection: AddedConnection): Promise<number>;
  /** Takes a connection out of service in order; never the last. */
  removeConnection(volumeHandle: string, cid: number): Promise<void>;
  /**
   * How the requests of an attached volume are spread over its paths: from the next request on, and kept until it is
   * detached. Code VOLUME_NOT_MULTIPATH when it has one session alone, like changePath.
   */
  setPathPolicy(volumeHandle: string, policy: PathPolicy): Promise<void>;
  /** Changes one path until the volume is detached or the dataplane restarted. Codes MULTIPATH_… of the paths. */
  changePath(volumeHandle: string, pathId: string, change: AskedPathChange): Promise<void>;
  get(volumeHandle: string): Promise<VolumeStatus | undefined>;
  list(): Promise<readonly VolumeStatus[]>;
  /** Events from now on, until the signal aborts. */
  watch(signal: AbortSignal): AsyncIterable<DataplaneEvent>;
  /**
   * How all volumes stand now, then what changes, until the signal aborts. Changes that follow each other quickly may
   * be told as one. A remote dataplane that goes away ends it with DATAPLANE_UNREACHABLE or DATAPLANE_STOPPING; asked
   * again, it begins with everything.
   */
  watchVolumes(signal: AbortSignal): AsyncIterable<ConditionUpdate>;
}
