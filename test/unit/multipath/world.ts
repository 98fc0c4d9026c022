import { SeededRandom } from "../../../src/base/seeded-random.js";
import { silentLogger } from "../../../src/base/logger.js";
import type { DeviceEvent } from "../../../src/block/device.js";
import { MemoryDevice } from "../../../src/block/memory-device.js";
import { MultipathDevice, type MultipathOptions } from "../../../src/multipath/multipath-device.js";
import type { PathEvent, PathStatus } from "../../../src/multipath/status.js";
import { ScriptedAccess, ScriptedPath } from "../../support/scripted-path.js";
import { VirtualTime } from "../../support/virtual-time.js";
import type { AluaState } from "../../../src/scsi/alua.js";

export const MIB = 1_048_576;
export const BLOCK = 512;

export interface WorldOptions extends Partial<MultipathOptions> {
  /** How many; default 2. Named a, b, c, d, with ranks 0 to 3. */
  readonly paths?: number;
  readonly latenciesMs?: readonly number[];
  /** Access state of the group of each path; path a leads to group 1, b to group 2. */
  readonly states?: readonly AluaState[];
  readonly canSetPortGroups?: boolean;
  readonly standbyFrom?: number;
  readonly weights?: readonly number[];
}

/** A device over scripted paths to one disk in memory, in virtual time. */
export class MultipathWorld {
  readonly clock = new VirtualTime();
  readonly disk = new MemoryDevice({ sizeBytes: MIB, id: "naa.6001405000000001" });
  readonly access: ScriptedAccess | undefined;
  readonly device: MultipathDevice;
  readonly paths: readonly ScriptedPath[];
  readonly deviceEvents: DeviceEvent[] = [];
  readonly pathEvents: PathEvent[] = [];

  constructor({ paths = 2, latenciesMs = [], states, canSetPortGroups, ...options }: WorldOptions = {}) {
    this.access =
      states === undefined
        ? undefined
        : new ScriptedAccess(Object.fromEntries(states.map((state, index) => [index + 1, state])));
    const { clock, disk, access } = this;
    this.device = new MultipathDevice(
      {
        ...{ policy: "round-robin", noPathTimeoutMs: 0, retryCount: 3, retryIntervalMs: 1_000, verifyIntervalMs: 0 },
        ...options,
      },
      { clock, random: new SeededRandom(1), logger: silentLogger },
    );
    this.device.onEvent((event) => this.deviceEvents.push(event));
    this.device.onPathEvent((event) => this.pathEvents.push(event));
    this.paths = Array.from({ length: paths }, (_, index) => {
      const path = new ScriptedPath({
        ...{ id: String.fromCharCode(97 + index), clock, disk },
        ...(latenciesMs[index] === undefined ? {} : { latencyMs: latenciesMs[index] }),
        ...(access === undefined ? {} : { access, portGroup: index + 1 }),
        ...(canSetPortGroups === undefined ? {} : { canSetPortGroups }),
      });
      this.device.addPath(path, {
        rank: index,
        weight: options.weights?.[index] ?? 0,
        isStandby: index >= (options.standbyFrom ?? paths),
      });
      return path;
    });
  }

  /** With all paths up. */
  static async up(options: WorldOptions = {}): Promise<MultipathWorld> {
    const world = new MultipathWorld(options);
    for (const path of world.paths) path.up();
    await world.clock.advance(0);
    return world;
  }

  path(id: string): ScriptedPath {
    const path = this.paths.find((other) => other.id === id);
    if (path === undefined) throw new Error(`no path ${id}`);
    return path;
  }

  status(id: string): PathStatus {
    const status = this.device.status().paths.find((other) => other.id === id);
    if (status === undefined) throw new Error(`no path ${id}`);
    return status;
  }

  states(): string {
    return this.device
      .status()
      .paths.map(({ id, state }) => `${id} ${state}`)
      .join(", ");
  }

  /** One block; resolves to the outcome when it is there. */
  read(offsetBytes = 0): Outcome {
    return new Outcome(this.device.read(offsetBytes, Buffer.alloc(BLOCK)));
  }

  write(offsetBytes = 0, fill = 1): Outcome {
    return new Outcome(this.device.write(offsetBytes, Buffer.alloc(BLOCK, fill)));
  }

  /** Requests that each path was given. */
  counts(): Record<string, number> {
    return Object.fromEntries(this.paths.map((path) => [path.id, path.requests.length]));
  }

  kinds(): string[] {
    return this.pathEvents.map(({ kind, pathId }) => (pathId === "" ? kind : `${kind} ${pathId}`));
  }

  forgetEvents(): void {
    this.pathEvents.length = 0;
    this.deviceEvents.length = 0;
  }
}

/** What has become of a promise so far. */
export class Outcome {
  state: "pending" | "done" | "failed" = "pending";
  error: unknown;

  constructor(promise: Promise<unknown>) {
    promise.then(
      () => (this.state = "done"),
      (error: unknown) => {
        this.state = "failed";
        this.error = error;
      },
    );
  }
}
