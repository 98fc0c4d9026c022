import type { Clock, Timer } from "../base/clock.js";
import { type AppError, asAppError } from "../base/errors.js";
import type { BlockDeviceInfo } from "../block/device.js";
import { otherUnit, smallerUnit } from "./merged-info.js";
import type { PathPortEvent } from "./path-port.js";
import type { PathTable } from "./path-table.js";
import type { PathVerifier } from "./path-verifier.js";
import type { Path } from "./path.js";
import type { PortGroupKeeper } from "./port-group-keeper.js";
import type { UnitDescription } from "./unit-description.js";

export interface PathAdmissionDependencies {
  readonly paths: PathTable;
  readonly portGroups: PortGroupKeeper;
  readonly unit: UnitDescription;
  readonly verifier: PathVerifier;
  readonly clock: Clock;
}

/** Hears what the ports of the paths tell, and decides whether a path may be used. */
export class PathAdmission {
  readonly #dependencies: PathAdmissionDependencies;
  readonly #stops = new Map<Path, () => void>();
  /** When a path that flaps may be used. */
  readonly #dampings = new Map<Path, Timer>();

  constructor(dependencies: PathAdmissionDependencies) {
    this.#dependencies = dependencies;
  }

  listen(path: Path): void {
    this.#stops.set(
      path,
      path.port.onEvent((event) => this.#onEvent(path, event)),
    );
  }

  /** Hears nothing more of it, and does nothing more about it. */
  forget(path: Path): void {
    path.generation += 1;
    this.#stops.get(path)?.();
    this.#stops.delete(path);
    this.#endDamping(path);
  }

  /** The device has another size than before: paths that could not be asked about it are not used with it. */
  compareAll(): void {
    for (const path of this.#dependencies.paths.all) {
      if (path.isConnected && path.doubt === undefined && path.info !== undefined) this.#compare(path, path.info);
    }
  }

  /** A path that was suspect has answered well. */
  readmit(path: Path): void {
    const { paths, clock } = this.#dependencies;
    path.trusted(clock.nowMs());
    if (path.state === "up") paths.note(path, "path-up", "it answers again");
    paths.settle();
    if (path.info !== undefined) this.#compare(path, path.info);
  }

  #onEvent(path: Path, event: PathPortEvent): void {
    switch (event.kind) {
      case "up":
        path.generation += 1;
        path.isReachable = true;
        path.wasReachable = true;
        if (!path.isLeaving) void this.#onUp(path);
        break;
      case "down":
      case "refused":
        path.generation += 1;
        path.isReachable = false;
        this.#lose(path, event.kind === "refused", event.reason);
        break;
      case "port-groups":
        this.#dependencies.paths.updateAccess(event.groups);
        break;
      case "info-changed":
        this.#onInfo(path, event.info);
        break;
    }
  }

  /** The access state comes first: a request over a path on standby would be in vain. */
  async #onUp(path: Path): Promise<void> {
    const { generation } = path;
    if (path.portGroup === undefined) {
      this.#takeIn(path);
      return;
    }
    const failure = await this.#dependencies.portGroups.readOver(path).then(() => undefined, asAppError);
    if (path.generation !== generation) return;
    this.#takeIn(path, failure);
  }

  /** `failure`: why its access states are not known. */
  #takeIn(path: Path, failure?: AppError): void {
    const found = path.port.device.info;
    const { paths, unit, verifier, clock } = this.#dependencies;
    const expected = unit.info;
    const refusal =
      expected === undefined
        ? undefined
        : (otherUnit(path.id, expected, found) ?? smallerUnit(path.id, expected, found));
    if (refusal !== undefined) {
      this.#lose(path, true, refusal);
      return;
    }
    path.info = found;
    path.connected(clock.nowMs());
    const pauseMs = path.damper.cameUp(clock.nowMs());
    if (pauseMs > 0) this.#damp(path, pauseMs);
    if (path.state !== "failed") paths.note(path, pauseMs > 0 ? "path-damped" : "path-up", upMessage(pauseMs));
    unit.merge();
    // Before anything is sent over it: a unit that has grown may be used when the other paths say so too.
    this.#compare(path, found);
    if (failure !== undefined) {
      const reason = `its access states could not be read: ${failure.message}`;
      verifier.doubt(path, { reason, isAboutCapacity: false });
    }
    paths.settle();
    for (const other of paths.all) if (!other.isReachable) other.port.handOver();
  }

  #lose(path: Path, isRefused: boolean, reason: AppError): void {
    const { paths, clock } = this.#dependencies;
    const before = path.state;
    const isFirstReason = path.reason === "";
    this.#endDamping(path);
    path.lost(isRefused, reason.message, clock.nowMs());
    // A port tells of every attempt in vain; one of them is enough.
    if (path.state !== before || isFirstReason) {
      paths.note(path, isRefused ? "path-refused" : "path-down", reason.message);
    }
    paths.settle();
  }

  #onInfo(path: Path, found: BlockDeviceInfo): void {
    const { unit, paths } = this.#dependencies;
    if (path.connection === "refused" && path.isReachable && !path.isLeaving) {
      path.generation += 1;
      this.#takeIn(path);
      return;
    }
    // One that comes up is judged when its access states are known.
    if (unit.info === undefined || path.connection !== "up") return;
    const refusal = otherUnit(path.id, unit.info, found);
    if (refusal !== undefined) {
      this.#lose(path, true, refusal);
      return;
    }
    path.info = found;
    unit.merge();
    if (found.sizeBytes <= unit.info.sizeBytes || path.doubt !== undefined) {
      this.#compare(path, found);
      return;
    }
    // It may be used meanwhile: nothing beyond the old end is asked for.
    unit.agree().catch((error: unknown) => paths.warn(path, "the device has not grown", asAppError(error)));
  }

  /** A path that shows another size than the device has is not used until the paths agree. */
  #compare(path: Path, { sizeBytes }: BlockDeviceInfo): void {
    const { unit, verifier } = this.#dependencies;
    if (unit.info === undefined || sizeBytes === unit.info.sizeBytes) return;
    const reason = `it says ${sizeBytes} bytes, the device has ${unit.info.sizeBytes}`;
    verifier.doubt(path, { reason, isAboutCapacity: true });
  }

  #damp(path: Path, pauseMs: number): void {
    const { clock, paths } = this.#dependencies;
    this.#endDamping(path);
    path.damped();
    const timer = clock.setTimer(pauseMs, () => {
      this.#dampings.delete(path);
      path.undamped(clock.nowMs());
      if (path.state === "up") paths.note(path, "path-up", "it has stayed up for long enough");
      paths.settle();
    });
    this.#dampings.set(path, timer);
  }

  #endDamping(path: Path): void {
    this.#dampings.get(path)?.cancel();
    this.#dampings.delete(path);
  }
}

function upMessage(pauseMs: number): string {
  return pauseMs > 0 ? `up, but left alone for ${pauseMs / 1_000} s because it comes and goes` : "up";
}
