import type { ChapCredentials, PortalAddress } from "../base/access.js";
import { AppError } from "../base/errors.js";

export type StorageErrorCode =
  | "STORAGE_NOT_FOUND"
  /** The name exists with other properties. */
  | "STORAGE_ALREADY_EXISTS"
  | "STORAGE_NO_SPACE"
  | "STORAGE_INVALID"
  /** A size that cannot be had: beyond a limit, or no multiple of the block fits the range. */
  | "STORAGE_OUT_OF_RANGE"
  /** A list token this backend did not give. */
  | "STORAGE_TOKEN_INVALID"
  /** In use, granted, or has dependants. */
  | "STORAGE_BUSY"
  | "STORAGE_NOT_SUPPORTED"
  | "STORAGE_FAILED";

/** What a backend fails with; csi/status-map turns the code into a gRPC status. */
export class StorageError extends AppError {
  declare readonly code: StorageErrorCode;

  constructor(code: StorageErrorCode, message: string, options: ConstructorParameters<typeof AppError>[3] = {}) {
    super("storage", code, message, options);
  }
}

export interface BackendCapabilities {
  readonly canCreate: boolean;
  readonly canExpand: boolean;
  readonly canList: boolean;
  readonly reportsCapacity: boolean;
  /**
   * Remembers volumes and grants. Where it does not (an array set up by hand), `get` finds nothing, conflicts between
   * grants are not seen, and the context given to `grant` says everything.
   */
  readonly keepsState: boolean;
}

/** What CreateVolume asks. `name` is the idempotency key. */
export interface VolumeSpec {
  readonly name: string;
  readonly requiredBytes: number;
  /** 0: no limit. */
  readonly limitBytes: number;
  /** StorageClass parameters that are the backend's own. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Kept with the volume and returned as its context; a second call with another is a conflict. Never a secret. */
  readonly context: Readonly<Record<string, string>>;
}

/** A standing grant; it outlives the process that gave it. */
export interface Grant {
  readonly iqn: string;
  readonly holder: string;
  readonly isReadOnly: boolean;
  readonly isExclusive: boolean;
}

export interface BackendVolume {
  /** The backend's id, at most 128 bytes; stable for the life of the volume. */
  readonly id: string;
  readonly name: string;
  readonly sizeBytes: number;
  /** Who it is granted to now, oldest first. */
  readonly grants: readonly Grant[];
  /** What CreateVolume hands to Kubernetes as volume context; never a secret. */
  readonly context: Readonly<Record<string, string>>;
}

export interface Initiator {
  readonly iqn: string;
  /** The caller's own mark (CSI: the node id), kept with the grant and shown in listings; at most 512 bytes. */
  readonly holder: string;
  /** The initiator only reads. The initiator itself keeps to it; asking again with another value is a conflict. */
  readonly isReadOnly: boolean;
  /** Nobody else may hold the volume at the same time. */
  readonly isExclusive: boolean;
  /** CHAP the target shall demand of this initiator, when given. */
  readonly chap?: ChapCredentials;
}

/** How a granted initiator reaches the volume. */
export interface VolumeAccess {
  readonly portals: readonly PortalAddress[];
  readonly targetName: string;
  readonly lun: number;
  /** Canonical identity (`naa.…`) or empty when the backend cannot know. */
  readonly deviceId: string;
  /** CHAP in force: the given one, or an existing one that was granted before. */
  readonly chap?: ChapCredentials;
}

export interface VolumePage {
  readonly volumes: readonly BackendVolume[];
  /** Empty at the end. */
  readonly nextToken: string;
}

/**
 * A place volumes come from. Every call is idempotent and safe to repeat after a crash; errors are StorageErrors.
 */
export interface StorageBackend {
  readonly name: string;
  readonly capabilities: BackendCapabilities;
  /** Fails when the backend cannot work now. */
  probe(): Promise<void>;
  /** Free bytes for new volumes with these parameters. */
  capacityBytes(parameters: Readonly<Record<string, string>>): Promise<number>;
  create(spec: VolumeSpec): Promise<BackendVolume>;
  /** No error when the volume does not exist. */
  delete(id: string): Promise<void>;
  get(id: string): Promise<BackendVolume | undefined>;
  /** Is there such a volume? Where no state is kept, nobody can say no: `grant` judges the context. */
  exists(id: string, context: Readonly<Record<string, string>>): Promise<boolean>;
  /** In a stable order. STORAGE_TOKEN_INVALID for a token this backend did not give; a volume gone since is no error. */
  list(maxEntries: number, token: string): Promise<VolumePage>;
  /**
   * Grows to exactly `requiredBytes` rounded up to the block; never shrinks: a volume that is larger already stays.
   * Returns the size. STORAGE_OUT_OF_RANGE when that is over `limitBytes` (0: none).
   */
  expand(id: string, requiredBytes: number, limitBytes: number): Promise<number>;
  /**
   * Lets the initiator in. Again for the same initiator: the access as it stands, with the CHAP given first.
   * STORAGE_ALREADY_EXISTS when it was granted with another `isReadOnly`; STORAGE_BUSY when another initiator holds
   * the volume and either grant is exclusive.
   */
  grant(id: string, initiator: Initiator, context: Readonly<Record<string, string>>): Promise<VolumeAccess>;
  /**
   * Takes the access away and ends the initiator's sessions before it resolves: the fence. No error when it was not
   * granted or the volume is gone.
   */
  revoke(id: string, initiatorIqn: string): Promise<void>;
  close(): Promise<void>;
}
