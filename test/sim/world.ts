import type { PortalAddress } from "../../src/base/access.js";
import { sleep } from "../../src/base/clock.js";
import { errorCode } from "../../src/base/errors.js";
import { lunFromNumber } from "../../src/base/lun.js";
import type { BlockDevice } from "../../src/block/device.js";
import { openIscsiLun } from "../../src/block/iscsi-lun.js";
import { splitFilter } from "../../src/block/split.js";
import { validateFilter } from "../../src/block/validate.js";
import type { RecoveryCounters } from "../../src/session/session-events.js";
import type { SessionDependencies, SessionOptions } from "../../src/session/session-options.js";
import { Session } from "../../src/session/session.js";
import type { LinkBehaviour } from "../../src/transport/memory.js";
import { BLOCK_BYTES, DiskModel } from "./disk-model.js";
import type { FaultKind } from "./fault-plan.js";
import { FaultRunner } from "./fault-runner.js";
import { Findings } from "./findings.js";
import { InitiatorRules } from "./initiator-rules.js";
import { SimNetwork } from "./network.js";
import type { PduView } from "./pdu-view.js";
import { drawPlan, fork, type Plan } from "./plan.js";
import { SimClock } from "./sim-clock.js";
import { SimDisk } from "./sim-disk.js";
import { LUN_NUMBER, SimTarget, TARGET_NAME } from "./sim-target.js";
import { Tampering } from "./tampering.js";
import { TargetRules } from "./target-rules.js";
import { Trace } from "./trace.js";
import type { Edge, Wire } from "./wire.js";
import { Workload } from "./workload.js";

const INITIATOR_NAME = "iqn.2026-11.sim:host";
const UNIT_ID = "naa.60014051111111111111111111111111";
const ISID = Buffer.from("80a1b2c3d4e5", "hex");

/** Virtual time after the faults within which everything must be well again, and after that, over. */
const HEAL_LIMIT_MS = 240_000;
const CLOSE_LIMIT_MS = 120_000;
/** Longer than any Time2Wait a world agrees on: a session that is opened anew knows nothing of the one before. */
const REOPEN_WAIT_MS = 5_000;
/** A world that is still busy after so many steps runs in circles. */
const MAX_STEPS = 600_000;

export interface WorldResult {
  readonly seed: number;
  readonly plan: Plan;
  readonly hash: string;
  readonly violations: readonly string[];
  /** Rules by how often they were looked at. */
  readonly checked: Readonly<Record<string, number>>;
  readonly fired: Readonly<Partial<Record<FaultKind | "cut-after-bytes", number>>>;
  readonly recovery: Readonly<Partial<RecoveryCounters>>;
  /** What the target has repaired. */
  readonly targetRecovery: Readonly<Record<string, number>>;
  readonly changes: Readonly<Record<string, number>>;
  readonly operations: number;
  readonly failures: Readonly<Record<string, number>>;
  readonly virtualMs: number;
  readonly steps: number;
}

export interface WorldOptions {
  /** Takes the trace, line by line. */
  readonly print?: (line: string) => void;
  /** Instead of what the seed draws. */
  readonly plan?: Plan;
}

/** One seed: a target, an initiator, a network between them, users, and what goes wrong. Runs once. */
export class SimWorld {
  readonly plan: Plan;
  readonly #clock = new SimClock();
  readonly #trace: Trace;
  readonly #findings: Findings;
  readonly #rules: { readonly initiator: InitiatorRules; readonly target: TargetRules };
  readonly #fired: Partial<Record<FaultKind | "cut-after-bytes", number>> = {};
  readonly #tampering: Tampering;
  readonly #network: SimNetwork;
  readonly #disk: SimDisk;
  readonly #target: SimTarget;
  readonly #faults: FaultRunner;
  readonly #model: DiskModel;
  readonly #workload: Workload;
  readonly #portals: readonly PortalAddress[];
  readonly #dependencies: SessionDependencies;
  #session: Session | undefined;
  #device: BlockDevice | undefined;

  constructor(seed: number, options: WorldOptions = {}) {
    const plan = options.plan ?? drawPlan(seed);
    this.plan = plan;
    const clock = this.#clock;
    const nowMs = (): number => clock.nowMs();
    this.#trace = new Trace(nowMs, options.print);
    this.#findings = new Findings(nowMs);
    this.#rules = {
      initiator: new InitiatorRules(this.#findings, nowMs),
      target: new TargetRules(this.#findings),
    };
    clock.onCrash = (error) => this.#crashed("a callback", error);
    const onFired = (kind: FaultKind): void => this.#onFired(kind);
    this.#tampering = new Tampering({ cmdSnShift: plan.cmdSnShift, onFired }, { clock });
    this.#network = new SimNetwork(
      {
        behaviour: (wireId) => this.#behaviour(wireId),
        observer: this.#observer(),
        tamper: (edge, pdu) => this.#tampering.apply(edge, pdu),
      },
      { clock, random: fork(plan.seed, "network") },
    );
    this.#portals = Array.from({ length: plan.portals }, (_, index) => ({ host: `p${index + 1}`, port: 3260 }));
    this.#disk = new SimDisk(
      { sizeBytes: plan.blocks * BLOCK_BYTES, id: UNIT_ID, delayMs: plan.diskDelayMs },
      { clock, random: fork(plan.seed, "disk") },
    );
    this.#target = new SimTarget(plan, this.#portals, {
      clock,
      random: fork(plan.seed, "target"),
      network: this.#network,
      logger: this.#trace.logger("target"),
      disk: this.#disk,
    });
    this.#faults = new FaultRunner({
      clock,
      network: this.#network,
      tampering: this.#tampering,
      target: this.#target,
      disk: this.#disk,
      portals: this.#portals.map(({ host, port }) => `${host}:${port}`),
      onFired,
    });
    this.#model = new DiskModel(plan.blocks, plan.seed);
    this.#dependencies = {
      clock,
      random: fork(plan.seed, "initiator"),
      dialer: this.#network,
      logger: this.#trace.logger("initiator"),
    };
    this.#workload = new Workload({
      plan,
      clock,
      model: this.#model,
      session: () => this.#requireSession(),
      device: () => this.#requireDevice(),
      report: (violation) => this.#findings.report(violation),
      note: (text) => this.#trace.note(text),
    });
  }

  async run(): Promise<WorldResult> {
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
    const { violations, checked } = this.#findings;
    return {
      seed: this.plan.seed,
      plan: this.plan,
      hash: this.#trace.digest(),
      violations,
      checked,
      fired: this.#fired,
      recovery: this.#session?.status().recovery ?? {},
      targetRecovery: this.#target.recoveryTally(),
      changes: this.#workload.counts.changes,
      operations: this.#workload.counts.completed,
      failures: this.#workload.counts.failures,
      virtualMs: this.#clock.nowMs(),
      steps: this.#clock.steps,
    };
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
    else this.#findings.report(`phase ${name} is not over after ${limitMs} ms: ${this.#describeSession()}`);
  }

  async #live(): Promise<void> {
    const { plan } = this;
    await this.#target.ensureRunning();
    this.#faults.schedule(plan.faults);
    const isLiveness = plan.mode === "liveness";
    if (isLiveness) this.#clock.setTimer(plan.spanMs, () => this.#faults.heal());
    const isOpen = await this.#open();
    if (!isOpen) return;
    const over = this.#workload.run();
    if (!isLiveness) {
      await Promise.race([over, sleep(this.#clock, Math.max(0, plan.spanMs - this.#clock.nowMs()))]);
      return;
    }
    await over;
    await this.#awaitReady();
    await this.#readBack();
    this.#checkFailures();
  }

  /** Opens the session and its unit; tries again while faults may have been in the way. */
  async #open(): Promise<boolean> {
    const { plan } = this;
    for (;;) {
      try {
        const session = await Session.open(this.#sessionOptions(), this.#dependencies);
        this.#session = session;
        session.events.on((event) => this.#trace.note(`event ${event.kind}`));
        const unit = await openIscsiLun(
          session,
          { lun: lunFromNumber(LUN_NUMBER), expectedId: UNIT_ID },
          this.#dependencies,
        );
        this.#device = validateFilter(splitFilter(unit));
        return true;
      } catch (error) {
        this.#trace.note(`opening failed: ${errorCode(error) ?? String(error)}`);
        this.#session?.close();
        if (plan.faults.length === 0 && plan.cuts.size === 0) throw error;
        if (plan.mode === "safety" && this.#clock.nowMs() > plan.spanMs) return false;
        await sleep(this.#clock, REOPEN_WAIT_MS);
      }
    }
  }

  #sessionOptions(): SessionOptions {
    const { plan } = this;
    const [portal, ...others] = this.#portals;
    if (portal === undefined) throw new RangeError("a world has a portal");
    return {
      portal,
      alternatePortals: others,
      targetName: TARGET_NAME,
      initiatorName: INITIATOR_NAME,
      isid: ISID,
      headerDigest: plan.headerDigest,
      dataDigest: plan.dataDigest,
      maxTasks: plan.maxTasks,
      additionalConnections: Array.from({ length: plan.connections - 1 }, (_, index) => ({
        portal: this.#portals[(index + 1) % this.#portals.length] ?? portal,
        weight: index,
        isStandby: index % 2 === 1,
      })),
      policy: plan.policy,
      errorRecoveryLevel: plan.errorRecoveryLevel,
      offers: plan.initiatorOffers,
      timers: {
        connectTimeoutMs: 3_000,
        loginTimeoutMs: 5_000,
        logoutTimeoutMs: 5_000,
        textTimeoutMs: 5_000,
        nopIntervalMs: 2_000,
        nopTimeoutMs: 2_000,
        taskTimeoutMs: plan.taskTimeoutMs,
        abortTimeoutMs: 4_000,
        lunResetTimeoutMs: 5_000,
        targetResetTimeoutMs: 5_000,
        reconnectMaximumMs: 5_000,
      },
    };
  }

  /** After the faults: back at work on every connection that was planned, within bounded time. */
  async #awaitReady(): Promise<void> {
    for (;;) {
      const { state, connections, maxConnections } = this.#requireSession().status();
      const wanted = Math.min(this.#workload.wantedConnections, maxConnections);
      if (state === "ready" && connections.length >= wanted) return;
      await sleep(this.#clock, 500);
    }
  }

  async #readBack(): Promise<void> {
    const read = this.#model.beginRead(0, this.plan.blocks);
    const target = Buffer.alloc(this.plan.blocks * BLOCK_BYTES);
    await this.#requireDevice().read(0, target);
    for (const complaint of this.#model.endRead(read, target)) this.#findings.report(`read back: ${complaint}`);
  }

  /** Waiting for a path is no failure: only what the target refused may fail. */
  #checkFailures(): void {
    const { failures } = this.#workload.counts;
    if ((this.#fired["reject-command"] ?? 0) > 0) return;
    for (const [code, count] of Object.entries(failures)) {
      this.#findings.report(`${count} operations failed with ${code} although nothing was refused`);
    }
  }

  async #close(): Promise<void> {
    this.#workload.stop();
    if (this.plan.mode === "liveness") {
      await this.#device?.close();
      await this.#session?.logout().catch((error: unknown) => {
        this.#trace.note(`logout failed: ${errorCode(error) ?? ""}`);
      });
    } else {
      this.#session?.close();
      await this.#device?.close();
    }
    this.#faults.heal();
    await this.#target.stop();
  }

  #checkNothingLeft(): void {
    this.#rules.initiator.finish();
    const { pending } = this.#clock;
    if (pending > 0) this.#findings.report(`${pending} timers are left`);
    if (this.#network.linkCount > 0) this.#findings.report(`${this.#network.linkCount} connections are left`);
    const status = this.#session?.status();
    if (status !== undefined && status.state !== "closed") this.#findings.report(`the session is ${status.state}`);
    if (status !== undefined && status.commandsInFlight + status.commandsQueued > 0) {
      this.#findings.report(`tasks are left: ${status.commandsInFlight} in flight, ${status.commandsQueued} queued`);
    }
    const read = this.#model.beginRead(0, this.plan.blocks);
    const target = Buffer.alloc(this.plan.blocks * BLOCK_BYTES);
    void this.#disk.memory.read(0, target);
    for (const complaint of this.#model.endRead(read, target)) this.#findings.report(`disk: ${complaint}`);
  }

  #behaviour(wireId: number): LinkBehaviour {
    const { linkDelayMs, maxChunkBytes, cuts } = this.plan;
    const cut = cuts.get(wireId);
    const base = { delayMs: linkDelayMs, ...(maxChunkBytes === undefined ? {} : { maxChunkBytes }) };
    if (cut === undefined) return base;
    const direction = cut.isToTarget ? ("to-listener" as const) : ("to-dialer" as const);
    return {
      ...base,
      cutAfterBytes: { [direction]: cut.afterBytes },
      onDeliver: (chunk, towards, offset) => {
        if (towards === direction && offset + chunk.length >= cut.afterBytes) this.#onFired("cut-after-bytes");
      },
    };
  }

  #observer(): ConstructorParameters<typeof SimNetwork>[0]["observer"] {
    const pdu = (arrow: string, edge: Edge, view: PduView): void => {
      this.#trace.pdu(`${edge.wire.id}${arrow}`, view.bytes.subarray(0, 48), () => view.describe());
    };
    return {
      onOpen: (wire: Wire) => this.#trace.note(`connection ${wire.id} to ${wire.portal}`),
      onSent: (edge, view) => {
        pdu(edge.side === "initiator" ? "I>" : "<T", edge, view);
        this.#rules[edge.side].onSent(edge, view);
      },
      onReceived: (edge, view) => {
        pdu(edge.side === "initiator" ? "I<" : ">T", edge, view);
        this.#rules[edge.side].onReceived(edge, view);
      },
      onClosed: (edge) => {
        this.#trace.note(`connection ${edge.wire.id} closed for the ${edge.side}`);
        if (edge.side === "initiator") this.#rules.initiator.onClosed(edge);
      },
    };
  }

  #onFired(kind: FaultKind | "cut-after-bytes"): void {
    this.#fired[kind] = (this.#fired[kind] ?? 0) + 1;
    this.#trace.note(`fault ${kind}`);
  }

  #crashed(where: string, error: unknown): void {
    this.#findings.report(`${where} threw ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  }

  #describeSession(): string {
    const status = this.#session?.status();
    if (status === undefined) return "no session";
    return `${status.state} (${status.reason}), ${status.commandsInFlight} in flight, ${status.commandsQueued} queued`;
  }

  #requireSession(): Session {
    if (this.#session === undefined) throw new Error("there is no session yet");
    return this.#session;
  }

  #requireDevice(): BlockDevice {
    if (this.#device === undefined) throw new Error("there is no device yet");
    return this.#device;
  }
}
