import { createHash } from "node:crypto";
import type { PortalAddress } from "../base/access.js";
import type { Clock } from "../base/clock.js";
import { MAX_GRANTS_PER_VOLUME, MAX_LISTED_VOLUMES, MAX_VOLUME_NAME_BYTES } from "../base/limits.js";
import type { Logger } from "../base/logger.js";
import type { Random } from "../base/random.js";
import { formatSize } from "../base/size.js";
import type { AccessRule, TargetServer } from "../target/api.js";
import {
  StorageError,
  type BackendCapabilities,
  type BackendVolume,
  type Initiator,
  type StorageBackend,
  type VolumeAccess,
  type VolumePage,
  type VolumeSpec,
} from "./backend.js";
import { conflictWith, sameGrant } from "./grant-rules.js";
import { KeyedMutex } from "../base/keyed-mutex.js";
import { decodePageToken, encodePageToken } from "./page-token.js";
import { chooseSize, fitsRange } from "./volume-size.js";
import type { StoredGrant, StoredVolume, VolumeDevice, VolumeStore } from "./volume-store.js";

export interface EmbeddedBackendOptions {
  /** Portals nodes shall use; by default those the target is bound to (of no use when that is 0.0.0.0). */
  readonly advertisedPortals?: readonly PortalAddress[];
}

export interface EmbeddedBackendDependencies {
  readonly store: VolumeStore;
  /** Not started yet; the backend starts and stops it. */
  readonly target: TargetServer;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

const TARGET_PREFIX = "iqn.2026-11.dev.hawser:";
const LUN = 0;
const ID_BYTES = 12;

/** A volume that is exported: what the store has of it, and its blocks. */
interface ExportedVolume {
  readonly stored: StoredVolume;
  readonly device: VolumeDevice;
}

/**
 * Volumes of a store, exported by the embedded target: one target per volume, LUN 0, and nobody in its access list
 * but those it is granted to. What is granted is on disk before it holds and survives a restart.
 */
export class EmbeddedBackend implements StorageBackend {
  readonly name = "embedded";
  readonly capabilities: BackendCapabilities = {
    canCreate: true,
    canExpand: true,
    canList: true,
    reportsCapacity: true,
    keepsState: true,
  };
  readonly #options: EmbeddedBackendOptions;
  readonly #dependencies: EmbeddedBackendDependencies;
  readonly #volumes = new Map<string, ExportedVolume>();
  readonly #locks = new KeyedMutex();
  #isClosed = false;

  private constructor(options: EmbeddedBackendOptions, dependencies: EmbeddedBackendDependencies) {
    this.#options = options;
    this.#dependencies = dependencies;
  }

  /** Opens the store, exports every volume with its grants, then starts the target. */
  static async open(
    options: EmbeddedBackendOptions,
    dependencies: EmbeddedBackendDependencies,
  ): Promise<EmbeddedBackend> {
    const backend = new EmbeddedBackend(options, dependencies);
    try {
      for (const stored of await dependencies.store.open()) await backend.#export(stored);
      await dependencies.target.start();
    } catch (error) {
      await backend.close();
      throw error;
    }
    return backend;
  }

  async probe(): Promise<void> {
    this.#requireOpen();
    await this.#dependencies.store.freeBytes();
  }

  async capacityBytes(): Promise<number> {
    return this.#dependencies.store.freeBytes();
  }

  async create(spec: VolumeSpec): Promise<BackendVolume> {
    this.#requireOpen();
    const logicalBlockBytes = parseParameters(spec.parameters);
    if (spec.name === "" || Buffer.byteLength(spec.name) > MAX_VOLUME_NAME_BYTES) {
      throw new StorageError("STORAGE_INVALID", `a volume name has 1 to ${MAX_VOLUME_NAME_BYTES} bytes`);
    }
    const sizeBytes = chooseSize(spec);
    return this.#locks.run(`name:${spec.name}`, async () => {
      const existing = [...this.#volumes.values()].find(({ stored }) => stored.name === spec.name);
      if (existing !== undefined) return describe(acceptExisting(existing.stored, spec));
      await this.#requireSpace(sizeBytes);
      const stored: StoredVolume = {
        id: `vol-${this.#dependencies.random.bytes(ID_BYTES).toString("hex")}`,
        name: spec.name,
        sizeBytes,
        logicalBlockBytes,
        parameters: spec.parameters,
        context: spec.context,
        createdAtMs: this.#dependencies.clock.wallTimeMs(),
        grants: [],
      };
      await this.#dependencies.store.create(stored);
      try {
        await this.#export(stored);
      } catch (error) {
        // Nobody was told of it: left in the store, it would be a second volume of that name at the next try.
        await this.#dependencies.store.delete(stored.id);
        throw error;
      }
      this.#dependencies.logger.info("volume created", { volumeId: stored.id, name: stored.name, sizeBytes });
      return describe(stored);
    });
  }

  async delete(id: string): Promise<void> {
    await this.#locks.run(id, async () => {
      const volume = this.#volumes.get(id);
      if (volume === undefined) return;
      if (volume.stored.grants.length > 0) {
        const holders = volume.stored.grants.map((grant) => grant.iqn).join(", ");
        throw new StorageError("STORAGE_BUSY", `volume ${id} is granted to ${holders}; unpublish it first`);
      }
      // The store first: from here on a restart forgets the volume, and a repeated call does the rest.
      await this.#dependencies.store.delete(id);
      await this.#dependencies.target.removeTarget(targetName(id));
      await volume.device.close();
      this.#volumes.delete(id);
      this.#dependencies.logger.info("volume deleted", { volumeId: id });
    });
  }

  get(id: string): Promise<BackendVolume | undefined> {
    const volume = this.#volumes.get(id);
    return Promise.resolve(volume === undefined ? undefined : describe(volume.stored));
  }

  exists(id: string): Promise<boolean> {
    return Promise.resolve(this.#volumes.has(id));
  }

  list(maxEntries: number, token: string): Promise<VolumePage> {
    const after = decodePageToken(token);
    const count = maxEntries === 0 ? MAX_LISTED_VOLUMES : Math.min(maxEntries, MAX_LISTED_VOLUMES);
    const ids = [...this.#volumes.keys()].filter((id) => id > after).sort();
    const page = ids.slice(0, count);
    const last = page.at(-1);
    return Promise.resolve({
      volumes: page.flatMap((id) => {
        const volume = this.#volumes.get(id);
        return volume === undefined ? [] : [describe(volume.stored)];
      }),
      nextToken: last === undefined || ids.length <= count ? "" : encodePageToken(last),
    });
  }

  async expand(id: string, requiredBytes: number, limitBytes: number): Promise<number> {
    return this.#locks.run(id, async () => {
      const { stored, device } = this.#require(id);
      const range = { requiredBytes, limitBytes };
      if (limitBytes !== 0 && stored.sizeBytes > limitBytes) {
        throw new StorageError(
          "STORAGE_OUT_OF_RANGE",
          `volume ${id} has ${formatSize(stored.sizeBytes)}, more than the limit of ${limitBytes} bytes; volumes never shrink`,
        );
      }
      const isLargeEnough = fitsRange(stored.sizeBytes, range);
      const sizeBytes = isLargeEnough ? stored.sizeBytes : chooseSize(range);
      if (!isLargeEnough) {
        await this.#requireSpace(sizeBytes - stored.sizeBytes);
        // The metadata first: if we stop here, the next call or the next start grows the blocks to it.
        await this.#save({ ...stored, sizeBytes }, device);
      }
      if (device.info.sizeBytes >= sizeBytes) return sizeBytes;
      await device.resize(sizeBytes);
      this.#dependencies.logger.info("volume grown", { volumeId: id, sizeBytes });
      return sizeBytes;
    });
  }

  async grant(id: string, initiator: Initiator): Promise<VolumeAccess> {
    return this.#locks.run(id, async () => {
      const { stored, device } = this.#require(id);
      const standing = stored.grants.find((grant) => grant.iqn === initiator.iqn);
      if (standing !== undefined) {
        sameGrant(id, standing, initiator);
        // Once more, in case an earlier call stopped between the record and the target.
        await this.#dependencies.target.setAccess(targetName(id), accessOf(stored));
        if (standing.holder === initiator.holder) return this.#access(stored, device, standing);
        // The same initiator under a new mark: a node that was set up again and has a new key.
        const renamed = { ...standing, holder: initiator.holder };
        const grants = stored.grants.map((grant) => (grant === standing ? renamed : grant));
        return this.#access(await this.#save({ ...stored, grants }, device), device, renamed);
      }
      conflictWith(id, stored.grants, initiator);
      if (stored.grants.length >= MAX_GRANTS_PER_VOLUME) {
        throw new StorageError("STORAGE_BUSY", `volume ${id} is granted to ${stored.grants.length} initiators already`);
      }
      const grants = [...stored.grants, { ...initiator }];
      const granted = await this.#save({ ...stored, grants }, device);
      await this.#dependencies.target.setAccess(targetName(id), accessOf(granted));
      this.#dependencies.logger.info("volume granted", { volumeId: id, initiator: initiator.iqn });
      return this.#access(granted, device, initiator);
    });
  }

  async revoke(id: string, initiatorIqn: string): Promise<void> {
    await this.#locks.run(id, async () => {
      const volume = this.#volumes.get(id);
      if (volume === undefined) return;
      const grants = volume.stored.grants.filter((grant) => grant.iqn !== initiatorIqn);
      if (grants.length === volume.stored.grants.length) return;
      const revoked = { ...volume.stored, grants };
      // The sessions end before the record goes: a failure between leaves a grant to revoke again, never a way in.
      await this.#dependencies.target.setAccess(targetName(id), accessOf(revoked));
      await this.#save(revoked, volume.device);
      this.#dependencies.logger.info("volume revoked", { volumeId: id, initiator: initiatorIqn });
    });
  }

  /** Stops the target, then closes the devices. Volumes and grants stay. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#dependencies.target.stop();
    for (const { device } of this.#volumes.values()) await device.close();
    this.#volumes.clear();
  }

  async #export(stored: StoredVolume): Promise<void> {
    const device = await this.#dependencies.store.openDevice(stored);
    try {
      this.#dependencies.target.addTarget({
        name: targetName(stored.id),
        alias: stored.name,
        luns: new Map([[LUN, device]]),
        access: accessOf(stored),
      });
    } catch (error) {
      await device.close();
      throw error;
    }
    this.#volumes.set(stored.id, { stored, device });
  }

  async #save(stored: StoredVolume, device: VolumeDevice): Promise<StoredVolume> {
    await this.#dependencies.store.update(stored);
    this.#volumes.set(stored.id, { stored, device });
    return stored;
  }

  #access(stored: StoredVolume, device: VolumeDevice, grant: StoredGrant): VolumeAccess {
    return {
      portals: this.#options.advertisedPortals ?? this.#dependencies.target.portals,
      targetName: targetName(stored.id),
      lun: LUN,
      deviceId: device.info.identity.id,
      ...(grant.chap === undefined ? {} : { chap: grant.chap }),
    };
  }

  #require(id: string): ExportedVolume {
    this.#requireOpen();
    const volume = this.#volumes.get(id);
    if (volume === undefined) throw new StorageError("STORAGE_NOT_FOUND", `there is no volume ${id}`);
    return volume;
  }

  #requireOpen(): void {
    if (this.#isClosed) throw new StorageError("STORAGE_FAILED", "the embedded backend is closed");
  }

  /** Thin provisioning: sizes may add up to more than there is, but a volume that could never be filled is refused. */
  async #requireSpace(moreBytes: number): Promise<void> {
    const freeBytes = await this.#dependencies.store.freeBytes();
    if (moreBytes <= freeBytes) return;
    throw new StorageError(
      "STORAGE_NO_SPACE",
      `${formatSize(moreBytes)} are asked for and ${formatSize(freeBytes)} are free`,
    );
  }
}

/** `iqn.2026-11.dev.hawser:` and a hash: short for any id, and not to be guessed from the volume's name. */
function targetName(id: string): string {
  return TARGET_PREFIX + createHash("sha256").update(`hawser target ${id}`).digest("hex").slice(0, 32);
}

function accessOf(stored: StoredVolume): { readonly kind: "list"; readonly rules: readonly AccessRule[] } {
  return {
    kind: "list",
    rules: stored.grants.map(({ iqn, chap }) => ({ initiatorName: iqn, ...(chap === undefined ? {} : { chap }) })),
  };
}

function describe(stored: StoredVolume): BackendVolume {
  const grants = stored.grants.map(({ iqn, holder, isReadOnly, isExclusive }) => ({
    iqn,
    holder,
    isReadOnly,
    isExclusive,
  }));
  return { id: stored.id, name: stored.name, sizeBytes: stored.sizeBytes, grants, context: stored.context };
}

/** Checks the StorageClass parameters of this backend; returns the logical block size. */
function parseParameters(parameters: Readonly<Record<string, string>>): 512 | 4096 {
  for (const [key, value] of Object.entries(parameters)) {
    if (key !== "blockSize") {
      throw new StorageError("STORAGE_INVALID", `the embedded backend knows no parameter "${key}"; it knows blockSize`);
    }
    if (value !== "512" && value !== "4096") {
      throw new StorageError("STORAGE_INVALID", `parameter blockSize is "${value}"; write 512 or 4096`);
    }
  }
  return parameters["blockSize"] === "4096" ? 4096 : 512;
}

function acceptExisting(stored: StoredVolume, spec: VolumeSpec): StoredVolume {
  const sameParameters =
    sortedJson(stored.parameters) === sortedJson(spec.parameters) &&
    sortedJson(stored.context) === sortedJson(spec.context);
  if (sameParameters && fitsRange(stored.sizeBytes, spec)) return stored;
  throw new StorageError(
    "STORAGE_ALREADY_EXISTS",
    `volume "${spec.name}" exists with ${stored.sizeBytes} bytes and ${sameParameters ? "the same" : "other"} parameters`,
  );
}

function sortedJson(record: Readonly<Record<string, string>>): string {
  return JSON.stringify(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}
