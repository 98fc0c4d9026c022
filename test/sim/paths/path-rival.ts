import { sleep } from "../../../src/base/clock.js";
import { errorCode } from "../../../src/base/errors.js";
import type { Logger } from "../../../src/base/logger.js";
import {
  type ConnectedVolume,
  connectVolume,
  type ConnectVolumeRequest,
} from "../../../src/initiator/connect-volume.js";
import type { ReservationOptions } from "../../../src/initiator/volume-reservation.js";
import { BLOCK_BYTES, type DiskModel } from "../disk-model.js";
import { Draw, fork } from "../plan.js";
import type { SimClock } from "../sim-clock.js";
import { LUN_NUMBER, TARGET_NAME } from "../sim-target.js";
import type { PathFaultKind } from "./path-faults.js";
import type { PathNetwork } from "./path-network.js";
import type { PathPlan } from "./path-plan.js";
import { UNIT_ID } from "./path-target.js";
import { SimProcess } from "./sim-process.js";

const RIVAL_ISID = Buffer.from("80beef000002", "hex");
const ATTEMPT_MS = 15_000;
const RIVAL_WRITES = 12;
const KEYS = { node: "6877000000000001", rival: "6877000000000002" } as const;

/** How a node reserves the unit. After a restart it goes on with what it had, or finds that it has lost it. */
export function reservationOf(node: keyof typeof KEYS, isTakeOver: boolean): ReservationOptions {
  const initiatorName = `iqn.2026-11.sim:${node}`;
  return { mode: "required", key: KEYS[node], initiatorName, isShared: false, isTakeOver };
}

export interface PathRivalContext {
  readonly plan: PathPlan;
  readonly clock: SimClock;
  readonly network: PathNetwork;
  readonly logger: Logger;
  readonly model: DiskModel;
  /** The volume as the first node has it; undefined while it has none. */
  readonly holder: () => ConnectedVolume | undefined;
  readonly onFired: (kind: PathFaultKind) => void;
  /** From now on nothing of what the first node was asked for may be carried out. */
  readonly onTaken: () => void;
  readonly report: (violation: string) => void;
  readonly note: (text: string) => void;
}

/** Another node that wants the unit: without a right to it, or because it believes that the first one is dead. */
export class PathRival {
  readonly #context: PathRivalContext;
  readonly #process: SimProcess;
  readonly #volumes = new Set<ConnectedVolume>();
  readonly #stop = new AbortController();
  #running: Promise<unknown> = Promise.resolve();
  #hasTried = false;
  #hasTaken = false;

  constructor(context: PathRivalContext) {
    this.#context = context;
    this.#process = new SimProcess("rival", context.clock);
  }

  /** It has begun to take the unit: the first node may have lost it, or not. */
  get hasTried(): boolean {
    return this.#hasTried;
  }

  /** The unit is the rival's. */
  get hasTaken(): boolean {
    return this.#hasTaken;
  }

  /** Writes without asking: the target must refuse it. */
  write(): Promise<void> {
    return this.#after(() => this.#intrude());
  }

  /** Takes the unit away from the first node, and writes to it. */
  preempt(): Promise<void> {
    return this.#after(() => this.#takeOver());
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await Promise.all([...this.#volumes].map((volume) => volume.close()));
  }

  #after(act: () => Promise<void>): Promise<void> {
    const running = this.#running.then(act);
    this.#running = running.catch(() => undefined);
    return running;
  }

  async #intrude(): Promise<void> {
    const { holder, onFired, report, note } = this.#context;
    const volume = await this.#open(undefined);
    if (volume === undefined) return;
    const before = holder();
    if (before?.reservation?.().state === "held" && !this.#hasTaken) {
      onFired("rival-writes");
      const gaveUp = sleep(this.#process, ATTEMPT_MS).then(() => "waits");
      const outcome = await Promise.race([outcomeOf(volume.device.write(0, Buffer.alloc(BLOCK_BYTES, 0xa5))), gaveUp]);
      note(`the rival's write: ${outcome}`);
      const isHeld = holder() === before;
      if (outcome === "done" && isHeld) report("another node wrote to the unit while it was reserved");
    }
    this.#volumes.delete(volume);
    await volume.close();
  }

  async #takeOver(): Promise<void> {
    const { holder, onFired, onTaken, model, plan } = this.#context;
    if (holder() === undefined || this.#hasTaken) return;
    this.#hasTried = true;
    const volume = await this.#open(reservationOf("rival", false));
    if (volume === undefined) return;
    onFired("rival-preempts");
    this.#hasTaken = true;
    onTaken();
    const draw = new Draw(fork(plan.seed, "rival"));
    for (let index = 0; index < RIVAL_WRITES && !this.#stop.signal.aborted; index += 1) {
      const blocks = Math.min(plan.blocks, draw.between(1, 8));
      const first = draw.between(0, plan.blocks - blocks);
      const operation = model.beginWrite("write", first, blocks);
      const outcome = await outcomeOf(volume.device.write(first * BLOCK_BYTES, model.fill(operation)));
      if (outcome === "done") model.acknowledge(operation);
      else model.fail(operation);
      await sleep(this.#process, plan.thinkMs * draw.random.fraction());
    }
  }

  async #open(reservation: ReservationOptions | undefined): Promise<ConnectedVolume | undefined> {
    const { plan, network, logger, note } = this.#context;
    try {
      const volume = await connectVolume(
        this.#request(reservation),
        {
          clock: this.#process,
          random: fork(plan.seed, "rival-random"),
          dialer: network.dialerOf(this.#process),
          logger,
        },
        this.#stop.signal,
      );
      this.#volumes.add(volume);
      return volume;
    } catch (error) {
      note(`the rival cannot open the volume: ${errorCode(error) ?? String(error)}`);
      return undefined;
    }
  }

  #request(reservation: ReservationOptions | undefined): ConnectVolumeRequest {
    const { plan } = this.#context;
    return {
      portals: plan.portals.map(({ host, port }) => ({ host, port })),
      targetName: TARGET_NAME,
      lun: LUN_NUMBER,
      expectedId: UNIT_ID,
      initiatorName: "iqn.2026-11.sim:rival",
      isid: RIVAL_ISID,
      headerDigest: "none",
      dataDigest: "none",
      settings: { multipath: "mpio", tcpConnectTimeSeconds: 3, nopOutIntervalSeconds: 2, nopOutTimeoutSeconds: 2 },
      ...(reservation === undefined ? {} : { reservation }),
    };
  }
}

/** `done`, or the code of what went wrong. */
function outcomeOf(work: Promise<void>): Promise<string> {
  return work.then(
    () => "done",
    (error: unknown) => errorCode(error) ?? String(error),
  );
}
