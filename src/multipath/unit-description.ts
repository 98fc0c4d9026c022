import type { Clock } from "../base/clock.js";
import { asAppError } from "../base/errors.js";
import type { BlockDeviceInfo } from "../block/device.js";
import { MultipathError } from "./errors.js";
import { mergeInfos } from "./merged-info.js";
import type { PathTable } from "./path-table.js";
import type { Path } from "./path.js";

export interface UnitDescriptionDependencies {
  readonly paths: PathTable;
  readonly clock: Clock;
  /** The description has changed. */
  readonly onChanged: (info: BlockDeviceInfo) => void;
}

/** What the device says of itself: what its paths say, as far as they agree. */
export class UnitDescription {
  readonly #dependencies: UnitDescriptionDependencies;
  #info: BlockDeviceInfo | undefined;
  #agreeing: Promise<void> | undefined;
  /** The disagreement that was told last, so that a lasting one is told once. */
  #toldDisagreement = "";

  constructor(dependencies: UnitDescriptionDependencies) {
    this.#dependencies = dependencies;
  }

  /** Undefined until a path was up. */
  get info(): BlockDeviceInfo | undefined {
    return this.#info;
  }

  /** Takes over what the paths say, but for the size, which they have to agree on. */
  merge(): void {
    this.#adopt(this.#info?.sizeBytes);
  }

  /**
   * Reads the size over all paths that are up; the device takes it over when all that answer agree. A path that cannot
   * answer now does not count. Rejects with MULTIPATH_CAPACITY_DISAGREES, with MULTIPATH_NO_PATH when none answers, and
   * with what the unit refuses the question with. Calls at the same time share one reading.
   */
  agree(): Promise<void> {
    this.#agreeing ??= this.#ask().finally(() => {
      this.#agreeing = undefined;
    });
    return this.#agreeing;
  }

  /** The same, but never with a reading that began before the call, and a disagreement is told in any case. */
  async refresh(): Promise<void> {
    await this.#agreeing?.catch(asAppError);
    this.#toldDisagreement = "";
    await this.agree();
  }

  async #ask(): Promise<void> {
    const { paths } = this.#dependencies;
    const asked = paths.all.filter((path) => path.isConnected);
    const hasAnswered = await Promise.all(asked.map((path) => readOver(path)));
    // One that has come up meanwhile has just told: it may be the one that does not agree.
    const joined = paths.all.filter((path) => path.isConnected && !asked.includes(path));
    const answered = [...asked.filter((_path, index) => hasAnswered[index] === true), ...joined];
    const sizes = new Set(answered.map(({ info }) => info?.sizeBytes));
    if (sizes.size > 1) throw this.#disagreement(answered);
    const [sizeBytes] = sizes;
    if (sizeBytes === undefined) {
      throw new MultipathError("MULTIPATH_NO_PATH", "no path answers what size the unit has; look at its paths", {
        retry: "other-path",
      });
    }
    this.#toldDisagreement = "";
    this.#adopt(sizeBytes);
    this.#trustAgain(sizeBytes);
  }

  #adopt(sizeBytes: number | undefined): void {
    const [first, ...others] = this.#dependencies.paths.all.flatMap(({ state, isLeaving, info }) =>
      state === "refused" || isLeaving || info === undefined ? [] : [info],
    );
    if (first === undefined) return;
    const merged = mergeInfos([first, ...others], sizeBytes ?? first.sizeBytes);
    if (JSON.stringify(merged) === JSON.stringify(this.#info)) return;
    this.#info = merged;
    this.#dependencies.onChanged(merged);
  }

  #trustAgain(sizeBytes: number): void {
    const { paths, clock } = this.#dependencies;
    for (const path of paths.all) {
      if (path.doubt?.isAboutCapacity !== true || path.info?.sizeBytes !== sizeBytes) continue;
      path.trusted(clock.nowMs());
      if (path.state === "up") paths.note(path, "path-up", `all paths agree on ${sizeBytes} bytes`);
    }
    paths.settle();
  }

  #disagreement(answered: readonly Path[]): MultipathError {
    const sizes = answered.map(({ id, info }) => ({ id, sizeBytes: info?.sizeBytes ?? 0 }));
    const list = sizes.map(({ id, sizeBytes }) => `${id} says ${sizeBytes} bytes`).join(", ");
    const message = `the paths disagree on the size of the unit: ${list}; it is used with ${this.#info?.sizeBytes ?? 0}`;
    if (message !== this.#toldDisagreement) this.#dependencies.paths.note(undefined, "capacity-disagrees", message);
    this.#toldDisagreement = message;
    return new MultipathError(
      "MULTIPATH_CAPACITY_DISAGREES",
      `${message}; try again when the array has finished its change`,
      { retry: "other-path", details: { sizes } },
    );
  }
}

/** Resolves with false when the path cannot answer now. */
async function readOver(path: Path): Promise<boolean> {
  try {
    path.info = await path.port.refresh();
    return true;
  } catch (error) {
    const reason = asAppError(error);
    if (reason.retry === "never") throw reason;
    return false;
  }
}
