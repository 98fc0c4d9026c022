import { Backoff } from "../base/backoff.js";
import { sleep, type Clock } from "../base/clock.js";
import { errorMessage } from "../base/errors.js";
import { MAX_PENDING_EVENTS, MAX_REMEMBERED_EVENTS } from "../base/limits.js";
import type { Logger } from "../base/logger.js";
import type { Random } from "../base/random.js";
import type { EventOutcome, EventRecord, EventsApi, EventSink, KubernetesEvent } from "./events.js";

export interface EventRecorderOptions {
  /** Events of one object, reason and subject within this time are one, with a series; default 10 minutes. */
  readonly seriesWindowMs?: number;
  /** Calls to the API server at once, after a quiet time; default 20. */
  readonly burst?: number;
  /** Calls per second in the long run; default 1. */
  readonly callsPerSecond?: number;
  /** An event that could not be delivered for so long is dropped; default 1 hour, the API server's own limit. */
  readonly maximumAgeMs?: number;
}

export interface EventRecorderDependencies {
  readonly api: EventsApi;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

interface Pending {
  readonly key: string;
  event: KubernetesEvent;
  count: number;
  readonly firstMs: number;
  readonly firstWallMs: number;
  lastWallMs: number;
}

interface Sent {
  readonly record: EventRecord;
  readonly count: number;
  readonly lastMs: number;
}

/** How often dropped events are spoken of. */
const DROP_REPORT_MS = 60_000;
/** Longest name of an object, and what is added to it. */
const MAX_OBJECT_NAME_LENGTH = 253;
const NAME_SUFFIX_LENGTH = 21;

/**
 * Delivers events to the API server, one at a time and not too often, and never keeps anybody waiting: what is
 * reported while the same event waits is counted with it, what does not fit the queue is dropped and counted in the log.
 */
export class EventRecorder implements EventSink {
  readonly #options: Required<EventRecorderOptions>;
  readonly #deps: EventRecorderDependencies;
  /** Oldest first. */
  readonly #pending = new Map<string, Pending>();
  /** What was delivered last of each kind, least recently used first. */
  readonly #sent = new Map<string, Sent>();
  readonly #stop = new AbortController();
  readonly #backoff: Backoff;
  #worker: Promise<void> | undefined;
  #tokens: number;
  #tokensMs: number;
  #dropped = 0;
  #droppedReason = "";
  #dropReportMs = Number.NEGATIVE_INFINITY;

  constructor(options: EventRecorderOptions, dependencies: EventRecorderDependencies) {
    this.#options = {
      ...{ seriesWindowMs: 600_000, burst: 20, callsPerSecond: 1, maximumAgeMs: 3_600_000 },
      ...options,
    };
    this.#deps = dependencies;
    this.#tokens = this.#options.burst;
    this.#tokensMs = dependencies.clock.nowMs();
    this.#backoff = new Backoff({ initialMs: 1_000, maximumMs: 60_000 }, dependencies);
  }

  report(event: KubernetesEvent): void {
    if (this.#stop.signal.aborted) return;
    const { clock } = this.#deps;
    const key = keyOf(event);
    const waiting = this.#pending.get(key);
    if (waiting !== undefined) {
      waiting.event = event;
      waiting.count += 1;
      waiting.lastWallMs = clock.wallTimeMs();
      return;
    }
    if (this.#pending.size >= MAX_PENDING_EVENTS) {
      this.#drop(1, "too many wait for the API server");
      return;
    }
    const firstWallMs = clock.wallTimeMs();
    const times = { firstMs: clock.nowMs(), firstWallMs, lastWallMs: firstWallMs };
    this.#pending.set(key, { key, event, count: 1, ...times });
    this.#worker ??= this.#work();
  }

  /** Resolves when nothing waits any more; only while the API server answers. */
  async idle(): Promise<void> {
    await this.#worker;
  }

  /** Ends it; what still waits is dropped. */
  async close(): Promise<void> {
    this.#stop.abort();
    this.#deps.api.close();
    await this.#worker;
    this.#drop(this.#pending.size, "the process ends");
    this.#pending.clear();
    this.#sayDropped();
  }

  async #work(): Promise<void> {
    try {
      while (!this.#stop.signal.aborted) {
        const next: Pending | undefined = this.#pending.values().next().value;
        if (next === undefined) break;
        await this.#takeToken();
        this.#pending.delete(next.key);
        await this.#deliver(next);
      }
    } catch (error) {
      // Aborted: what waits is dropped by close. Anything else must not end the process over an event.
      if (!this.#stop.signal.aborted) {
        this.#deps.logger.error("delivering Kubernetes events failed", { reason: errorMessage(error) });
      }
    } finally {
      this.#worker = undefined;
    }
  }

  async #deliver(pending: Pending): Promise<void> {
    const outcome = await this.#send(pending);
    switch (outcome.kind) {
      case "done":
      case "gone":
        this.#backoff.reset();
        return;
      case "refused":
        this.#drop(pending.count, outcome.reason);
        return;
      case "retry":
        await this.#postpone(pending, outcome.reason);
    }
  }

  async #send(pending: Pending): Promise<EventOutcome> {
    const { clock, api } = this.#deps;
    const { key, event, count, lastWallMs } = pending;
    const before = this.#sent.get(key);
    if (before !== undefined && clock.nowMs() - before.lastMs < this.#options.seriesWindowMs) {
      const series = { count: before.count + count, lastTimeMs: lastWallMs };
      const outcome = await api.setSeries(before.record, series);
      if (outcome.kind === "done") this.#remember(key, before.record, series.count);
      if (outcome.kind !== "gone") return outcome;
    }
    const record = this.#recordOf(event, pending.firstWallMs);
    const outcome = await api.create(record, count < 2 ? undefined : { count, lastTimeMs: lastWallMs });
    if (outcome.kind === "done") this.#remember(key, record, count);
    return outcome;
  }

  /** Back into the queue, and a pause: what one event met, all others would meet. */
  async #postpone(pending: Pending, reason: string): Promise<void> {
    const { clock, logger } = this.#deps;
    logger.debug("a Kubernetes event cannot be delivered now", { reason });
    if (clock.nowMs() - pending.firstMs > this.#options.maximumAgeMs) {
      this.#drop(pending.count, reason);
    } else {
      const newer = this.#pending.get(pending.key);
      if (newer !== undefined) {
        newer.count += pending.count;
      } else if (this.#pending.size < MAX_PENDING_EVENTS) {
        this.#pending.set(pending.key, pending);
      } else {
        this.#drop(pending.count, reason);
      }
    }
    await sleep(clock, this.#backoff.next(), this.#stop.signal);
  }

  #recordOf(event: KubernetesEvent, timeMs: number): EventRecord {
    const { namespace, name } = event.regarding;
    const suffix = `${timeMs.toString(16)}${this.#deps.random.bytes(4).toString("hex")}`;
    const stem = name.slice(0, MAX_OBJECT_NAME_LENGTH - NAME_SUFFIX_LENGTH).replace(/[.-]+$/, "");
    return { ...event, name: `${stem}.${suffix}`, namespace: namespace === "" ? "default" : namespace, timeMs };
  }

  #remember(key: string, record: EventRecord, count: number): void {
    this.#sent.delete(key);
    this.#sent.set(key, { record, count, lastMs: this.#deps.clock.nowMs() });
    const oldest = this.#sent.keys().next().value;
    if (this.#sent.size > MAX_REMEMBERED_EVENTS && oldest !== undefined) this.#sent.delete(oldest);
  }

  async #takeToken(): Promise<void> {
    const { burst, callsPerSecond } = this.#options;
    const { clock } = this.#deps;
    const nowMs = clock.nowMs();
    this.#tokens = Math.min(burst, this.#tokens + ((nowMs - this.#tokensMs) / 1_000) * callsPerSecond);
    this.#tokensMs = nowMs;
    this.#tokens -= 1;
    if (this.#tokens < 0) await sleep(clock, (-this.#tokens / callsPerSecond) * 1_000, this.#stop.signal);
  }

  #drop(count: number, reason: string): void {
    if (count === 0) return;
    this.#dropped += count;
    this.#droppedReason = reason;
    if (this.#deps.clock.nowMs() - this.#dropReportMs >= DROP_REPORT_MS) this.#sayDropped();
  }

  #sayDropped(): void {
    if (this.#dropped === 0) return;
    this.#deps.logger.warn("Kubernetes events were dropped", { count: this.#dropped, reason: this.#droppedReason });
    this.#dropped = 0;
    this.#dropReportMs = this.#deps.clock.nowMs();
  }
}

function keyOf({ regarding: { kind, namespace, name, uid }, reason, subject }: KubernetesEvent): string {
  return [kind, namespace, name, uid, reason, subject].join("/");
}
