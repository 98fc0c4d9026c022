import type { ChapCredentials, PortalAddress } from "../base/access.js";
import { AppError } from "../base/errors.js";

export type StorageErrorCode =
  | "STORAGE_NOT_FOUND"
  /** The name exists with other properties. */
  | "STORAGE_ALREADY_EXISTS"
  | "STORAGE_NO_SPACE"
  | "STORAGE_INVALID"
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
}

/** What CreateVolume asks. `name` is the idempotency key. */
export interface VolumeSpec {
  readonly name: string;
  readonly requiredBytes: number;
  /** 0: no limit. */
  readonly limitBytes: number;
  /** StorageClass parameters that are the backend's own. */
  readonly parameters: Readonly<Record<string, string>>;
}

export interface BackendVolume {
  /** The backend's id, at most 128 bytes; stable for the life of the volume. */
  readonly id: string;
  readonly name: string;
  readonly sizeBytes: number;
  /** IQNs it is granted to now. */
  readonly grantedTo: readonly string[];
  /** What CreateVolume hands to Kubernetes as volume context; never a secret. */
  readonly context: Readonly<Record<string, string>>;
}

export interface Initiator {
  readonly iqn: string;
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
  /** STORAGE_INVALID for a token this backend did not give. */
  list(maxEntries: number, token: string): Promise<VolumePage>;
  /** Grows to exactly `requiredBytes` rounded up to the block; never shrinks. Returns the size. */
  expand(id: string, requiredBytes: number, limitBytes: number): Promise<number>;
  grant(id: string, initiator: Initiator, context: Readonly<Record<string, string>>): Promise<VolumeAccess>;
  /** Takes the access away and ends the initiator's sessions: the fence. No error when it was not granted. */
  revoke(id: string, initiatorIqn: string): Promise<void>;
  close(): Promise<void>;
}
