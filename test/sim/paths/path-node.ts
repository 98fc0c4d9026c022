import { createDeferred, type Deferred } from "../../../src/base/deferred.js";
import { sleep } from "../../../src/base/clock.js";
import { errorCode } from "../../../src/base/errors.js";
import type { Logger } from "../../../src/base/logger.js";
import {
  type ConnectedVolume,
  connectVolume,
  type ConnectVolumeDependencies,
  type ConnectVolumeRequest,
} from "../../../src/initiator/connect-volume.js";
import type { PathControl } from "../../../src/multipath/status.js";
import { fork } from "../plan.js";
import type { SimClock } from "../sim-clock.js";
import { LUN_NUMBER, TARGET_NAME } from "../sim-target.js";
import { nodeInterfaces } from "./node-interfaces.js";
import type { PathNetwork } from "./path-network.js";
import type { PathPlan } from "./path-plan.js";
import { UNIT_ID } from "./path-target.js";
import type { OpenVolume } from "./path-workload.js";
import { SimProcess } from "./sim-process.js";

const RETRY_MS = 2_000;

export interface PathNodeOptions {
  readonly plan: PathPlan;
  readonly name: string;
  readonly isid: Buffer;
  /** How the unit is reserved by a process that is the first of its node, or takes over from one that is gone. */
  readonly reservation: (isTakeOver: boolean) => ConnectVolumeRequest["reservation"];
  /** Something has gone wrong already, or may: a volume that cannot be reached is tried again. */
  readonly mayFail: () => boolean;
  /** It has become pointless to try. */
  readonly isOver: () => boolean;
}

export interface PathNodeDependencies {
  readonly clock: SimClock;
  readonly network: PathNetwork;
  readonly logger: Logger;
  readonly note: (text: string) => void;
  /** A volume is there, made by a process; before anybody else uses it. */
  readonly onOpened: (volume: ConnectedVolume & { readonly paths: PathControl }, isRestart: boolean) => void;
}

/** A node that has the volume: one process after the other, each with the ISIDs of the one before. */
export class PathNode {
  readonly #options: PathNodeOptions;
  readonly #deps: PathNodeDependencies;
  #process: SimProcess;
  #current: Deferred<OpenVolume | undefined> = createDeferred();
  #volume: ConnectedVolume | undefined;
  #isOpen = false;
  #starts = 0;
  readonly #stop = new AbortController();
  /** Kept by the record of the volume: paths of all processes so far. */
  #remembered: readonly string[] = [];

  constructor(options: PathNodeOptions, dependencies: PathNodeDependencies) {
    this.#options = options;
    this.#deps = dependencies;
    this.#process = new SimProcess(options.name, dependencies.clock);
  }

  get volume(): ConnectedVolume | undefined {
    return this.#volume;
  }

  /** Paths that its processes have made so far. */
  get rememberedPaths(): number {
    return this.#remembered.length;
  }

  /** Resolves with the volume of the process that runs, once it has it; with undefined when there will be none. */
  opened(): Promise<OpenVolume | undefined> {
    return this.#current.promise;
  }

  /** Opens the volume. Resolves when it is there, or when that is over. */
  async start(): Promise<void> {
    const { mayFail, isOver } = this.#options;
    const { note, onOpened } = this.#deps;
    const process = this.#process;
    const isRestart = this.#starts > 0;
    this.#starts += 1;
    for (;;) {
      try {
        const volume = await connectVolume(this.#request(isRestart), this.#dependencies(process), this.#stop.signal);
        const { paths } = volume;
        if (paths === undefined) throw new Error("a volume of several paths says nothing of them");
        note(`${process.name} has the volume`);
        this.#volume = volume;
        this.#isOpen = true;
        onOpened({ ...volume, paths }, isRestart);
        this.#current.resolve({ device: volume.device, paths, death: process.death });
        return;
      } catch (error) {
        note(`${process.name} cannot open the volume: ${errorCode(error) ?? String(error)}`);
        if (this.#stop.signal.aborted || isOver()) {
          this.#current.resolve(undefined);
          return;
        }
        if (!mayFail()) throw error;
        await sleep(process, RETRY_MS);
      }
    }
  }

  /** The process is gone, and with it whatever it held; another begins later. */
  crash(restartAfterMs: number): void {
    const { clock, note } = this.#deps;
    note(`the process of ${this.#process.name} is killed`);
    this.#process.kill();
    this.#volume = undefined;
    if (this.#isOpen) this.#current = createDeferred();
    this.#isOpen = false;
    this.#process = new SimProcess(this.#options.name, clock);
    const process = this.#process;
    process.setTimer(restartAfterMs, () => void this.start());
  }

  /** Gives the volume back, or gives up opening it. */
  async close(): Promise<void> {
    this.#stop.abort();
    // It may be killed while it closes.
    await Promise.race([this.#volume?.close(), this.#process.death]);
    await this.opened();
  }

  #request(isRestart: boolean): ConnectVolumeRequest {
    const { plan, name, isid } = this.#options;
    const { settings } = plan;
    const reservation = this.#options.reservation(isRestart);
    return {
      portals: plan.portals.map(({ host, port }) => ({ host, port })),
      targetName: TARGET_NAME,
      lun: LUN_NUMBER,
      expectedId: UNIT_ID,
      initiatorName: `iqn.2026-11.sim:${name}`,
      isid,
      headerDigest: plan.headerDigest,
      dataDigest: plan.dataDigest,
      settings,
      timers: {
        loginTimeoutMs: 4_000,
        logoutTimeoutMs: 3_000,
        taskTimeoutMs: plan.taskTimeoutMs,
        abortTimeoutMs: 3_000,
        lunResetTimeoutMs: 4_000,
        targetResetTimeoutMs: 4_000,
      },
      ...(reservation === undefined ? {} : { reservation }),
      hasFormerSessions: isRestart,
      formerPathIds: this.#remembered,
      rememberPaths: (ids) => {
        this.#remembered = [...new Set([...this.#remembered, ...ids])];
        return Promise.resolve();
      },
    };
  }

  #dependencies(process: SimProcess): ConnectVolumeDependencies {
    const { network, logger } = this.#deps;
    return {
      clock: process,
      random: fork(this.#options.plan.seed, `${process.name}-${this.#starts}`),
      dialer: network.dialerOf(process),
      logger,
      interfaces: nodeInterfaces(),
    };
  }
}
