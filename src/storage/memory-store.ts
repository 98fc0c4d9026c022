import { localIdentity } from "../block/local-identity.js";
import { MemoryDevice } from "../block/memory-device.js";
import { StorageError } from "./backend.js";
import type { StoredVolume, VolumeDevice, VolumeStore } from "./volume-store.js";

/**
 * Volumes that live as long as the process: for trying things out and for tests. Devices survive `close`, so that a
 * backend opened again over the same store finds its data.
 */
export class MemoryStore implements VolumeStore {
  readonly #capacityBytes: number;
  readonly #volumes = new Map<string, { stored: StoredVolume; device: VolumeDevice | undefined }>();

  constructor(options: { readonly capacityBytes: number }) {
    this.#capacityBytes = options.capacityBytes;
  }

  open(): Promise<readonly StoredVolume[]> {
    return Promise.resolve([...this.#volumes.values()].map(({ stored }) => stored));
  }

  create(volume: StoredVolume): Promise<void> {
    this.#volumes.set(volume.id, { stored: volume, device: undefined });
    return Promise.resolve();
  }

  update(volume: StoredVolume): Promise<void> {
    const entry = this.#volumes.get(volume.id);
    if (entry === undefined) return Promise.reject(missing(volume.id));
    entry.stored = volume;
    return Promise.resolve();
  }

  delete(id: string): Promise<void> {
    this.#volumes.delete(id);
    return Promise.resolve();
  }

  async openDevice(volume: StoredVolume): Promise<VolumeDevice> {
    const entry = this.#volumes.get(volume.id);
    if (entry === undefined) throw missing(volume.id);
    const { id, serial } = localIdentity(volume.id);
    entry.device ??= new MemoryDevice({
      sizeBytes: volume.sizeBytes,
      logicalBlockBytes: volume.logicalBlockBytes,
      id,
      serial,
    });
    if (entry.device.info.sizeBytes < volume.sizeBytes) await entry.device.resize(volume.sizeBytes);
    return keptOpen(entry.device);
  }

  /** The sizes of all volumes taken from the capacity: what is in memory cannot be thin for long. */
  freeBytes(): Promise<number> {
    const usedBytes = [...this.#volumes.values()].reduce((sum, { stored }) => sum + stored.sizeBytes, 0);
    return Promise.resolve(Math.max(0, this.#capacityBytes - usedBytes));
  }
}

/** The device, but for `close`, which would lose the data. */
function keptOpen(device: VolumeDevice): VolumeDevice {
  return {
    get info() {
      return device.info;
    },
    read: (offsetBytes, target) => device.read(offsetBytes, target),
    write: (offsetBytes, source, options) => device.write(offsetBytes, source, options),
    flush: () => device.flush(),
    unmap: (ranges) => device.unmap(ranges),
    writeZeroes: (range, options) => device.writeZeroes(range, options),
    blockStatus: (range) => device.blockStatus(range),
    onEvent: (listener) => device.onEvent(listener),
    resize: (sizeBytes) => device.resize(sizeBytes),
    close: () => Promise.resolve(),
  };
}

function missing(id: string): StorageError {
  return new StorageError("STORAGE_NOT_FOUND", `there is no volume ${id} in memory`);
}
