import { sleep } from "../../src/base/clock.js";
import { AppError, errorCode } from "../../src/base/errors.js";
import { lunFromNumber } from "../../src/base/lun.js";
import type { BlockDevice } from "../../src/block/device.js";
import { CONNECTION_POLICIES } from "../../src/session/connection-policy.js";
import type { Session } from "../../src/session/session.js";
import { BLOCK_BYTES, type DiskModel } from "./disk-model.js";
import { Draw, fork, type Plan } from "./plan.js";
import type { SimClock } from "./sim-clock.js";
import { LUN_NUMBER } from "./sim-target.js";

/** What a session may ask beside its tasks, to find out whether a unit is the one it was. */
const QUESTIONS = 8;

export interface WorkloadContext {
  readonly plan: Plan;
  readonly clock: SimClock;
  readonly model: DiskModel;
  readonly session: () => Session;
  readonly device: () => BlockDevice;
  readonly report: (violation: string) => void;
  /** One line for the trace: part of what a seed's hash is made of. */
  readonly note: (text: string) => void;
}

export interface WorkloadCounts {
  completed: number;
  failed: number;
  readonly failures: Record<string, number>;
  /** Changes that were tried, by kind. */
  readonly changes: Record<string, number>;
}

/** Several users of one disk, each with one operation under way at a time. */
export class Workload {
  readonly counts: WorkloadCounts = { completed: 0, failed: 0, failures: {}, changes: {} };
  readonly #context: WorkloadContext;
  #isStopping = false;
  #wantedConnections: number;

  constructor(context: WorkloadContext) {
    this.#context = context;
    this.#wantedConnections = context.plan.connections;
  }

  /** As many as were planned, and what has been added and removed since. */
  get wantedConnections(): number {
    return this.#wantedConnections;
  }

  /** Resolves when every user has done its last operation: none begins once `spanMs` are over, or `stop` was called. */
  async run(): Promise<void> {
    const { plan } = this.#context;
    const users = Array.from({ length: plan.workers }, (_, index) => this.#user(index));
    if (plan.isAdministered) users.push(this.#administrator());
    await Promise.all(users);
  }

  stop(): void {
    this.#isStopping = true;
  }

  async #user(index: number): Promise<void> {
    const { plan, clock } = this.#context;
    const draw = new Draw(fork(plan.seed, `user-${index}`));
    while (!this.#isStopping && clock.nowMs() < plan.spanMs) {
      await this.#operation(draw, index);
      await sleep(clock, 2 * plan.thinkMs * draw.random.fraction());
    }
  }

  /** Adds and removes connections and changes the policy while the users go on. */
  async #administrator(): Promise<void> {
    const { plan, clock } = this.#context;
    const draw = new Draw(fork(plan.seed, "administrator"));
    while (!this.#isStopping && clock.nowMs() < plan.spanMs) {
      await sleep(clock, (plan.spanMs / 4) * draw.random.fraction());
      await this.#change(draw);
    }
  }

  async #change(draw: Draw): Promise<void> {
    const { session, note, plan } = this.#context;
    const action = draw.pick(["policy", "add", "remove"] as const);
    const portal = { host: `p${draw.between(1, plan.portals)}`, port: 3260 };
    const policy = draw.pick(CONNECTION_POLICIES);
    const { connections } = session().status();
    const chosen = connections[draw.between(0, Math.max(0, connections.length - 1))];
    this.counts.changes[action] = (this.counts.changes[action] ?? 0) + 1;
    note(`change ${action}`);
    try {
      if (action === "policy") session().setPolicy(policy);
      else if (action === "add") {
        await session().addConnection({ portal, weight: draw.between(0, 3) });
        this.#wantedConnections += 1;
      } else if (chosen !== undefined) {
        await session().removeConnection(chosen.cid);
        this.#wantedConnections -= 1;
      }
      note(`changed ${action}`);
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      note(`change ${action} failed: ${error.code}`);
      // A place that was given up may or may not be gone: one connection there must be in any case.
      if (action === "remove") this.#wantedConnections = Math.max(1, this.#wantedConnections - 1);
    }
  }

  async #operation(draw: Draw, user: number): Promise<void> {
    const { plan } = this.#context;
    const share = plan.isOverlapping ? plan.blocks : Math.floor(plan.blocks / plan.workers);
    const base = plan.isOverlapping ? 0 : share * user;
    const blocks = Math.min(share, draw.between(1, plan.maxBlocksPerOperation));
    const first = base + draw.between(0, share - blocks);
    const dice = draw.random.fraction();
    if (dice < 0.42) await this.#read(first, blocks);
    else if (dice < 0.86) await this.#write(first, blocks, draw.chance(0.1));
    else if (dice < 0.9) await this.#zero(first, blocks, draw.chance(0.5));
    else if (dice < 0.95) await this.#attempt("flush", (device) => device.flush());
    else await this.#testUnitReady();
  }

  async #read(first: number, blocks: number): Promise<void> {
    const { model, report } = this.#context;
    const target = Buffer.alloc(blocks * BLOCK_BYTES, 0xee);
    const read = model.beginRead(first, blocks);
    const isDone = await this.#attempt(`read ${first}+${blocks}`, (device) => device.read(first * BLOCK_BYTES, target));
    if (!isDone) model.abandonRead(read);
    else for (const complaint of model.endRead(read, target)) report(`read: ${complaint}`);
  }

  async #write(first: number, blocks: number, fua: boolean): Promise<void> {
    const { model, report } = this.#context;
    const operation = model.beginWrite("write", first, blocks);
    const source = model.fill(operation);
    const text = `write ${operation.content} at ${first}+${blocks}`;
    const isDone = await this.#attempt(text, (device) => device.write(first * BLOCK_BYTES, source, { fua }));
    if (isDone) model.acknowledge(operation);
    else model.fail(operation);
    if (!source.equals(model.fill(operation))) report("the source of a write was changed");
  }

  async #zero(first: number, blocks: number, isUnmap: boolean): Promise<void> {
    const { model } = this.#context;
    const operation = model.beginWrite("zero", first, blocks);
    const range = { offsetBytes: first * BLOCK_BYTES, lengthBytes: blocks * BLOCK_BYTES };
    const isDone = await this.#attempt(`zero ${first}+${blocks}`, (device) =>
      isUnmap ? device.unmap([range]) : device.writeZeroes(range, { mayUnmap: true }),
    );
    if (isDone) model.acknowledge(operation);
    else model.fail(operation);
  }

  /** A command given to the session itself: it ends once, whatever happens. */
  async #testUnitReady(): Promise<void> {
    const { session, clock, report } = this.#context;
    let ends = 0;
    await this.#attempt("test unit ready", () => {
      return new Promise<void>((resolve) => {
        session().execute({
          lun: lunFromNumber(LUN_NUMBER),
          cdb: Buffer.alloc(6),
          onDone: () => {
            ends += 1;
            if (ends > 1) report("a task ended twice");
            resolve();
          },
        });
        if (ends > 0) report("a task ended before execute had returned");
      });
    });
    await sleep(clock, 0);
  }

  async #attempt(text: string, act: (device: BlockDevice) => Promise<void>): Promise<boolean> {
    const { note, device, session, plan, report } = this.#context;
    note(`begin ${text}`);
    try {
      await act(device());
      this.counts.completed += 1;
      note(`done ${text}`);
      const { commandsInFlight } = session().status();
      const limit = plan.maxTasks + QUESTIONS;
      if (commandsInFlight > limit) report(`${commandsInFlight} tasks at the target, at most ${limit}`);
      return true;
    } catch (error) {
      const code = errorCode(error) ?? String(error);
      this.counts.failed += 1;
      this.counts.failures[code] = (this.counts.failures[code] ?? 0) + 1;
      note(`failed ${text}: ${code} ${error instanceof Error ? error.message : ""}`);
      return false;
    }
  }
}
