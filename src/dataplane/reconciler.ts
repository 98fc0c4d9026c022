import { Backoff } from "../base/backoff.js";
import { sleep, type Clock, type Timer } from "../base/clock.js";
import { errorCode, errorMessage } from "../base/errors.js";
import { MAX_CONCURRENT_RESUMES } from "../base/limits.js";
import type { Logger } from "../base/logger.js";
import type { Random } from "../base/random.js";
import { formatBackendId, parseBackendId } from "./backend-id.js";
import { bindOptionsOf, type BringUpOptions } from "./bring-up.js";
import type { ConditionBoard } from "./condition-board.js";
import type { EventLog } from "./event-log.js";
import { Gate } from "./gate.js";
import type { DeviceBinder } from "./ports.js";
import type { Volume } from "./volume.js";
import type { VolumeOperations } from "./volume-operations.js";
import type { VolumeRegistry } from "./volume-registry.js";

export interface ReconcilerOptions extends BringUpOptions {
  readonly bootId: string;
  readonly intervalMs: number;
}

export interface ReconcilerDependencies {
  readonly registry: VolumeRegistry;
  readonly operations: VolumeOperations;
  readonly binder: DeviceBinder;
  readonly events: EventLog;
  readonly conditions: ConditionBoard;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** Failures that an operator has to mend; trying goes on all the same, for then it comes back by itself. */
const HARD_FAILURES = new Set(["BLOCK_IDENTITY_MISMATCH", "SEALING_OPEN_FAILED", "LOGIN_AUTHENTICATION_FAILED"]);

/** Brings what is together with what should be: once after a start, then every few seconds. */
export class Reconciler {
  readonly #options: ReconcilerOptions;
  readonly #deps: ReconcilerDependencies;
  readonly #gate = new Gate(MAX_CONCURRENT_RESUMES);
  readonly #running = new Set<Promise<void>>();
  /** Devices without a record that were reported: once is enough. */
  readonly #reportedOrphans = new Set<string>();
  #timer: Timer | undefined;
  #isStopped = false;

  constructor(options: ReconcilerOptions, dependencies: ReconcilerDependencies) {
    this.#options = options;
    this.#deps = dependencies;
  }

  /**
   * Purges what did not survive a boot, before anything is served, and begins to bring back what did. Resolves when
   * the purge is done; volumes come back one by one.
   */
  async start(): Promise<void> {
    for (const volume of this.#deps.registry.all()) {
      const { record } = volume;
      if (record === undefined || record.phase === "detached") continue;
      if (record.bootId === this.#options.bootId) {
        volume.apply("connection-lost", "the dataplane was restarted and connects again");
        this.#resume(volume);
      } else {
        await volume.mutex.run(() => this.#deps.operations.purge(volume));
      }
    }
    this.#schedule();
  }

  /** Ends all attempts and resolves when none runs any more. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#timer?.cancel();
    for (const volume of this.#deps.registry.all()) volume.resuming?.abort();
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  /** One look at everything; called by the timer, and by tests. */
  async tick(): Promise<void> {
    const listed = await this.#deps.binder.list();
    const present = new Set(listed.map(({ backendId }) => backendId));
    for (const volume of this.#deps.registry.all()) await this.#check(volume, present);
    for (const { backendId, devicePath } of listed) await this.#checkOrphan(backendId, devicePath);
    for (const backendId of this.#reportedOrphans) {
      if (!present.has(backendId)) this.#reportedOrphans.delete(backendId);
    }
  }

  #schedule(): void {
    if (this.#isStopped) return;
    this.#timer = this.#deps.clock.setTimer(this.#options.intervalMs, () => {
      const run = this.tick().catch((error: unknown) => {
        this.#deps.logger.warn("reconciling failed; it is tried again", { reason: errorMessage(error) });
      });
      this.#track(run.then(() => this.#schedule()));
    });
  }

  #track(work: Promise<void>): void {
    const tracked = work.finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
  }

  async #check(volume: Volume, present: ReadonlySet<string>): Promise<void> {
    const { record, live } = volume;
    if (record === undefined || record.phase === "detached" || volume.mutex.isBusy || this.#isStopped) return;
    const isPresent = present.has(this.#backendIdOf(volume));
    if (live?.bound.backend === "nbd" && !isPresent) {
      await volume.mutex.run(async () => {
        // The list is some moments old: what is decided must be true under the lock.
        if (volume.live === live && !(await this.#kernelHas(volume)))
          await this.#deps.operations.deviceLost(volume, live);
      });
    } else if (live === undefined && volume.resuming === undefined) {
      if (record.backend === "fuse") await volume.mutex.run(() => this.#handleLost(volume));
      else if (isPresent) this.#resume(volume);
    }
  }

  #resume(volume: Volume): void {
    const controller = new AbortController();
    volume.resuming = controller;
    const run = this.#resumeUntilDone(volume, controller.signal).finally(() => {
      if (volume.resuming === controller) volume.resuming = undefined;
    });
    this.#track(run);
  }

  async #resumeUntilDone(volume: Volume, signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#deps;
    const backoff = new Backoff({ initialMs: 500, maximumMs: 15_000 }, { random });
    while (!(await this.#gate.run(() => volume.mutex.run(() => this.#resumeOnce(volume, signal))))) {
      // An abort ends the wait, and the next attempt sees it.
      await sleep(clock, backoff.next(), signal).catch(() => undefined);
    }
  }

  /** True when there is nothing more to try. */
  async #resumeOnce(volume: Volume, signal: AbortSignal): Promise<boolean> {
    const { record } = volume;
    if (signal.aborted || record === undefined || record.phase === "detached" || volume.live !== undefined) return true;
    try {
      // What fuse left cannot be taken over.
      if (record.backend === "fuse" || !(await this.#kernelHas(volume))) {
        await this.#handleLost(volume);
        return true;
      }
      await this.#deps.operations.resume(volume, signal);
      return true;
    } catch (error) {
      return await this.#resumeFailed(volume, error, signal);
    }
  }

  async #resumeFailed(volume: Volume, error: unknown, signal: AbortSignal): Promise<boolean> {
    // With `live` it is served again; only the detach that was under way before has to wait for its holders.
    if (signal.aborted || volume.live !== undefined) return true;
    const code = errorCode(error) ?? "";
    if (code === "VOLUME_DEVICE_LOST") {
      await this.#handleLost(volume);
      return true;
    }
    const reason = errorMessage(error);
    const isNews = volume.reason !== reason;
    volume.apply(HARD_FAILURES.has(code) ? "failed" : "connection-lost", reason, code);
    if (isNews) this.#note(volume.handle, "resume-failed", reason);
    return false;
  }

  /** The kernel has no device of a volume that should have one. */
  async #handleLost(volume: Volume): Promise<void> {
    const { record } = volume;
    if (record === undefined || record.phase === "detached" || volume.live !== undefined) return;
    const isFuse = record.backend === "fuse";
    const lost = isFuse
      ? "its FUSE device went away with the process that served it"
      : "the kernel has no device of it any more";
    if (!isFuse && record.phase === "attached") {
      this.#fail(volume, `${lost}; unmount what used it and attach it again`);
      return;
    }
    try {
      await this.#deps.operations.discard(volume);
    } catch (error) {
      this.#fail(volume, `${lost}, and what is left of it cannot be cleaned up yet: ${errorMessage(error)}`);
    }
  }

  #fail(volume: Volume, reason: string): void {
    const isNews = volume.state !== "failed" || volume.reason !== reason;
    volume.apply("failed", reason, "VOLUME_DEVICE_LOST");
    if (isNews) this.#note(volume.handle, "device-lost", reason);
  }

  /** A device with our id that no record asks for: reported, and taken away when that is safe. */
  async #checkOrphan(backendId: string, devicePath: string): Promise<void> {
    const id = parseBackendId(backendId);
    if (id?.clusterId !== this.#options.clusterId || this.#isStopped) return;
    const volume = this.#deps.registry.take(id.volumeHandle);
    if (volume.mutex.isBusy) return;
    try {
      await volume.mutex.run(async () => {
        const { record } = volume;
        const isOurs = record !== undefined && record.phase !== "detached" && this.#backendIdOf(volume) === backendId;
        if (!isOurs) await this.#removeOrphan(volume, backendId, devicePath);
      });
    } finally {
      this.#deps.registry.dropIfUnused(volume);
    }
  }

  async #removeOrphan(volume: Volume, backendId: string, devicePath: string): Promise<void> {
    const report = (kind: string, message: string): void => {
      if (!this.#reportedOrphans.has(backendId)) this.#note(volume.handle, kind, message);
      this.#reportedOrphans.add(backendId);
    };
    const damage = this.#deps.registry.damageOf(volume.handle);
    if (damage !== undefined && volume.record === undefined) {
      report(
        "orphan-kept",
        `${devicePath} belongs to a volume whose record is damaged (${damage.path}); it is left alone`,
      );
      return;
    }
    try {
      if (await this.#deps.binder.discard({ backendId })) {
        report("orphan-removed", `${devicePath} had no record and nobody used it; it was disconnected`);
      }
    } catch (error) {
      const message = `${devicePath} has no record, but is in use: ${errorMessage(error)}`;
      report("orphan-in-use", message);
      this.#deps.conditions.putNode("orphan-in-use", devicePath, message);
    }
  }

  async #kernelHas(volume: Volume): Promise<boolean> {
    const backendId = this.#backendIdOf(volume);
    return (await this.#deps.binder.list()).some((entry) => entry.backendId === backendId);
  }

  #backendIdOf({ handle, record }: Volume): string {
    if (record !== undefined) return bindOptionsOf(record, this.#options).backendId;
    return formatBackendId({ clusterId: this.#options.clusterId, volumeHandle: handle, deviceId: "" });
  }

  #note(volumeHandle: string, kind: string, message: string): void {
    this.#deps.events.add(volumeHandle, kind, message);
    this.#deps.logger.warn("reconciler event", { volumeHandle, kind, reason: message });
  }
}
