import type { Logger } from "../base/logger.js";
import {
  StorageError,
  type BackendCapabilities,
  type BackendVolume,
  type Initiator,
  type StorageBackend,
  type VolumeAccess,
  type VolumePage,
} from "./backend.js";
import { decodePageToken } from "./page-token.js";
import { parseStaticAttributes } from "./static-attributes.js";

/**
 * Any array, set up by its administrator: volumes are described by the attributes of their PersistentVolumes, and who
 * may log in is the array's business. Keeps no state and talks to nobody.
 */
export class StaticBackend implements StorageBackend {
  readonly name = "static";
  readonly capabilities: BackendCapabilities = {
    canCreate: false,
    canExpand: false,
    canList: false,
    reportsCapacity: false,
    keepsState: false,
  };
  readonly #logger: Logger;

  constructor(dependencies: { readonly logger: Logger }) {
    this.#logger = dependencies.logger;
  }

  probe(): Promise<void> {
    return Promise.resolve();
  }

  capacityBytes(): Promise<number> {
    return Promise.reject(notSupported("tell its free space"));
  }

  create(): Promise<BackendVolume> {
    return Promise.reject(
      notSupported("create volumes; create a PersistentVolume with the array's portals, IQN and LUN"),
    );
  }

  /** There is nothing here to delete: the LUN is the administrator's. */
  delete(): Promise<void> {
    return Promise.resolve();
  }

  get(): Promise<BackendVolume | undefined> {
    return Promise.resolve(undefined);
  }

  exists(): Promise<boolean> {
    return Promise.resolve(true);
  }

  list(_maxEntries: number, token: string): Promise<VolumePage> {
    decodePageToken(token);
    return Promise.resolve({ volumes: [], nextToken: "" });
  }

  expand(): Promise<number> {
    return Promise.reject(notSupported("grow volumes; grow the LUN on the array, the node follows"));
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- what the parser throws must be a rejection
  async grant(id: string, initiator: Initiator, context: Readonly<Record<string, string>>): Promise<VolumeAccess> {
    const { portals, targetName, lun, deviceId, initiatorName } = parseStaticAttributes(context);
    if (initiatorName !== undefined && initiatorName !== initiator.iqn) {
      this.#logger.warn("volume attribute initiatorName is not used: a node logs in under one name", {
        volumeId: id,
        attribute: initiatorName,
        initiator: initiator.iqn,
      });
    }
    return { portals, targetName, lun, deviceId };
  }

  /** The array's access list is not ours to change. */
  revoke(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

function notSupported(what: string): StorageError {
  return new StorageError("STORAGE_NOT_SUPPORTED", `the static backend does not ${what}`);
}
