import type { ConnectedVolume } from "../../../src/initiator/connect-volume.js";
import { sleep } from "../../../src/base/clock.js";
import { errorCode } from "../../../src/base/errors.js";
import type { PathControl, PathEvent } from "../../../src/multipath/status.js";
import { formatEndpoint } from "../../../src/transport/socket-errors.js";
import { BLOCK_BYTES, DiskModel } from "../disk-model.js";
import { Findings } from "../findings.js";
import { fork } from "../plan.js";
import { SimClock } from "../sim-clock.js";
import { SimDisk } from "../sim-disk.js";
import { Trace } from "../trace.js";
import { CapacityLie } from "./capacity-lie.js";
import { PathChecks } from "./path-checks.js";
import { PathFaultRunner } from "./path-fault-runner.js";
import type { PathFaultKind } from "./path-faults.js";
import { PathNetwork } from "./path-network.js";
import { PathNode } from "./path-node.js";
import { PathObserver } from "./path-observer.js";
import { drawPathPlan, type PathPlan, SOURCES } from "./path-plan.js";
import { PathRival, reservationOf } from "./path-rival.js";
import { PathTarget, UNIT_ID } from "./path-target.js";
import { PathWorkload } from "./path-workload.js";

const ISID = Buffer.from("80c0ffee0001", "hex");

/** Virtual time after the faults within which everything must be well again, and after that, over. */
const HEAL_LIMIT_MS = 240_000;
const CLOSE_LIMIT_MS = 120_000;
/** A world that is still busy after so many steps runs in circles. */
const MAX_STEPS = 600_000;

export interface PathWorldResult {
  readonly seed: number;
  readonly plan: PathPlan;
  readonly hash: string;
  readonly violations: readonly string[];
  readonly checked: Readonly<Record<string, number>>;
  readonly fired: Readonly<Partial<Record<PathFaultKind, number>>>;
  readonly recovery: Readonly<Record<string, number>>;
  readonly targetRecovery: Readonly<Record<string, number>>;
  readonly changes: Readonly<Record<string, number>>;
  readonly operations: number;
  readonly failures: Readonly<Record<string, number>>;
  readonly virtualMs: number;
  readonly longestMs: number;
}

export interface PathWorldOptions {
  /** Takes the trace, line by line. */
  readonly print?: (line: string) => void;
  /** Instead of what the seed draws. */
  readonly plan?: PathPlan;
}

/** One seed of several paths: a target with portals and groups, a node with a volume, another node, and what goes wrong. */
export class PathWorld {
  readonly plan: PathPlan;
  readonly #clock = new SimClock();
  readonly #trace: Trace;
  readonly #findings: Findings;
  readonly #fired: Partial<Record<PathFaultKind, number>> = {};
  readonly #events: Record<string, number> = {};
  readonly #lie: CapacityLie;
  readonly #network: PathNetwork;
  readonly #observer: PathObserver;
  readonly #disk: SimDisk;
  readonly #target: PathTarget;
  readonly #faults: PathFaultRunner;
  readonly #model: DiskModel;
  readonly #node: PathNode;
  readonly #rival: PathRival;
  readonly #workload: PathWorkload;
  readonly #checks: PathChecks;
  #isClosing = false;

  constructor(seed: number, options: PathWorldOptions = {}) {
    const plan = options.plan ?? drawPathPlan(seed);
    this.plan = plan;
    const clock = this.#clock;
    const nowMs = (): number => clock.nowMs();
    this.#trace = new Trace(nowMs, options.print);
    this.#findings = new Findings(nowMs);
    clock.onCrash = (error) => this.#crashed("a callback", error);
    const report = (violation: string): void => this.#findings.report(violation);
    const note = (text: string): void => this.#trace.note(text);
    this.#lie = new CapacityLie(plan.blocks);
    const portals = [...plan.portals, ...(plan.sparePortal === undefined ? [] : [plan.sparePortal])];
    const groups = new Map(portals.map(({ host, port, portalGroupTag }) => [`${host}:${port}`, portalGroupTag]));
    this.#observer = new PathObserver({
      findings: this.#findings,
      trace: this.#trace,
      nowMs,
      network: () => this.#network,
      groupOf: (portal) => groups.get(portal),
    });
    this.#network = new PathNetwork(
      {
        sources: SOURCES.map(({ address }) => address),
        behaviour: (endpoint) => this.#behaviour(formatEndpoint(endpoint)),
        observer: this.#observer,
        tamper: (edge, pdu) => this.#lie.apply(edge, pdu),
        keepsBytes: () => plan.keepsBytes,
      },
      { clock, random: fork(plan.seed, "network") },
    );
    this.#disk = new SimDisk(
      { sizeBytes: plan.blocks * BLOCK_BYTES, id: UNIT_ID, delayMs: plan.diskDelayMs },
      { clock, random: fork(plan.seed, "disk") },
    );
    const shared = { clock, network: this.#network, logger: this.#trace.logger("target"), report };
    this.#target = new PathTarget(plan, { ...shared, random: fork(plan.seed, "target"), disk: this.#disk });
    this.#model = new DiskModel(plan.blocks + plan.grownBlocks, plan.seed);
    this.#checks = new PathChecks({ plan, findings: this.#findings, lie: this.#lie, network: this.#network });
    this.#node = new PathNode(
      {
        plan,
        name: "node",
        isid: ISID,
        reservation: (isTakeOver) => (plan.isReserved ? reservationOf("node", isTakeOver) : undefined),
        mayFail: () => plan.faults.length > 0,
        isOver: () => this.#isClosing || this.#rival.hasTried,
      },
      {
        ...{ clock, network: this.#network, note },
        logger: this.#trace.logger("node"),
        onOpened: (volume, isRestart) => this.#onOpened(volume, isRestart),
      },
    );
    this.#workload = new PathWorkload({
      ...{ plan, clock, report, note },
      model: this.#model,
      volume: () => this.#node.opened(),
      isTaken: () => this.#rival.hasTaken,
      onTouched: (pathId) => this.#checks.touchPath(pathId),
    });
    this.#rival = new PathRival({
      ...{ plan, clock, report, note },
      network: this.#network,
      logger: this.#trace.logger("rival"),
      model: this.#model,
      holder: () => this.#node.volume,
      onFired: (kind) => this.#onFired(kind),
      onTaken: () => this.#workload.settleOpen(),
    });
    this.#faults = this.#createFaults();
  }

  async run(): Promise<PathWorldResult> {
    const onRejection = (error: unknown): void => this.#crashed("a promise nobody waits for", error);
    process.on("unhandledRejection", onRejection);
    try {
      await this.#phase("run", this.#live(), this.plan.spanMs + HEAL_LIMIT_MS);
      await this.#phase("close", this.#close(), this.#clock.nowMs() + CLOSE_LIMIT_MS);
      await this.#clock.run(() => this.#clock.steps > MAX_STEPS, this.#clock.nowMs() + CLOSE_LIMIT_MS);
      this.#checkNothingLeft();
    } finally {
      process.off("unhandledRejection", onRejection);
    }
    const { counts } = this.#workload;
    return {
      seed: this.plan.seed,
      plan: this.plan,
      hash: this.#trace.digest(),
      violations: this.#findings.violations,
      checked: this.#findings.checked,
      fired: this.#fired,
      recovery: { ...this.#observer.counts, ...this.#events },
      targetRecovery: {},
      changes: counts.changes,
      operations: counts.completed,
      failures: { ...counts.failures, ...prefixed("taken: ", counts.refusals) },
      virtualMs: this.#clock.nowMs(),
      longestMs: counts.longestMs,
    };
  }

  #createFaults(): PathFaultRunner {
    return new PathFaultRunner({
      plan: this.plan,
      clock: this.#clock,
      network: this.#network,
      target: this.#target,
      disk: this.#disk,
      lie: this.#lie,
      onFired: (kind) => this.#onFired(kind),
      onTouched: (what) => this.#checks.touch(what),
      grow: () => this.#disk.memory.resize((this.plan.blocks + this.plan.grownBlocks) * BLOCK_BYTES),
      crashProcess: (restartAfterMs) => {
        this.#checks.processGone();
        this.#node.crash(restartAfterMs);
      },
      rivalWrites: () => void this.#rival.write(),
      rivalPreempts: () => void this.#rival.preempt(),
    });
  }

  async #phase(name: string, work: Promise<void>, limitMs: number): Promise<void> {
    const progress = { isDone: false };
    const watched = work.then(
      () => (progress.isDone = true),
      (error: unknown) => {
        progress.isDone = true;
        this.#crashed(`phase ${name}`, error);
      },
    );
    await this.#clock.run(() => progress.isDone || this.#clock.steps > MAX_STEPS, limitMs);
    if (progress.isDone) await watched;
    else this.#findings.report(`phase ${name} is not over after ${Math.round(limitMs)} ms: ${this.#describe()}`);
  }

  async #live(): Promise<void> {
    const { plan } = this;
    await this.#target.ensureRunning();
    this.#faults.schedule(plan.faults);
    const isLiveness = plan.mode === "liveness";
    if (isLiveness) this.#clock.setTimer(plan.spanMs, () => this.#faults.heal());
    // It may be killed before it has the volume: whoever needs that waits for `opened`.
    void this.#node.start();
    const over = this.#workload.run();
    if (!isLiveness) {
      await Promise.race([over, sleep(this.#clock, Math.max(0, plan.spanMs - this.#clock.nowMs()))]);
      return;
    }
    if (plan.faults.length === 0) await this.#watchDistribution(over);
    await over;
    if (!this.#rival.hasTried) {
      await this.#awaitReady();
      await this.#readBack();
    }
    this.#checkFailures();
    this.#checks.checkStalls(this.#workload.counts.longestMs);
  }

  /** After the faults: every path that there can be is back, and the size is what it should be. */
  async #awaitReady(): Promise<void> {
    await sleep(this.#clock, Math.max(0, this.plan.spanMs - this.#clock.nowMs()));
    for (;;) {
      const opened = await this.#node.opened();
      if (opened === undefined || this.#rival.hasTried) return;
      const portals = new Set(this.#target.portals.map(({ host, port }) => `${host}:${port}`));
      const waiting = this.#checks.waitingPaths(opened.paths.status(), portals);
      if (waiting.length === 0 && (await this.#hasRightSize())) return;
      await sleep(this.#clock, 500);
    }
  }

  /** As one who has grown the volume asks for it: the size is that of the unit, once all paths can say so. */
  async #hasRightSize(): Promise<boolean> {
    try {
      const info = await this.#node.volume?.refresh();
      return info?.sizeBytes === this.#disk.memory.info.sizeBytes;
    } catch (error) {
      this.#trace.note(`refreshing failed: ${errorCode(error) ?? String(error)}`);
      return false;
    }
  }

  async #readBack(): Promise<void> {
    const volume = this.#node.volume;
    if (volume === undefined) return;
    const blocks = volume.device.info.sizeBytes / BLOCK_BYTES;
    const read = this.#model.beginRead(0, blocks);
    const target = Buffer.alloc(blocks * BLOCK_BYTES);
    await volume.device.read(0, target);
    for (const complaint of this.#model.endRead(read, target)) this.#findings.report(`read back: ${complaint}`);
  }

  async #watchDistribution(over: Promise<void>): Promise<void> {
    const volume = await this.#node.opened();
    if (volume === undefined || this.plan.isAdministered) return;
    const settleMs = 1_000 * (1 + Math.max(0, this.plan.settings.failbackDelaySeconds ?? 1));
    while (volume.paths.status().paths.some(({ state }) => state !== "up")) await sleep(this.#clock, 100);
    await sleep(this.#clock, settleMs);
    const before = volume.paths.status();
    await over;
    this.#checks.checkDistribution(before, volume.paths.status());
  }

  /** Waiting for a path is no failure: only a limit that was chosen, or another node, may end a request. */
  #checkFailures(): void {
    const { failures } = this.#workload.counts;
    if (this.#rival.hasTried) return;
    if (this.plan.settings.pdoRemovePeriodSeconds !== undefined) return;
    for (const [code, count] of Object.entries(failures)) {
      this.#findings.report(`${count} requests failed with ${code} although a path would come back`);
    }
  }

  async #close(): Promise<void> {
    this.#isClosing = true;
    this.#workload.stop();
    await Promise.all([this.#node.close(), this.#rival.close()]);
    if (this.plan.mode === "liveness") {
      await sleep(this.#clock, 1_000);
      const left = this.#target.server?.sessions() ?? [];
      if (left.length > 0) this.#findings.report(`${left.length} sessions are left at the target`);
    }
    this.#faults.heal();
    await this.#target.stopAll();
  }

  #checkNothingLeft(): void {
    this.#observer.finish();
    this.#checks.checkIsids(this.#observer.isidsOf("node"), this.#node.rememberedPaths);
    const { pending } = this.#clock;
    if (pending > 0) this.#findings.report(`${pending} timers are left`);
    if (this.#network.linkCount > 0) this.#findings.report(`${this.#network.linkCount} connections are left`);
    const size = this.#disk.memory.info.sizeBytes;
    const read = this.#model.beginRead(0, size / BLOCK_BYTES);
    const target = Buffer.alloc(size);
    void this.#disk.memory.read(0, target);
    for (const complaint of this.#model.endRead(read, target)) this.#findings.report(`disk: ${complaint}`);
  }

  #onOpened(volume: ConnectedVolume & { readonly paths: PathControl }, isRestart: boolean): void {
    // What the process before had asked for is over now, or must never be.
    if (isRestart) {
      this.#workload.settleOpen();
      this.#countEvent("process restarted");
    }
    volume.paths.onPathEvent((event) => this.#onPathEvent(event));
    volume.device.onEvent(({ kind }) => {
      this.#trace.note(`device ${kind}`);
      if (kind === "info-changed") this.#checks.checkGrowth(volume.device.info.sizeBytes, volume.paths.status());
    });
    this.#checks.checkGrowth(volume.device.info.sizeBytes, volume.paths.status());
  }

  #onPathEvent({ kind, pathId, message }: PathEvent): void {
    this.#trace.note(`path ${kind} ${pathId} ${message}`);
    this.#countEvent(kind);
  }

  #countEvent(kind: string): void {
    this.#events[kind] = (this.#events[kind] ?? 0) + 1;
  }

  #behaviour(portal: string): { readonly delayMs: readonly [number, number]; readonly maxChunkBytes?: number } {
    const { linkDelaysMs, maxChunkBytes, portals } = this.plan;
    const index = portals.findIndex(({ host, port }) => `${host}:${port}` === portal);
    const delayMs = linkDelaysMs.at(index) ?? [0, 0];
    return { delayMs, ...(maxChunkBytes === undefined ? {} : { maxChunkBytes }) };
  }

  #onFired(kind: PathFaultKind): void {
    this.#fired[kind] = (this.#fired[kind] ?? 0) + 1;
    this.#trace.note(`fault ${kind}`);
  }

  #crashed(where: string, error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#findings.report(`${where} threw ${errorCode(error) ?? ""} ${text}`);
  }

  #describe(): string {
    const status = this.#node.volume?.paths?.status();
    if (status === undefined) return "no volume";
    const paths = status.paths.map(({ id, state, reason, accessState, requestsInFlight }) => {
      return `${id} ${state} ${accessState ?? ""} ${requestsInFlight} in flight ${reason}`;
    });
    return `${status.policy}, ${status.heldRequests} held; ${paths.join("; ")}`;
  }
}

function prefixed(prefix: string, counts: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).map(([name, count]) => [`${prefix}${name}`, count]));
}
