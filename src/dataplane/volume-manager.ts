import { setMaxListeners } from "node:events";
import { createDeferred } from "../base/deferred.js";
import { errorMessage } from "../base/errors.js";
import type { PathPolicy } from "../multipath/path-policy.js";
import type { ConnectionPolicy } from "../session/connection-policy.js";
import type {
  AddedConnection,
  AskedPathChange,
  AttachedVolume,
  AttachRequest,
  ConditionUpdate,
  DataplaneApi,
  DataplaneEvent,
  NodeConditionKind,
  VolumeStatus,
} from "./api.js";
import { checkAttachRequest, checkVolumeHandle } from "./check-request.js";
import { ConditionBoard } from "./condition-board.js";
import { cancellationOf, DataplaneError, throwIfAborted } from "./errors.js";
import { EventLog } from "./event-log.js";
import { Reconciler } from "./reconciler.js";
import type { RecordStore } from "./record-store.js";
import { addConnection, removeConnection, setConnectionPolicy } from "./volume-connections.js";
import { changePath, setPathPolicy } from "./volume-paths.js";
import type { Volume } from "./volume.js";
import {
  VolumeOperations,
  type VolumeOperationsDependencies,
  type VolumeOperationsOptions,
} from "./volume-operations.js";
import { VolumeRegistry } from "./volume-registry.js";

export interface VolumeManagerOptions extends Omit<VolumeOperationsOptions, "flushTimeoutMs"> {
  /** Default 10 s. */
  readonly flushTimeoutMs?: number;
  /** How often desired and actual state are compared; default 5 s. */
  readonly reconcileIntervalMs?: number;
}

export interface VolumeManagerDependencies extends Omit<VolumeOperationsDependencies, "registry" | "events"> {
  readonly records: RecordStore;
}

/**
 * The volumes of this node. Calls for one volume take turns, calls for several run side by side; a call that arrives
 * while the same is under way waits for it and finds its work done.
 */
export class VolumeManager implements DataplaneApi {
  readonly #registry: VolumeRegistry;
  readonly #operations: VolumeOperations;
  readonly #reconciler: Reconciler;
  readonly #events: EventLog;
  readonly #conditions = new ConditionBoard();
  readonly #deps: VolumeManagerDependencies;
  readonly #stopping = new AbortController();
  /** Calls that come before the records are read wait for it. */
  readonly #started = createDeferred<undefined>();

  constructor(options: VolumeManagerOptions, dependencies: VolumeManagerDependencies) {
    this.#deps = dependencies;
    // One listener for each call under way.
    setMaxListeners(0, this.#stopping.signal);
    this.#registry = new VolumeRegistry({ ...dependencies, conditions: this.#conditions });
    this.#events = new EventLog(dependencies);
    const shared = { ...dependencies, registry: this.#registry, events: this.#events };
    this.#operations = new VolumeOperations({ flushTimeoutMs: 10_000, ...options }, shared);
    this.#reconciler = new Reconciler(
      { ...options, intervalMs: options.reconcileIntervalMs ?? 5_000 },
      { ...shared, conditions: this.#conditions, operations: this.#operations },
    );
  }

  /**
   * Reads the records, purges what a boot ended and begins to bring back the rest. To be called once, before the first
   * request. Throws STATE_FAILED.
   */
  async start(): Promise<void> {
    // Without a caller that waits, a failure is told to the one who started it alone.
    this.#started.promise.catch(() => undefined);
    try {
      await this.#registry.load();
      for (const { fileName, reason, path } of this.#registry.damaged) {
        const message = `the volume record ${fileName} cannot be used (${reason}); it is ${path}`;
        this.#events.add("", "record-damaged", message);
        this.#conditions.putNode("record-damaged", fileName, message);
      }
      await this.#reconciler.start();
      this.#started.resolve(undefined);
    } catch (error) {
      this.#started.reject(error);
      throw error;
    }
  }

  /**
   * Ends all work and lets go of the volumes: devices of kernel nbd stay and wait for the next process; FUSE devices
   * that nobody uses are detached.
   */
  async stop(): Promise<void> {
    this.#stopping.abort(new DataplaneError("DATAPLANE_STOPPING", "the dataplane is stopping; ask again in a moment"));
    await this.#reconciler.stop();
    await Promise.all(this.#registry.all().map((volume) => this.#park(volume)));
  }

  /** One comparison of desired and actual state, now. */
  reconcile(): Promise<void> {
    return this.#reconciler.tick();
  }

  async attach(request: AttachRequest, signal?: AbortSignal): Promise<AttachedVolume> {
    checkAttachRequest(request);
    await this.#started.promise;
    const volume = this.#registry.take(request.volumeHandle);
    try {
      return await this.#alone(volume, signal, (both) => this.#operations.attach(volume, request, both));
    } finally {
      this.#registry.dropIfUnused(volume);
    }
  }

  async detach(volumeHandle: string, signal?: AbortSignal): Promise<void> {
    checkVolumeHandle(volumeHandle);
    await this.#started.promise;
    const volume = this.#registry.get(volumeHandle);
    if (volume === undefined) return;
    // A volume that is being brought back is not waited for; if the detach fails, the reconciler begins anew.
    volume.resuming?.abort();
    await this.#alone(volume, signal, (both) => this.#operations.detach(volume, both));
  }

  async resize(volumeHandle: string, signal?: AbortSignal): Promise<AttachedVolume> {
    const volume = await this.#find(volumeHandle);
    return this.#alone(volume, signal, (both) => this.#operations.resize(volume, both));
  }

  async markFormatted(volumeHandle: string, fsType: string): Promise<void> {
    if (!/^[a-z0-9._-]{1,64}$/.test(fsType)) {
      throw new DataplaneError("VOLUME_INVALID", "the file system type has 1 to 64 of the characters a-z 0-9 . _ -");
    }
    const volume = await this.#find(volumeHandle);
    await this.#alone(volume, undefined, () => this.#operations.markFormatted(volume, fsType));
  }

  async setConnectionPolicy(volumeHandle: string, policy: ConnectionPolicy): Promise<void> {
    const volume = await this.#find(volumeHandle);
    await this.#alone(volume, undefined, () => setConnectionPolicy(volume, policy, this.#registry));
  }

  async addConnection(volumeHandle: string, connection: AddedConnection): Promise<number> {
    const volume = await this.#find(volumeHandle);
    return this.#alone(volume, undefined, () => addConnection(volume, connection));
  }

  async removeConnection(volumeHandle: string, cid: number): Promise<void> {
    const volume = await this.#find(volumeHandle);
    await this.#alone(volume, undefined, () => removeConnection(volume, cid));
  }

  async setPathPolicy(volumeHandle: string, policy: PathPolicy): Promise<void> {
    const volume = await this.#find(volumeHandle);
    await this.#alone(volume, undefined, () => setPathPolicy(volume, policy, this.#registry));
  }

  async changePath(volumeHandle: string, pathId: string, change: AskedPathChange): Promise<void> {
    const volume = await this.#find(volumeHandle);
    await this.#alone(volume, undefined, () => changePath(volume, pathId, change));
  }

  async get(volumeHandle: string): Promise<VolumeStatus | undefined> {
    await this.#started.promise;
    return this.#registry.get(volumeHandle)?.status();
  }

  async list(): Promise<readonly VolumeStatus[]> {
    await this.#started.promise;
    const statuses = this.#registry.all().map((volume) => volume.status());
    return statuses.filter((status) => status !== undefined);
  }

  watch(signal: AbortSignal): AsyncIterable<DataplaneEvent> {
    return this.#events.watch(signal);
  }

  async *watchVolumes(signal: AbortSignal): AsyncGenerator<ConditionUpdate, void> {
    await this.#started.promise;
    yield* this.#conditions.watch(signal);
  }

  /** Shows watchers something of the node itself; it stands until this process ends. `subject` tells it from others. */
  noteNode(kind: NodeConditionKind, subject: string, message: string): void {
    this.#conditions.putNode(kind, subject, message);
  }

  /** The last events, oldest first. */
  recentEvents(): readonly DataplaneEvent[] {
    return this.#events.recent();
  }

  async #find(volumeHandle: string): Promise<Volume> {
    await this.#started.promise;
    const volume = this.#registry.get(volumeHandle);
    if (volume?.record !== undefined) return volume;
    throw new DataplaneError(
      "VOLUME_NOT_FOUND",
      `volume ${volumeHandle} is not attached to this node; attach it first`,
      { details: { volumeHandle } },
    );
  }

  /**
   * Runs `work` with the volume's lock. The signal it gets aborts when the caller withdraws or the dataplane stops;
   * while it still waits for the lock, an abort ends the wait at once, afterwards `work` itself undoes what it did.
   */
  async #alone<T>(
    volume: Volume,
    signal: AbortSignal | undefined,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const joined = joinSignals(signal === undefined ? [this.#stopping.signal] : [this.#stopping.signal, signal]);
    try {
      throwIfAborted(joined.signal);
      let hasBegun = false;
      const run = volume.mutex.run(() => {
        hasBegun = true;
        throwIfAborted(joined.signal);
        return work(joined.signal);
      });
      // When the wait is given up, `run` still fails later, with nobody to hear it.
      run.catch(() => undefined);
      return await new Promise<T>((resolve, reject) => {
        run.then(resolve, reject);
        joined.signal.addEventListener("abort", () => {
          if (!hasBegun) reject(cancellationOf(joined.signal));
        });
      });
    } finally {
      joined.dispose();
    }
  }

  async #park(volume: Volume): Promise<void> {
    try {
      await volume.mutex.run(() => this.#operations.park(volume));
    } catch (error) {
      this.#deps.logger.warn("a volume could not be parked", {
        volumeHandle: volume.handle,
        reason: errorMessage(error),
      });
    }
  }
}

/** A signal that aborts with the first of `signals`. Unlike AbortSignal.any it leaves nothing behind at long-lived ones. */
function joinSignals(signals: readonly AbortSignal[]): { readonly signal: AbortSignal; dispose(): void } {
  const controller = new AbortController();
  const removers = signals.map((signal) => {
    const onAbort = (): void => controller.abort(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
    return () => signal.removeEventListener("abort", onAbort);
  });
  return { signal: controller.signal, dispose: () => removers.forEach((remove) => remove()) };
}
