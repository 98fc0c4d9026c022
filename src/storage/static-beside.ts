import {
  type BackendCapabilities,
  type BackendVolume,
  type Initiator,
  type StorageBackend,
  type VolumeAccess,
  type VolumePage,
  type VolumeSpec,
} from "./backend.js";
import { hasStaticAttributes } from "./static-attributes.js";
import type { StaticBackend } from "./static-backend.js";

type TextMap = Readonly<Record<string, string>>;

/**
 * A backend that makes volumes, and beside it the volumes of arrays that an administrator set up: a PersistentVolume
 * that names a target of its own works whatever else the controller provisions. Volumes the main backend knows are
 * always its own, whatever their context says; everything but access is the main backend's.
 */
export class StaticBeside implements StorageBackend {
  readonly name: string;
  readonly capabilities: BackendCapabilities;
  readonly #main: StorageBackend;
  readonly #static: StaticBackend;

  /** Owns both: `close` closes them. */
  constructor(main: StorageBackend, staticVolumes: StaticBackend) {
    this.name = main.name;
    this.capabilities = main.capabilities;
    this.#main = main;
    this.#static = staticVolumes;
  }

  probe(): Promise<void> {
    return this.#main.probe();
  }

  capacityBytes(parameters: TextMap): Promise<number> {
    return this.#main.capacityBytes(parameters);
  }

  create(spec: VolumeSpec): Promise<BackendVolume> {
    return this.#main.create(spec);
  }

  /** A static volume's LUN is the administrator's: nothing of it is deleted. */
  delete(id: string): Promise<void> {
    return this.#main.delete(id);
  }

  get(id: string): Promise<BackendVolume | undefined> {
    return this.#main.get(id);
  }

  async exists(id: string, context: TextMap): Promise<boolean> {
    return (await this.#owner(id, context)).exists(id, context);
  }

  list(maxEntries: number, token: string): Promise<VolumePage> {
    return this.#main.list(maxEntries, token);
  }

  expand(id: string, requiredBytes: number, limitBytes: number): Promise<number> {
    return this.#main.expand(id, requiredBytes, limitBytes);
  }

  async grant(id: string, initiator: Initiator, context: TextMap): Promise<VolumeAccess> {
    return (await this.#owner(id, context)).grant(id, initiator, context);
  }

  /** A static volume's access list is the array's: for one the main backend does not know there is nothing to do. */
  revoke(id: string, initiatorIqn: string): Promise<void> {
    return this.#main.revoke(id, initiatorIqn);
  }

  async close(): Promise<void> {
    await this.#static.close();
    await this.#main.close();
  }

  async #owner(id: string, context: TextMap): Promise<StorageBackend> {
    if (!hasStaticAttributes(context)) return this.#main;
    return (await this.#main.get(id)) === undefined ? this.#static : this.#main;
  }
}
