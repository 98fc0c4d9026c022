import { sleep } from "../../../src/base/clock.js";
import { AppError, errorCode } from "../../../src/base/errors.js";
import type { BlockDevice } from "../../../src/block/device.js";
import { PATH_POLICIES } from "../../../src/multipath/path-policy.js";
import type { PathControl } from "../../../src/multipath/status.js";
import { BLOCK_BYTES, type DiskModel, type ModelOperation } from "../disk-model.js";
import { Draw, fork } from "../plan.js";
import type { SimClock } from "../sim-clock.js";
import type { PathPlan } from "./path-plan.js";

/** The volume as one process of the node has it. */
export interface OpenVolume {
  readonly device: BlockDevice;
  readonly paths: PathControl;
  /** Resolves when the process is no more: nothing it was asked for ends after that. */
  readonly death: Promise<void>;
}

export interface PathWorkloadContext {
  readonly plan: PathPlan;
  readonly clock: SimClock;
  readonly model: DiskModel;
  /** The volume, as soon as there is one; undefined when the world ends before that. */
  readonly volume: () => Promise<OpenVolume | undefined>;
  /** Has another node taken the unit for certain? */
  readonly isTaken: () => boolean;
  /** An operator has taken this path out of service or put it back. */
  readonly onTouched: (pathId: string) => void;
  readonly report: (violation: string) => void;
  /** One line for the trace: part of what a seed's hash is made of. */
  readonly note: (text: string) => void;
}

export interface PathWorkloadCounts {
  completed: number;
  /** Of the requests that ended, in virtual time. */
  longestMs: number;
  /** Requests that began before another node took the unit. */
  readonly failures: Record<string, number>;
  /** Requests that began after that. */
  readonly refusals: Record<string, number>;
  readonly changes: Record<string, number>;
}

type Ending = "done" | "failed" | "process gone";

/** Several users of one volume, each with one request under way at a time, and an administrator of its paths. */
export class PathWorkload {
  readonly counts: PathWorkloadCounts = { completed: 0, longestMs: 0, failures: {}, refusals: {}, changes: {} };
  readonly #context: PathWorkloadContext;
  /** Writes that have not ended: those of a process that is gone stay until it is certain that nothing comes of them. */
  readonly #open = new Set<ModelOperation>();
  #isStopping = false;

  constructor(context: PathWorkloadContext) {
    this.#context = context;
  }

  /** Resolves when every user has done its last request: none begins once `spanMs` are over, or `stop` was called. */
  async run(): Promise<void> {
    const { plan } = this.#context;
    const users = Array.from({ length: plan.workers }, (_, index) => this.#user(index));
    if (plan.isAdministered) users.push(this.#administrator());
    await Promise.all(users);
  }

  stop(): void {
    this.#isStopping = true;
  }

  /** Whatever was under way until now may have been carried out, but nothing of it will be from now on. */
  settleOpen(): void {
    for (const operation of this.#open) this.#context.model.fail(operation);
    this.#open.clear();
  }

  async #user(index: number): Promise<void> {
    const { plan, clock } = this.#context;
    const draw = new Draw(fork(plan.seed, `user-${index}`));
    for (;;) {
      const volume = await this.#context.volume();
      if (volume === undefined || this.#isStopping || clock.nowMs() >= plan.spanMs) return;
      await this.#request(volume, draw, index);
      await sleep(clock, 2 * plan.thinkMs * draw.random.fraction());
    }
  }

  async #administrator(): Promise<void> {
    const { plan, clock } = this.#context;
    const draw = new Draw(fork(plan.seed, "administrator"));
    for (;;) {
      await sleep(clock, (plan.spanMs / 6) * draw.random.fraction());
      const volume = await this.#context.volume();
      if (volume === undefined) return;
      if (this.#isStopping || clock.nowMs() >= plan.spanMs) {
        for (const { id } of volume.paths.status().paths) volume.paths.restorePath(id);
        return;
      }
      this.#change(volume.paths, draw);
    }
  }

  #change(paths: PathControl, draw: Draw): void {
    const { note, onTouched } = this.#context;
    const action = draw.pick(["policy", "fail path", "restore path", "restore path", "weight", "role"] as const);
    const policy = draw.pick(PATH_POLICIES);
    const list = paths.status().paths;
    const path = list[draw.between(0, Math.max(0, list.length - 1))];
    const weight = draw.between(0, 3);
    const isStandby = draw.chance(0.5);
    if (path === undefined) return;
    this.counts.changes[action] = (this.counts.changes[action] ?? 0) + 1;
    note(`change ${action} ${path.id}`);
    try {
      if (action === "policy") paths.setPolicy(policy);
      if (action === "fail path" || action === "restore path") onTouched(path.id);
      if (action === "fail path") paths.failPath(path.id);
      if (action === "restore path") paths.restorePath(path.id);
      if (action === "weight") paths.changePath(path.id, { weight });
      if (action === "role") paths.changePath(path.id, { isStandby });
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      note(`change ${action} failed: ${error.code}`);
    }
  }

  async #request(volume: OpenVolume, draw: Draw, user: number): Promise<void> {
    const { plan } = this.#context;
    const total = Math.min(plan.blocks + plan.grownBlocks, volume.device.info.sizeBytes / BLOCK_BYTES);
    const share = plan.isOverlapping ? total : Math.floor(total / plan.workers);
    const base = plan.isOverlapping ? 0 : share * user;
    const blocks = Math.min(share, draw.between(1, plan.maxBlocksPerOperation));
    const first = base + draw.between(0, share - blocks);
    // Where nothing goes wrong it is counted what goes over which path, and only reads and writes are.
    const dice = draw.random.fraction() * (plan.faults.length === 0 ? 0.88 : 1);
    if (dice < 0.3) await this.#read(volume, first, blocks);
    else if (dice < 0.88) await this.#write(volume, first, blocks, draw.chance(0.1));
    else if (dice < 0.94) await this.#zero(volume, first, blocks, draw.chance(0.5));
    else await this.#attempt(volume, "flush", () => volume.device.flush());
  }

  async #read(volume: OpenVolume, first: number, blocks: number): Promise<void> {
    const { model, report } = this.#context;
    const target = Buffer.alloc(blocks * BLOCK_BYTES, 0xee);
    const read = model.beginRead(first, blocks);
    const act = (): Promise<void> => volume.device.read(first * BLOCK_BYTES, target);
    if ((await this.#attempt(volume, `read ${first}+${blocks}`, act)) !== "done") model.abandonRead(read);
    else for (const complaint of model.endRead(read, target)) report(`read: ${complaint}`);
  }

  async #write(volume: OpenVolume, first: number, blocks: number, fua: boolean): Promise<void> {
    const { model, report } = this.#context;
    const operation = model.beginWrite("write", first, blocks);
    const source = model.fill(operation);
    const text = `write ${operation.content} at ${first}+${blocks}`;
    const ending = await this.#modify(volume, operation, text, () =>
      volume.device.write(first * BLOCK_BYTES, source, { fua }),
    );
    const isWhole = source.equals(model.fill(operation));
    if (ending !== "process gone" && !isWhole) report("the source of a write was changed");
  }

  async #zero(volume: OpenVolume, first: number, blocks: number, isUnmap: boolean): Promise<void> {
    const operation = this.#context.model.beginWrite("zero", first, blocks);
    const range = { offsetBytes: first * BLOCK_BYTES, lengthBytes: blocks * BLOCK_BYTES };
    const { device } = volume;
    await this.#modify(volume, operation, `zero ${first}+${blocks}`, () =>
      isUnmap ? device.unmap([range]) : device.writeZeroes(range, { mayUnmap: true }),
    );
  }

  async #modify(
    volume: OpenVolume,
    operation: ModelOperation,
    text: string,
    act: () => Promise<void>,
  ): Promise<Ending> {
    const { model, report, isTaken } = this.#context;
    const isLate = isTaken();
    this.#open.add(operation);
    const ending = await this.#attempt(volume, text, act);
    if (ending === "process gone") return ending;
    this.#open.delete(operation);
    if (ending === "failed") model.fail(operation);
    else {
      if (isLate) report(`${text} was acknowledged although it began after another node had taken the unit`);
      model.acknowledge(operation);
    }
    return ending;
  }

  async #attempt(volume: OpenVolume, text: string, act: () => Promise<void>): Promise<Ending> {
    const { note, clock, isTaken } = this.#context;
    const isLate = isTaken();
    const startedMs = clock.nowMs();
    note(`begin ${text}`);
    try {
      const gone = volume.death.then(() => "process gone" as const);
      const ending = await Promise.race([act().then(() => "done" as const), gone]);
      note(`${ending} ${text}`);
      if (ending === "process gone") return ending;
      this.counts.completed += 1;
      this.counts.longestMs = Math.max(this.counts.longestMs, clock.nowMs() - startedMs);
      return ending;
    } catch (error) {
      const code = errorCode(error) ?? String(error);
      const failures = isLate ? this.counts.refusals : this.counts.failures;
      failures[code] = (failures[code] ?? 0) + 1;
      note(`failed ${text}: ${code} ${error instanceof Error ? error.message : ""}`);
      return "failed";
    }
  }
}
