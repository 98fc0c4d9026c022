import { chmod, mkdir, open, readdir, readFile, rename, rm, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { errorCode, errorMessage } from "../base/errors.js";
import { MAX_VOLUME_METADATA_BYTES } from "../base/limits.js";
import type { Logger } from "../base/logger.js";
import type { Random } from "../base/random.js";
import { generateSealingKeyPair, sealingKeyPairFromPrivate, type SealingKeyPair } from "../base/sealing.js";
import { Secret } from "../base/secret.js";
import { FileDevice } from "../block/file-device.js";
import { localIdentity } from "../block/local-identity.js";
import { createFileDurably, syncDirectory, writeFileDurably } from "../host/durable-file.js";
import { StorageError } from "./backend.js";
import { decodeMetadata, encodeMetadata } from "./volume-metadata.js";
import type { StoredVolume, VolumeDevice, VolumeStore } from "./volume-store.js";

export interface FileStoreDependencies {
  readonly random: Random;
  readonly logger: Logger;
}

const METADATA_FILE = "volume.json";
const DISK_FILE = "disk.img";
const DELETING_PREFIX = ".deleting-";

/**
 * Volumes as sparse files:
 *
 *     DIR/store.key                  X25519 private key that opens the CHAP secrets of grants; mode 0600
 *     DIR/volumes/ID/disk.img        the blocks
 *     DIR/volumes/ID/volume.json     the metadata; a volume exists when this does
 *     DIR/volumes/.deleting-ID       on its way out
 *
 * A folder without volume.json is a creation that a crash cut short: nobody was told of it, so it goes at the next
 * start. A volume.json that cannot be read is left alone and reported: its blocks may be somebody's data.
 */
export class FileStore implements VolumeStore {
  readonly #directory: string;
  readonly #volumes: string;
  readonly #dependencies: FileStoreDependencies;
  #keyPair: SealingKeyPair | undefined;

  constructor(options: { readonly directory: string }, dependencies: FileStoreDependencies) {
    this.#directory = options.directory;
    this.#volumes = join(options.directory, "volumes");
    this.#dependencies = dependencies;
  }

  async open(): Promise<readonly StoredVolume[]> {
    return this.#guard("open the store", async () => {
      await mkdir(this.#volumes, { recursive: true, mode: 0o700 });
      this.#keyPair = await this.#loadKey();
      const volumes: StoredVolume[] = [];
      for (const name of (await readdir(this.#volumes)).sort()) {
        const volume = await this.#recover(name);
        if (volume !== undefined) volumes.push(volume);
      }
      return volumes;
    });
  }

  async create(volume: StoredVolume): Promise<void> {
    await this.#guard(`create volume ${volume.id}`, async () => {
      const folder = this.#folder(volume.id);
      await mkdir(folder, { mode: 0o700 });
      try {
        await this.#makeBlocks(folder, volume.sizeBytes);
        await this.#writeMetadata(volume);
        await syncDirectory(this.#volumes);
      } catch (error) {
        await rm(folder, { recursive: true, force: true });
        throw error;
      }
    });
  }

  async update(volume: StoredVolume): Promise<void> {
    await this.#guard(`record volume ${volume.id}`, () => this.#writeMetadata(volume));
  }

  async delete(id: string): Promise<void> {
    await this.#guard(`delete volume ${id}`, async () => {
      const doomed = join(this.#volumes, DELETING_PREFIX + id);
      try {
        // The rename is the moment of deletion; what a crash leaves after it goes at the next start.
        await rename(this.#folder(id), doomed);
      } catch (error) {
        if (errorCode(error) !== "ENOENT") throw error;
      }
      await syncDirectory(this.#volumes);
      await rm(doomed, { recursive: true, force: true });
    });
  }

  async openDevice(volume: StoredVolume): Promise<VolumeDevice> {
    return this.#guard(`open volume ${volume.id}`, async () => {
      const device = await FileDevice.open({
        path: join(this.#folder(volume.id), DISK_FILE),
        logicalBlockBytes: volume.logicalBlockBytes,
        identity: localIdentity(volume.id),
      });
      // Growing writes the metadata first: a crash between leaves the file the shorter of the two.
      if (device.info.sizeBytes < volume.sizeBytes) await device.resize(volume.sizeBytes);
      return device;
    });
  }

  async freeBytes(): Promise<number> {
    return this.#guard("read the free space", async () => {
      const { bavail, bsize } = await statfs(this.#volumes);
      return bavail * bsize;
    });
  }

  #folder(id: string): string {
    // Ids are made by the backend, but one read from a request must never name another place.
    if (!/^[a-z0-9][a-z0-9-]{0,127}$/.test(id)) throw new StorageError("STORAGE_INVALID", `"${id}" is no volume id`);
    return join(this.#volumes, id);
  }

  async #makeBlocks(folder: string, sizeBytes: number): Promise<void> {
    const file = await open(join(folder, DISK_FILE), "wx", 0o600);
    try {
      await file.truncate(sizeBytes);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  async #writeMetadata(volume: StoredVolume): Promise<void> {
    await writeFileDurably(
      join(this.#folder(volume.id), METADATA_FILE),
      encodeMetadata(volume, this.#requireKey(), this.#dependencies),
    );
  }

  async #recover(name: string): Promise<StoredVolume | undefined> {
    const folder = join(this.#volumes, name);
    const { logger } = this.#dependencies;
    if (name.startsWith(DELETING_PREFIX)) {
      await rm(folder, { recursive: true, force: true });
      return undefined;
    }
    const path = join(folder, METADATA_FILE);
    try {
      if ((await stat(path)).size > MAX_VOLUME_METADATA_BYTES) {
        throw new StorageError("STORAGE_FAILED", `it is larger than ${MAX_VOLUME_METADATA_BYTES} bytes`);
      }
      const volume = decodeMetadata(await readFile(path, "utf8"), this.#requireKey());
      if (volume.id !== name) throw new StorageError("STORAGE_FAILED", `it says it is of volume ${volume.id}`);
      return volume;
    } catch (error) {
      if (errorCode(error) === "ENOENT") {
        logger.warn("removing a volume whose creation was cut short", { path: folder });
        await rm(folder, { recursive: true, force: true });
      } else if (errorCode(error) !== "ENOTDIR") {
        logger.error("the metadata of a volume cannot be read; it is not exported, its blocks are kept", {
          path,
          reason: errorMessage(error),
        });
      }
      return undefined;
    }
  }

  /** The key is never made anew by itself: what was sealed to a lost one would be lost without a word. */
  async #loadKey(): Promise<SealingKeyPair> {
    const path = join(this.#directory, "store.key");
    const fresh = generateSealingKeyPair(this.#dependencies.random);
    if (await createFileDurably(path, fresh.privateKey.reveal())) return fresh;
    await chmod(path, 0o600);
    return sealingKeyPairFromPrivate(Secret.from(await readFile(path)));
  }

  #requireKey(): SealingKeyPair {
    if (this.#keyPair === undefined) throw new StorageError("STORAGE_FAILED", "the store was not opened");
    return this.#keyPair;
  }

  async #guard<T>(action: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof StorageError) throw error;
      const code = errorCode(error);
      throw new StorageError(
        code === "ENOSPC" || code === "EDQUOT" ? "STORAGE_NO_SPACE" : "STORAGE_FAILED",
        `cannot ${action} in ${this.#directory}: ${errorMessage(error)}`,
        { cause: error },
      );
    }
  }
}
