import type { ChapCredentials } from "../base/access.js";
import type { BlockDevice } from "../block/device.js";
import type { Grant } from "./backend.js";

/** A grant with what the target must know of it. */
export interface StoredGrant extends Grant {
  readonly chap?: ChapCredentials;
}

/** What a store keeps of a volume beside its blocks. Immutable. */
export interface StoredVolume {
  readonly id: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: 512 | 4096;
  /** As CreateVolume gave them: a second call must give the same. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly context: Readonly<Record<string, string>>;
  readonly createdAtMs: number;
  /** Oldest first. */
  readonly grants: readonly StoredGrant[];
}

/** The blocks of a volume, opened. */
export interface VolumeDevice extends BlockDevice {
  /** Grows the device; listeners see `info-changed`. */
  resize(sizeBytes: number): Promise<void> | void;
}

/**
 * Where the embedded backend keeps volumes. Each call is atomic against a crash: afterwards it has happened wholly or
 * not at all. The caller serialises calls for one id. Errors are StorageErrors.
 */
export interface VolumeStore {
  /** Makes the store ready, finishes deletions a crash cut short, and returns every volume that is whole. */
  open(): Promise<readonly StoredVolume[]>;
  /** Makes the blocks (all zero), then the metadata. */
  create(volume: StoredVolume): Promise<void>;
  /** Replaces the metadata; the size must not change here. */
  update(volume: StoredVolume): Promise<void>;
  /** Removes the metadata, then the blocks. No error when there is no such volume. */
  delete(id: string): Promise<void>;
  /** Opens the blocks, at the size the metadata has. The caller closes the device. */
  openDevice(volume: StoredVolume): Promise<VolumeDevice>;
  /** Bytes that could still be written. */
  freeBytes(): Promise<number>;
}
