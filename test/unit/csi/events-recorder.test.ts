import { MAX_PENDING_EVENTS } from "../../../src/base/limits.js";
import { SeededRandom } from "../../../src/base/seeded-random.js";
import { EventRecorder } from "../../../src/csi/events-recorder.js";
import type { EventOutcome, EventRecord, EventsApi, EventSeries, KubernetesEvent } from "../../../src/csi/events.js";
import { VirtualTime } from "../../support/virtual-time.js";
import { collectingLogger } from "./controller-fixture.js";

/** An API server that remembers, and answers what the test says. */
class ScriptedServer implements EventsApi {
  readonly events = new Map<string, { readonly event: EventRecord; series: EventSeries | undefined }>();
  outcome: EventOutcome = { kind: "done" };
  hold: Promise<unknown> = Promise.resolve();
  calls = 0;

  async create(event: EventRecord, series?: EventSeries): Promise<EventOutcome> {
    this.calls += 1;
    await this.hold;
    if (this.outcome.kind === "done") this.events.set(event.name, { event, series });
    return this.outcome;
  }

  async setSeries(event: EventRecord, series: EventSeries): Promise<EventOutcome> {
    this.calls += 1;
    await this.hold;
    if (this.outcome.kind !== "done") return this.outcome;
    const kept = this.events.get(event.name);
    if (kept === undefined) return { kind: "gone" };
    kept.series = series;
    return { kind: "done" };
  }

  close(): void {
    this.hold = Promise.resolve();
  }

  counts(): readonly number[] {
    return [...this.events.values()].map(({ series }) => series?.count ?? 1);
  }
}

const event = (name: string, reason = "VolumeUnreachable"): KubernetesEvent => ({
  regarding: { kind: "Pod", namespace: "apps", name, uid: "u-1" },
  ...{ type: "Warning", reason, action: "Connect", subject: "vol-1", note: "no path" },
});

let clock: VirtualTime;
let server: ScriptedServer;
let lines: string[];
let recorder: EventRecorder;

beforeEach(() => {
  clock = new VirtualTime();
  server = new ScriptedServer();
  lines = [];
  recorder = new EventRecorder(
    {},
    { api: server, clock, random: new SeededRandom(1), logger: collectingLogger(lines) },
  );
});
afterEach(() => recorder.close());

describe("EventRecorder", () => {
  it("sends an event, named after its object and kept where that is", async () => {
    recorder.report(event("web-0"));
    recorder.report({ ...event("n"), regarding: { kind: "Node", namespace: "", name: "worker-1", uid: "worker-1" } });
    await recorder.idle();
    const [pod, node] = [...server.events.values()].map((kept) => kept.event);
    expect(pod).toMatchObject({ ...event("web-0"), namespace: "apps", timeMs: clock.wallTimeMs() });
    expect(pod?.name).toMatch(/^web-0\.[0-9a-f]+$/);
    expect(node).toMatchObject({ namespace: "default" });
  });

  it("gives events on the longest names a name that the API server takes", async () => {
    recorder.report(event(`${"a".repeat(231)}.${"b".repeat(21)}`));
    await recorder.idle();
    const [name = ""] = [...server.events.keys()];
    expect(name.length).toBeLessThanOrEqual(253);
    expect(name).toMatch(/^a+\.[0-9a-f]+$/);
  });

  it("counts what is repeated within ten minutes, and begins anew afterwards", async () => {
    for (const waitMs of [0, 599_000, 599_000, 601_000]) {
      await clock.advance(waitMs);
      recorder.report(event("web-0"));
      await recorder.idle();
    }
    expect(server.counts()).toEqual([3, 1]);
  });

  it("tells other reasons, other volumes and other pods of the same name apart", async () => {
    recorder.report(event("web-0"));
    recorder.report({ ...event("web-0"), subject: "vol-2" });
    recorder.report(event("web-0", "VolumeRestored"));
    recorder.report({ ...event("web-0"), regarding: { ...event("web-0").regarding, uid: "u-2" } });
    await recorder.idle();
    expect(server.counts()).toEqual([1, 1, 1, 1]);
  });

  it("makes an event anew that the server has forgotten", async () => {
    recorder.report(event("web-0"));
    await recorder.idle();
    server.events.clear();
    recorder.report(event("web-0"));
    await recorder.idle();
    expect(server.counts()).toEqual([1]);
  });

  it("keeps what the server cannot take now, counts what comes meanwhile, and delivers it later", async () => {
    server.outcome = { kind: "retry", reason: "connection refused" };
    recorder.report(event("web-0"));
    await clock.advance(100);
    for (let count = 0; count < 4; count += 1) recorder.report(event("web-0"));
    await clock.advance(600_000);
    expect(server.calls).toBeGreaterThan(5);
    expect(server.calls).toBeLessThan(40);
    server.outcome = { kind: "done" };
    await clock.advance(61_000);
    expect(server.counts()).toEqual([5]);
    expect(lines.join()).not.toContain("dropped");
  });

  it("drops what could not be delivered for an hour", async () => {
    server.outcome = { kind: "retry", reason: "connection refused" };
    recorder.report(event("web-0"));
    await clock.advance(3_800_000);
    const { calls } = server;
    await clock.advance(200_000);
    expect(server.calls).toBe(calls);
    expect(lines.join()).toContain('"count":1,"reason":"connection refused"');
  });

  it("drops what does not fit the queue, and says how many with one line", async () => {
    server.outcome = { kind: "retry", reason: "connection refused" };
    recorder.report(event("first"));
    await clock.advance(1);
    for (let index = 0; index < MAX_PENDING_EVENTS + 10; index += 1) recorder.report(event(`pod-${index}`));
    await recorder.close();
    const dropped = lines
      .filter((line) => line.includes("dropped"))
      .map((line) => Number(/"count":(\d+)/.exec(line)?.[1]));
    expect(dropped.reduce((sum, count) => sum + count, 0)).toBe(MAX_PENDING_EVENTS + 11);
    expect(dropped.length).toBeLessThanOrEqual(2);
  });

  it("does not ask again for what is refused", async () => {
    server.outcome = { kind: "refused", reason: "the API server answered 403 Forbidden" };
    recorder.report(event("web-0"));
    recorder.report(event("web-1"));
    await recorder.idle();
    await clock.advance(120_000);
    expect(server.calls).toBe(2);
    expect(lines.join()).toContain("403 Forbidden");
  });

  it("asks twenty times at once, then once a second", async () => {
    for (let index = 0; index < 100; index += 1) recorder.report(event(`pod-${index}`));
    await clock.advance(0);
    expect(server.calls).toBe(20);
    await clock.advance(10_000);
    expect(server.calls).toBe(30);
  });

  it("never waits for the server, and takes nothing after its end", async () => {
    server.hold = new Promise(() => undefined);
    const begin = performance.now();
    for (let index = 0; index < 10_000; index += 1) recorder.report(event(`pod-${index % 300}`));
    expect(performance.now() - begin).toBeLessThan(1_000);
    server.hold = Promise.resolve();
    await recorder.close();
    const { calls } = server;
    recorder.report(event("late"));
    await clock.advance(1_000);
    expect(server.calls).toBe(calls);
  });
});
