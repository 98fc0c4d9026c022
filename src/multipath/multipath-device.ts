import type { Clock, Timer } from "../base/clock.js";
import { Emitter } from "../base/emitter.js";
import type { AppError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { Random } from "../base/random.js";
import type {
  BlockDevice,
  BlockDeviceInfo,
  BlockExtent,
  ByteRange,
  DeviceEvent,
  WriteOptions,
  WriteZeroesOptions,
} from "../block/device.js";
import { Availability } from "./availability.js";
import { closedError, MultipathError } from "./errors.js";
import { HeldRequests } from "./held-requests.js";
import { PathAdmission } from "./path-admission.js";
import type { PathPolicy } from "./path-policy.js";
import type { PathPort } from "./path-port.js";
import { PathSelector } from "./path-selector.js";
import { PathTable } from "./path-table.js";
import { PathVerifier } from "./path-verifier.js";
import { Path, type PathPlan } from "./path.js";
import { PortGroupKeeper } from "./port-group-keeper.js";
import { RequestRunner, type RetryOptions } from "./request-runner.js";
import type { MultipathStatus, PathChange, PathControl, PathEvent } from "./status.js";
import { UnitDescription } from "./unit-description.js";

export interface MultipathOptions extends RetryOptions {
  readonly policy: PathPolicy;
  /** How long requests wait when no path carries any (PDORemovePeriod); 0: for ever. */
  readonly noPathTimeoutMs: number;
  /** How often paths are asked whether they are well (PathVerificationPeriod); 0: only after a failure. */
  readonly verifyIntervalMs: number;
  /** How long a better path must be up before fail-over-only goes back to it; absent: it does not by itself. */
  readonly failbackDelayMs?: number;
}

export interface MultipathDependencies {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/**
 * One device over several paths to the same unit. A request fails only when every path would answer it alike, when the unit
 * has failed it over every path several times, or when there was no path for longer than the operator allows: while one
 * path lives, the failures of others are not seen. That a request moved to another path is carried out once is what each
 * PathPort promises: it gives back only what is certain not to be carried out over it any more.
 *
 * Requests outside the unit are refused by the unit; those larger than `info.maxTransferBytes` are for the split filter.
 */
export class MultipathDevice implements BlockDevice, PathControl {
  readonly #clock: Clock;
  readonly #events = new Emitter<DeviceEvent>();
  readonly #paths: PathTable;
  readonly #selector: PathSelector<Path>;
  readonly #requests: HeldRequests;
  /** Those who wait until the device can be used at all. */
  readonly #waiting: HeldRequests;
  readonly #runner: RequestRunner;
  readonly #unit: UnitDescription;
  readonly #portGroups: PortGroupKeeper;
  readonly #verifier: PathVerifier;
  readonly #admission: PathAdmission;
  readonly #availability: Availability;
  readonly #removals = new Map<Path, Promise<void>>();
  #failbackTimer: Timer | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: MultipathOptions, dependencies: MultipathDependencies) {
    const { clock, random } = dependencies;
    this.#clock = clock;
    const paths = new PathTable(dependencies);
    this.#paths = paths;
    this.#selector = new PathSelector(options.policy, options.failbackDelayMs);
    this.#requests = new HeldRequests(clock);
    this.#waiting = new HeldRequests(clock);
    this.#unit = new UnitDescription({
      ...{ paths, clock },
      onChanged: (info) => {
        this.#admission.compareAll();
        this.#events.emit({ kind: "info-changed", info });
      },
    });
    this.#portGroups = new PortGroupKeeper({ paths, clock, random });
    this.#verifier = new PathVerifier(options.verifyIntervalMs, {
      ...{ paths, clock, random, portGroups: this.#portGroups, unit: this.#unit },
      onProved: (path) => this.#admission.readmit(path),
    });
    this.#admission = new PathAdmission({
      ...{ paths, clock, portGroups: this.#portGroups, unit: this.#unit, verifier: this.#verifier },
    });
    this.#availability = new Availability(options.noPathTimeoutMs, {
      ...{ paths, clock, requests: this.#requests, events: this.#events },
    });
    this.#runner = new RequestRunner(options, {
      ...{ clock, selector: this.#selector, held: this.#requests },
      onPathFailure: (path, reason) => this.#onPathFailure(path, reason),
      onUnitFailure: (path) => this.#rereadAccess(path),
    });
    paths.onSettled(() => this.#onSettled());
  }

  /** Throws MULTIPATH_NO_PATH before the first path was up: see `whenUsable`. */
  get info(): BlockDeviceInfo {
    if (this.#unit.info !== undefined) return this.#unit.info;
    throw new MultipathError("MULTIPATH_NO_PATH", "what the unit is will be known when a path is up; wait for one", {
      retry: "other-path",
    });
  }

  read(offsetBytes: number, target: Buffer): Promise<void> {
    return this.#runner.run("read", target.length, (device) => device.read(offsetBytes, target));
  }

  write(offsetBytes: number, source: Buffer, options?: WriteOptions): Promise<void> {
    return this.#runner.run("write", source.length, (device) => device.write(offsetBytes, source, options));
  }

  /** Over any path: the cache belongs to the unit, not to a path (SBC-4 §4.15). */
  flush(): Promise<void> {
    return this.#runner.run("other", 0, (device) => device.flush());
  }

  unmap(ranges: readonly ByteRange[]): Promise<void> {
    return this.#runner.run("other", 0, (device) => device.unmap(ranges));
  }

  writeZeroes(range: ByteRange, options?: WriteZeroesOptions): Promise<void> {
    return this.#runner.run("other", 0, (device) => device.writeZeroes(range, options));
  }

  blockStatus(range: ByteRange): Promise<readonly BlockExtent[]> {
    return this.#runner.run("other", 0, (device) => device.blockStatus(range));
  }

  onEvent(listener: (event: DeviceEvent) => void): () => void {
    return this.#events.on(listener);
  }

  onPathEvent(listener: (event: PathEvent) => void): () => void {
    return this.#paths.onEvent(listener);
  }

  /** Takes over the port: closing the device closes it. Its name and rank must be its own. Throws BLOCK_CLOSED. */
  addPath(port: PathPort, plan: PathPlan): void {
    if (this.#closing !== undefined) throw closedError();
    const path = new Path(port, plan);
    this.#paths.add(path);
    this.#admission.listen(path);
  }

  /** Nothing more is sent over the path; it is let go of when its requests have ended. Rejects with MULTIPATH_PATH_UNKNOWN. */
  async removePath(id: string): Promise<void> {
    const path = this.#paths.find(id);
    let removal = this.#removals.get(path);
    if (removal === undefined) {
      removal = this.#remove(path);
      this.#removals.set(path, removal);
    }
    await removal;
  }

  /**
   * Reads what the unit says over all paths that are up, and resolves with the device's info afterwards. The size changes
   * only when all agree. Rejects with MULTIPATH_CAPACITY_DISAGREES, and with MULTIPATH_NO_PATH when none answers.
   */
  async refresh(): Promise<BlockDeviceInfo> {
    await this.#unit.refresh();
    return this.info;
  }

  /** Resolves once a path carries requests. Rejects with the signal's reason, and when the device is closed or refused. */
  async whenUsable(signal?: AbortSignal): Promise<void> {
    while (this.#paths.carriers.length === 0 || this.#requests.end !== undefined) await this.#waiting.hold(signal);
  }

  /** The volume must not be used any more: what waits, and every request from now on, fails with `reason`. */
  refuse(reason: AppError): void {
    if (this.#requests.end !== undefined) return;
    this.#finish(reason);
    this.#events.emit({ kind: "unavailable", reason: reason.message });
  }

  status(): MultipathStatus {
    const nowMs = this.#clock.nowMs();
    const chosen = new Set(this.#selector.chosen);
    return {
      policy: this.#selector.policy,
      heldRequests: this.#requests.count,
      paths: this.#paths.all.map((path) => path.status(chosen.has(path), nowMs)),
    };
  }

  setPolicy(policy: PathPolicy): void {
    this.#selector.policy = policy;
    this.#paths.settle();
  }

  failPath(pathId: string): void {
    const path = this.#paths.find(pathId);
    if (path.state === "failed") return;
    if (this.#isLast(path)) {
      throw new MultipathError(
        "MULTIPATH_LAST_PATH",
        `path ${pathId} is the only one that carries requests; bring another one up first`,
        { details: { pathId } },
      );
    }
    path.takenOut();
    this.#paths.note(path, "path-failed-by-operator", path.reason);
    this.#paths.settle();
  }

  restorePath(pathId: string): void {
    const path = this.#paths.find(pathId);
    if (path.state !== "failed") return;
    path.putBack();
    this.#paths.note(path, "path-restored-by-operator", "an operator put it back into service");
    this.#verifier.doubt(path, { reason: "it is looked at before it is used again", isAboutCapacity: false });
    this.#paths.settle();
  }

  changePath(pathId: string, { weight, isStandby }: PathChange): void {
    const path = this.#paths.find(pathId);
    path.weight = weight ?? path.weight;
    path.isStandby = isStandby ?? path.isStandby;
    this.#paths.settle();
  }

  /** What is held fails with BLOCK_CLOSED; requests under way end as their ports let them. Closes the ports. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#finish(closedError());
    this.#availability.stop();
    this.#portGroups.stop();
    this.#verifier.stop();
    this.#failbackTimer?.cancel();
    for (const path of this.#paths.all) this.#admission.forget(path);
    const ports = this.#paths.all.map((path) => path.port.close());
    await Promise.all([...ports, ...this.#removals.values()]);
  }

  #finish(reason: AppError): void {
    this.#requests.finish(reason);
    this.#waiting.finish(reason);
  }

  async #remove(path: Path): Promise<void> {
    path.isLeaving = true;
    this.#paths.settle();
    if (!path.isReachable) path.port.handOver();
    await path.idle();
    if (this.#closing !== undefined) return;
    this.#admission.forget(path);
    this.#verifier.forget(path);
    this.#paths.delete(path);
    this.#unit.merge();
    this.#paths.settle();
    await path.port.close();
    this.#removals.delete(path);
  }

  #onPathFailure(path: Path, reason: AppError): void {
    this.#verifier.doubt(path, { reason: `a request failed: ${reason.message}`, isAboutCapacity: false });
    this.#rereadAccess(path);
  }

  /** The reason may be an access state that has changed unheard. */
  #rereadAccess(path: Path): void {
    if (path.portGroup !== undefined) void this.#portGroups.reread(path);
  }

  /** Would no path carry requests without this one? */
  #isLast(path: Path): boolean {
    const { carriers, all } = this.#paths;
    if (!carriers.includes(path)) return false;
    const canCarry = ({ state, isAccessible, isLeaving }: Path): boolean =>
      (state === "up" || state === "damped") && isAccessible && !isLeaving;
    return !all.some((other) => other !== path && canCarry(other));
  }

  #onSettled(): void {
    if (this.#requests.end !== undefined) return;
    this.#select();
    this.#availability.update();
    this.#portGroups.attend();
    if (this.#paths.carriers.length > 0) this.#waiting.release();
  }

  #select(): void {
    const before = this.#selector.active;
    this.#failbackTimer?.cancel();
    const againMs = this.#selector.update(this.#paths.carriers, this.#clock.nowMs());
    if (againMs !== undefined) this.#failbackTimer = this.#clock.setTimer(againMs, () => this.#paths.settle());
    const { active } = this.#selector;
    if (active === before || active === undefined) return;
    const message =
      before === undefined ? "it carries the requests" : `it carries the requests instead of ${before.id}`;
    this.#paths.note(active, "active-path-changed", message);
  }
}
