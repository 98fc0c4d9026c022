import { sleep, type Clock } from "../base/clock.js";
import { errorCode, errorMessage } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { Random } from "../base/random.js";
import type { CloseOptions } from "../initiator/connect-volume.js";
import type { AttachedVolume, AttachRequest } from "./api.js";
import { bindOptionsOf, bringUp, type BringUpMode, type BringUpOptions } from "./bring-up.js";
import { checkSameParameters } from "./check-request.js";
import type { ChapVault } from "./chap-vault.js";
import { DataplaneError, throwIfAborted } from "./errors.js";
import type { EventLog } from "./event-log.js";
import { freshRecord } from "./fresh-record.js";
import type { DeviceBinder, VolumeConnector } from "./ports.js";
import type { LiveVolume, Volume } from "./volume.js";
import { attachedOf, busy, busyIfHeld, failedVolume, notAttached, superseded } from "./volume-answers.js";
import { listenTo } from "./volume-listening.js";
import { detachedRecord, type VolumeRecord } from "./volume-record.js";
import type { VolumeRegistry } from "./volume-registry.js";

export interface VolumeOperationsOptions extends BringUpOptions {
  readonly bootId: string;
  /** How long a detach waits for the last flush of a healthy device. */
  readonly flushTimeoutMs: number;
}

export interface VolumeOperationsDependencies {
  readonly registry: VolumeRegistry;
  readonly connector: VolumeConnector;
  readonly binder: DeviceBinder;
  readonly vault: ChapVault;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly random: Random;
  readonly createIsid: (random: Random) => Buffer;
  readonly logger: Logger;
}

/** What is done to one volume. Every method is called with the volume's lock held and can be repeated. */
export class VolumeOperations {
  readonly #options: VolumeOperationsOptions;
  readonly #deps: VolumeOperationsDependencies;

  constructor(options: VolumeOperationsOptions, dependencies: VolumeOperationsDependencies) {
    this.#options = options;
    this.#deps = dependencies;
  }

  async attach(volume: Volume, request: AttachRequest, signal: AbortSignal): Promise<AttachedVolume> {
    await this.#endSuperseded(volume, request, signal);
    const { record } = volume;
    const isInUse = record !== undefined && record.phase !== "detached";
    if (isInUse) {
      checkSameParameters(record, request);
      const current = await this.#renewChap(volume, record, request);
      if (volume.live === undefined) await this.#bringUp(volume, current, "rebind", signal);
      else if (volume.state === "failed") throw failedVolume(volume);
    } else {
      const fresh = freshRecord(volume, request, this.#options.bootId, this.#deps);
      await this.#deps.registry.save(volume, fresh);
      await this.#bringUp(volume, fresh, "attach", signal);
    }
    return attachedOf(volume);
  }

  /** Takes the kernel's device over after a restart. Throws VOLUME_DEVICE_LOST when there is none. */
  async resume(volume: Volume, signal: AbortSignal): Promise<void> {
    const { record, live } = volume;
    if (record === undefined || record.phase === "detached" || live !== undefined) return;
    const wasDetaching = record.phase === "detaching";
    await this.#bringUp(volume, record, "resume", signal);
    this.#note(volume, "volume-resumed", "the kernel's device is served again after a restart");
    if (wasDetaching) await this.detach(volume, signal);
  }

  async detach(volume: Volume, signal: AbortSignal): Promise<void> {
    const { record, live } = volume;
    if (record === undefined || record.phase === "detached") return;
    if (live === undefined) {
      await this.#detachParked(volume, record);
      return;
    }
    const holders = await live.bound.holders();
    if (holders.length > 0) throw busy(volume.handle, live.bound.devicePath, holders);
    throwIfAborted(signal);
    await this.#lastFlush(volume, live, signal);
    throwIfAborted(signal);
    await this.#save(volume, { ...record, phase: "detaching" });
    const { state, reason } = volume;
    volume.apply("detach-started");
    try {
      await live.bound.release();
    } catch (error) {
      volume.apply("detach-refused");
      if (state === "reconnecting") volume.apply("connection-lost", reason);
      await this.#save(volume, { ...record, phase: "attached" });
      throw busyIfHeld(error, volume.handle, live.bound.devicePath);
    }
    await this.#drop(volume, live, { isGivenUp: true });
    await this.#finishDetach(volume);
  }

  async resize(volume: Volume, signal: AbortSignal): Promise<AttachedVolume> {
    const { live } = volume;
    if (live === undefined) throw notAttached(volume.handle);
    const { sizeBytes } = await live.connected.refresh();
    throwIfAborted(signal);
    if (sizeBytes < live.sizeBytes) {
      throw new DataplaneError(
        "VOLUME_SHRUNK",
        `the LUN of volume ${volume.handle} has ${sizeBytes} bytes, but its device has ${live.sizeBytes}: shrinking ` +
          "a device in use would cut its file system; restore the LUN's size",
        { details: { volumeHandle: volume.handle, sizeBytes, deviceBytes: live.sizeBytes } },
      );
    }
    if (sizeBytes > live.sizeBytes) {
      await live.bound.resize(sizeBytes);
      live.sizeBytes = sizeBytes;
      volume.changed();
      this.#note(volume, "volume-resized", `the device has ${sizeBytes} bytes now`);
    }
    const { record } = volume;
    if (record !== undefined && record.sizeBytes !== sizeBytes) await this.#save(volume, { ...record, sizeBytes });
    return attachedOf(volume);
  }

  async markFormatted(volume: Volume, fsType: string): Promise<void> {
    const { record } = volume;
    if (record === undefined) throw notAttached(volume.handle);
    if (record.wasFormatted && record.fsType === fsType) return;
    await this.#save(volume, { ...record, wasFormatted: true, fsType });
  }

  /** The machine was booted since: nothing of the volume is left in the kernel. */
  async purge(volume: Volume): Promise<void> {
    const { record } = volume;
    if (record === undefined) return;
    await this.#save(volume, { ...detachedRecord(record), bootId: this.#options.bootId });
    this.#note(volume, "volume-purged", "the node was booted since the volume was attached; it is detached now");
  }

  /** Takes away what an earlier process left; the caller has made sure that nobody waits for the device. */
  async discard(volume: Volume): Promise<void> {
    const { record } = volume;
    if (record === undefined) return;
    await this.#deps.binder.discard(bindOptionsOf(record, this.#options));
    await this.#finishDetach(volume);
  }

  /** The kernel lost the device of a volume we serve. */
  async deviceLost(volume: Volume, live: LiveVolume): Promise<void> {
    const reason = `the kernel has no device of this volume any more (it was ${live.bound.devicePath})`;
    volume.apply("failed", reason, "VOLUME_DEVICE_LOST");
    this.#note(volume, "device-lost", reason);
    await live.bound.park().catch((error: unknown) => this.#complain(volume, "parking a lost device failed", error));
    await this.#drop(volume, live);
  }

  /** For the end of this process: kernel devices wait for the next one, what cannot wait is detached when it is free. */
  async park(volume: Volume): Promise<void> {
    const { live, record } = volume;
    if (live === undefined || record === undefined) return;
    if (live.bound.backend === "fuse") {
      const holders = await live.bound.holders();
      if (holders.length === 0) {
        await this.detach(volume, new AbortController().signal);
        return;
      }
      const { devicePath } = live.bound;
      this.#deps.logger.error("a device in use goes away with this process: FUSE cannot wait for the next one", {
        ...{ volumeHandle: volume.handle, devicePath, holders },
      });
    }
    await live.bound.park();
    await this.#drop(volume, live);
  }

  /**
   * Between two publications to this node others may have had the volume: whatever the earlier one has not written yet
   * must fail, never land on what they wrote. Throws VOLUME_SUPERSEDED while its device is held.
   */
  async #endSuperseded(volume: Volume, request: AttachRequest, signal: AbortSignal): Promise<void> {
    const { record, live } = volume;
    if (record === undefined || record.phase === "detached") return;
    if (record.publicationId === request.publicationId) return;
    const reason = "it is of an earlier publication to this node: its I/O is refused";
    if (live !== undefined && volume.reason !== reason) {
      volume.apply("failed", reason, "VOLUME_SUPERSEDED");
      this.#note(volume, "publication-superseded", reason);
    }
    await live?.connected.close();
    const holders = (await live?.bound.holders()) ?? [];
    if (holders.length > 0) throw superseded(volume.handle, holders);
    await this.detach(volume, signal);
  }

  async #bringUp(volume: Volume, record: VolumeRecord, mode: BringUpMode, signal: AbortSignal): Promise<void> {
    const isResuming = mode === "resume";
    if (!isResuming) volume.apply("attach-started");
    try {
      const save = (next: VolumeRecord): Promise<void> => this.#save(volume, next);
      const amend = (change: Partial<VolumeRecord>): Promise<void> => this.#amend(volume, change);
      const dependencies = { ...this.#deps, save, amend };
      const { connected, bound, isTakenOver } = await bringUp(record, mode, this.#options, dependencies, signal);
      const { device } = connected;
      const stopListening = listenTo(volume, connected, {
        note: (kind, message) => this.#note(volume, kind, message),
        logger: this.#deps.logger,
      });
      volume.live = { connected, bound, sizeBytes: device.info.sizeBytes, stopListening };
      volume.apply(isResuming ? "connection-restored" : "attach-succeeded");
      const how = isTakenOver ? "taken over" : "made";
      if (device.info.identity.id === "") {
        this.#note(volume, "no-identity", "the device has no identity: another one in its place would not be noticed");
      }
      this.#note(volume, "volume-attached", `${bound.devicePath} ${how} (${bound.backend}, ${record.targetName})`);
    } catch (error) {
      if (!isResuming) await this.#attachFailed(volume, mode, error);
      throw error;
    }
  }

  async #attachFailed(volume: Volume, mode: BringUpMode, error: unknown): Promise<void> {
    const reason = errorMessage(error);
    this.#note(volume, "attach-failed", reason);
    if (mode === "rebind") {
      // It was attached before: what the kernel may still hold decides, not this attempt.
      volume.apply("failed", reason, errorCode(error));
      return;
    }
    volume.apply("attach-undone");
    const { record } = volume;
    if (record === undefined || record.phase === "detached") return;
    try {
      await this.#save(volume, detachedRecord(record));
    } catch (saveError) {
      // The record says "attaching": the next attach or start deals with it.
      this.#complain(volume, "a failed attach could not be noted in the record", saveError);
    }
  }

  /** No process serves the device now: it can go if nobody holds it. */
  async #detachParked(volume: Volume, record: VolumeRecord): Promise<void> {
    const options = bindOptionsOf(record, this.#options);
    try {
      await this.#deps.binder.discard(options);
    } catch (error) {
      throw busyIfHeld(error, volume.handle, options.backendId);
    }
    if (volume.state !== "detached") volume.apply("detach-started");
    await this.#finishDetach(volume);
  }

  async #finishDetach(volume: Volume): Promise<void> {
    const { record } = volume;
    if (record === undefined) return;
    try {
      await this.#save(volume, detachedRecord(record));
    } catch (error) {
      volume.apply("failed", `detached, but its record could not be written: ${errorMessage(error)}`);
      throw error;
    }
    if (volume.state === "detaching") volume.apply("detach-succeeded");
    else if (volume.state !== "detached") volume.apply("attach-undone");
    this.#note(volume, "volume-detached", "the device is gone and the sessions are logged out");
  }

  /** Ends the sessions. A target that does not answer the logout keeps nothing from being detached. */
  async #drop(volume: Volume, live: LiveVolume, options: CloseOptions = {}): Promise<void> {
    volume.live = undefined;
    live.stopListening();
    volume.changed();
    try {
      await live.connected.close(options);
    } catch (error) {
      this.#complain(volume, "logging out failed", error);
    }
  }

  /**
   * Empties the target's cache while the device is still ours. Only for good measure: whoever needed durability asked
   * for it before; so a target that cannot be reached, or fails, does not hold the detach up.
   */
  async #lastFlush(volume: Volume, live: LiveVolume, signal: AbortSignal): Promise<void> {
    const { info } = live.connected.device;
    if (volume.state !== "attached" || info.isReadOnly || !info.hasVolatileCache) return;
    const timer = new AbortController();
    const timeout = sleep(this.#deps.clock, this.#options.flushTimeoutMs, AbortSignal.any([timer.signal, signal]));
    try {
      await Promise.race([live.connected.device.flush(), timeout]);
    } catch (error) {
      if (!signal.aborted) this.#complain(volume, "the last flush before the detach failed", error);
    } finally {
      timer.abort();
      timeout.catch(() => undefined);
    }
  }

  /** Renewed credentials count from the next login on, also of a session that is looking for its target right now. */
  async #renewChap(volume: Volume, record: VolumeRecord, request: AttachRequest): Promise<VolumeRecord> {
    const { vault } = this.#deps;
    const { chap } = request;
    if (chap === undefined) return record;
    if (record.sealedChap !== undefined && vault.holds(volume.handle, record.sealedChap, chap)) return record;
    const renewed = { ...record, sealedChap: vault.seal(volume.handle, chap) };
    await this.#save(volume, renewed);
    volume.live?.connected.renewChap(chap);
    this.#note(volume, "chap-renewed", "other CHAP credentials were given; they count from the next login on");
    return renewed;
  }

  async #save(volume: Volume, record: VolumeRecord): Promise<void> {
    const { registry, clock } = this.#deps;
    await registry.save(volume, { ...record, bootId: this.#options.bootId, updatedAtMs: clock.wallTimeMs() });
  }

  /** A change that comes of its own accord, when it is its turn. */
  #amend(volume: Volume, change: Partial<VolumeRecord>): Promise<void> {
    return volume.mutex.run(async () => {
      const { record } = volume;
      if (record !== undefined && record.phase !== "detached") await this.#save(volume, { ...record, ...change });
    });
  }

  #note(volume: Volume, kind: string, message: string): void {
    this.#deps.events.add(volume.handle, kind, message);
    this.#deps.logger.info("volume event", { volumeHandle: volume.handle, kind, reason: message });
  }

  #complain(volume: Volume, message: string, error: unknown): void {
    this.#deps.logger.warn(message, {
      volumeHandle: volume.handle,
      reason: errorMessage(error),
      code: errorCode(error),
    });
  }
}
