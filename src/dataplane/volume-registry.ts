import { MAX_VOLUME_RECORDS, MAX_VOLUMES_PER_NODE } from "../base/limits.js";
import type { ConditionBoard } from "./condition-board.js";
import { DataplaneError } from "./errors.js";
import type { DamagedRecord, RecordStore } from "./record-store.js";
import { Volume } from "./volume.js";
import { recordFileName, type VolumeRecord } from "./volume-record.js";

/** Every volume this node knows, attached or not, with its record on disk. */
export class VolumeRegistry {
  readonly #records: RecordStore;
  readonly #volumes = new Map<string, Volume>();
  readonly #conditions: ConditionBoard;
  #damaged: readonly DamagedRecord[] = [];

  constructor(dependencies: { readonly records: RecordStore; readonly conditions: ConditionBoard }) {
    this.#records = dependencies.records;
    this.#conditions = dependencies.conditions;
  }

  /** Reads the records. To be called once, before anything else. */
  async load(): Promise<void> {
    const { records, damaged } = await this.#records.load();
    this.#damaged = damaged;
    for (const record of records) {
      const volume = this.#newVolume(record.volumeHandle);
      volume.record = record;
      this.#volumes.set(record.volumeHandle, volume);
    }
  }

  get damaged(): readonly DamagedRecord[] {
    return this.#damaged;
  }

  get(volumeHandle: string): Volume | undefined {
    return this.#volumes.get(volumeHandle);
  }

  all(): readonly Volume[] {
    return [...this.#volumes.values()];
  }

  /** The volume, made known when it is not. Throws VOLUME_LIMIT. */
  take(volumeHandle: string): Volume {
    const known = this.#volumes.get(volumeHandle);
    if (known !== undefined) return known;
    const inUse = this.all().filter((volume) => volume.state !== "detached").length;
    if (inUse >= MAX_VOLUMES_PER_NODE) {
      throw new DataplaneError(
        "VOLUME_LIMIT",
        `this node has ${inUse} volumes, as many as it takes; volume ${volumeHandle} must go to another node`,
      );
    }
    const volume = this.#newVolume(volumeHandle);
    this.#volumes.set(volumeHandle, volume);
    return volume;
  }

  /** Forgets a volume that never got as far as a record. */
  dropIfUnused(volume: Volume): void {
    if (volume.record === undefined && volume.state === "detached" && !volume.mutex.isBusy) {
      this.#volumes.delete(volume.handle);
    }
  }

  /** Writes the record, then shows it: what memory says was on stable storage first. */
  async save(volume: Volume, record: VolumeRecord): Promise<void> {
    if (volume.record === undefined) await this.#makeRoom();
    await this.#records.save(record);
    volume.record = record;
  }

  /** Was there a record of this volume that cannot be used now? */
  damageOf(volumeHandle: string): DamagedRecord | undefined {
    const fileName = recordFileName(volumeHandle);
    return this.#damaged.find((entry) => entry.fileName === fileName);
  }

  /** Is this ISID in use by another volume? Two sessions with one ISID at one target end each other. */
  hasIsid(isid: string): boolean {
    return this.all().some((volume) => volume.record?.isids.includes(isid) === true);
  }

  #newVolume(volumeHandle: string): Volume {
    return new Volume(volumeHandle, (volume) => {
      const condition = volume.condition();
      if (condition === undefined) this.#conditions.remove(volumeHandle);
      else this.#conditions.put(condition);
    });
  }

  async #makeRoom(): Promise<void> {
    if (this.#volumes.size < MAX_VOLUME_RECORDS) return;
    const [oldest] = this.all()
      .filter((volume) => volume.state === "detached" && volume.record?.phase === "detached" && !volume.mutex.isBusy)
      .sort((a, b) => (a.record?.updatedAtMs ?? 0) - (b.record?.updatedAtMs ?? 0));
    if (oldest === undefined) return;
    this.#volumes.delete(oldest.handle);
    await this.#records.remove(oldest.handle);
  }
}
