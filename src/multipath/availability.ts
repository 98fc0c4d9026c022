import type { Clock, Timer } from "../base/clock.js";
import type { Emitter } from "../base/emitter.js";
import type { DeviceEvent } from "../block/device.js";
import { MultipathError } from "./errors.js";
import type { HeldRequests } from "./held-requests.js";
import type { PathTable } from "./path-table.js";

export interface AvailabilityDependencies {
  readonly paths: PathTable;
  readonly clock: Clock;
  readonly requests: HeldRequests;
  /** Told when the device is not available any more, and when it is again. */
  readonly events: Emitter<DeviceEvent>;
}

/**
 * Says when the last path that takes requests has gone and when there is one again, and ends the waiting of requests when
 * the operator has set a time for it. The first path of all is awaited without that.
 */
export class Availability {
  readonly #noPathTimeoutMs: number;
  readonly #dependencies: AvailabilityDependencies;
  #state: "not yet" | "available" | "gone" = "not yet";
  #isRefusalTold = false;
  #timer: Timer | undefined;

  /** `noPathTimeoutMs` 0: requests wait for ever. */
  constructor(noPathTimeoutMs: number, dependencies: AvailabilityDependencies) {
    this.#noPathTimeoutMs = noPathTimeoutMs;
    this.#dependencies = dependencies;
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** To be called whenever paths have changed. */
  update(): void {
    const isAvailable = this.#dependencies.paths.carriers.length > 0;
    if (isAvailable && this.#state !== "available") this.#begin();
    else if (!isAvailable && this.#state === "available") this.#end();
    else if (!isAvailable && this.#state === "gone") this.#tellRefusal();
  }

  #begin(): void {
    const { paths, requests, events } = this.#dependencies;
    const isBack = this.#state === "gone";
    this.#state = "available";
    this.#isRefusalTold = false;
    this.#timer?.cancel();
    requests.release();
    if (!isBack) return;
    paths.note(undefined, "path-available", `a path carries requests again: ${paths.carriers[0]?.id ?? ""}`);
    events.emit({ kind: "available" });
  }

  #end(): void {
    const { paths, clock, events } = this.#dependencies;
    this.#state = "gone";
    const reason = `no path carries requests: ${this.#reasons()}`;
    this.#isRefusalTold = this.#areAllRefused();
    if (this.#noPathTimeoutMs > 0) {
      this.#timer = clock.setTimer(this.#noPathTimeoutMs, () => this.#giveUp());
    }
    paths.note(undefined, "no-path", reason);
    events.emit({ kind: "unavailable", reason });
  }

  /** That nothing but another unit is left is worth telling, however the paths came to an end before. */
  #tellRefusal(): void {
    if (this.#isRefusalTold || !this.#areAllRefused()) return;
    this.#isRefusalTold = true;
    const reason = `no path leads to the volume: ${this.#reasons()}`;
    this.#dependencies.events.emit({ kind: "unavailable", reason });
  }

  #giveUp(): void {
    const { paths, requests } = this.#dependencies;
    const message =
      `no path has carried requests for ${this.#noPathTimeoutMs} ms: ${this.#reasons()}; ` +
      "requests fail until one does, bring a path back";
    requests.refuse(new MultipathError("MULTIPATH_NO_PATH", message, { retry: "other-path" }));
    paths.note(undefined, "no-path-timeout", message);
  }

  #areAllRefused(): boolean {
    const { all } = this.#dependencies.paths;
    return all.length > 0 && all.every(({ state }) => state === "refused");
  }

  #reasons(): string {
    const { all } = this.#dependencies.paths;
    if (all.length === 0) return "there is none";
    return all
      .map(
        (path) =>
          `${path.id} is ${path.isAccessible ? path.state : (path.access?.state ?? "")}${inBrackets(path.reason)}`,
      )
      .join(", ");
  }
}

function inBrackets(reason: string): string {
  return reason === "" ? "" : ` (${reason})`;
}
