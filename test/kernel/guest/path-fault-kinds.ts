import { setTimeout as sleep } from "node:timers/promises";
import type { SeededRandom } from "../../../src/base/seeded-random.js";
import type { PathLab } from "./path-lab.js";

/** Of the volume under test, in milliseconds: what the bounds are made of. */
export interface BoundSettings {
  readonly nopIntervalMs: number;
  readonly nopTimeoutMs: number;
  readonly connectTimeoutMs: number;
  readonly reconnectDelayMs: number;
}

/** How often the session looks at its clocks while NOPs are less than three seconds apart (initiator/session-plan.ts). */
const SWEEP_MS = 250;
/** How long a fence waits at most for a way that answers, where several could (initiator/path-fence.ts). */
const FENCE_PING_MS = 1_000;
/**
 * TCP takes a delay that comes suddenly for a loss and begins anew with one segment (RFC 5681 §3.1). Before a request there
 * may be 768 KiB of fio's writes, which are 540 segments: 9 doublings, and the round trip of the request itself.
 */
const SLOW_START_ROUND_TRIPS = 10;
/**
 * What no setting says: the guest has one processor for both ends and the load, a login takes it 100 to 300 ms, starting
 * a program 70 to 150 ms, and TCP sends again after 200 ms at the earliest.
 */
export const GUEST_ALLOWANCE_MS = 2_500;

export interface Fault {
  readonly kind: FaultKind;
  /** Numbers of the paths that it hits. */
  readonly paths: readonly number[];
  readonly durationMs: number;
  /** For people: which paths, which rule. */
  readonly text: string;
  /** Longest time that I/O may wait on its account; `tookMs` is how long the fault really was there. */
  readonly boundMs: (tookMs: number) => number;
  readonly begin: () => Promise<void> | void;
  readonly end: () => Promise<void> | void;
}

interface KindFacts {
  /** Hits all paths: then I/O has to wait for its end. */
  readonly isOfAllPaths: boolean;
  /** Where the bound comes from. */
  readonly bound: string;
}

const FOUND = "NOP interval + NOP timeout + 2 sweeps, + 1 s to find a way for the fence when several paths are hit";

export const FAULT_KINDS = {
  "link down": { isOfAllPaths: false, bound: FOUND },
  "link down, far end only": { isOfAllPaths: false, bound: FOUND },
  "black hole": { isOfAllPaths: false, bound: FOUND },
  loss: { isOfAllPaths: false, bound: FOUND },
  delay: {
    isOfAllPaths: false,
    bound: "10 round trips of the delay with its jitter, or as a black hole when that is longer",
  },
  "target restarted": { isOfAllPaths: true, bound: "outage + reconnect delay" },
  "target frozen": { isOfAllPaths: true, bound: "outage + reconnect delay, or as a black hole when that is longer" },
  "all links down": {
    isOfAllPaths: true,
    bound: "outage, or as a black hole when that is longer, + connect timeout + reconnect delay",
  },
} as const satisfies Readonly<Record<string, KindFacts>>;

export type FaultKind = keyof typeof FAULT_KINDS;

export const ALL_FAULT_KINDS = Object.keys(FAULT_KINDS) as readonly FaultKind[];

/** Kinds in random order, so that of N times their number each is there N times. */
export function drawKinds(count: number, random: SeededRandom): readonly FaultKind[] {
  const kinds: FaultKind[] = [];
  while (kinds.length < count) {
    const deck = [...ALL_FAULT_KINDS];
    while (deck.length > 0) kinds.push(...deck.splice(wholeBelow(deck.length, random), 1));
  }
  return kinds.slice(0, count);
}

/** A fault of this kind: which paths (at least one stays, unless the kind hits all), how long, how bad. */
export function drawFault(kind: FaultKind, lab: PathLab, settings: BoundSettings, random: SeededRandom): Fault {
  const { isOfAllPaths } = FAULT_KINDS[kind];
  const shuffled = [...lab.numbers];
  const paths: number[] = [];
  const count = isOfAllPaths ? lab.paths : 1 + wholeBelow(lab.paths - 1, random);
  while (paths.length < count) paths.push(...shuffled.splice(wholeBelow(shuffled.length, random), 1));
  paths.sort((left, right) => left - right);
  // Up to 6 s, the shorter ones more often: 200 of them shall take less than half an hour.
  const durationMs = 500 + Math.floor(5_500 * random.fraction() ** 1.5);
  const foundAloneMs = settings.nopIntervalMs + settings.nopTimeoutMs + 2 * SWEEP_MS + GUEST_ALLOWANCE_MS;
  const foundMs = foundAloneMs + (count > 1 ? FENCE_PING_MS : 0);
  const on = isOfAllPaths ? "all paths" : `path ${paths.join(" and ")}`;
  const all = async (act: (path: number) => Promise<void>): Promise<void> => {
    await Promise.all(paths.map(act));
  };
  const base = { kind, paths, durationMs, text: `${kind}, ${on}` };
  const restore = (): Promise<void> => all((path) => lab.restore(path));
  const linksUp = (): Promise<void> => all((path) => lab.linkUp(path));
  switch (kind) {
    case "link down":
      return {
        ...{ ...base, boundMs: () => foundMs, end: linksUp },
        begin: () => all((path) => lab.linkDown(path, ["near", "far"])),
      };
    case "link down, far end only":
      return { ...base, boundMs: () => foundMs, begin: () => all((path) => lab.linkDown(path, ["far"])), end: linksUp };
    case "black hole":
      return { ...base, boundMs: () => foundMs, begin: () => all((path) => lab.blackHole(path)), end: restore };
    case "loss": {
      const rule = `loss ${5 + wholeBelow(36, random)}%`;
      const end = random.fraction() < 0.5 ? "near" : "far";
      return {
        ...{ ...base, text: `${base.text}: ${rule} at the ${end} end`, boundMs: () => foundMs, end: restore },
        begin: () => all((path) => lab.impair(path, end, rule)),
      };
    }
    case "delay": {
      // A round trip stays below the NOP timeout: longer ones would be taken for a black hole.
      const delayMs = 20 + wholeBelow(Math.max(1, Math.floor(settings.nopTimeoutMs / 2) - 20), random);
      const jitterMs = wholeBelow(Math.ceil(delayMs / 4), random);
      const end = random.fraction() < 0.5 ? "near" : "far";
      const rule = `delay ${delayMs}ms ${jitterMs}ms`;
      return {
        ...{ ...base, text: `${base.text}: ${rule} at the ${end} end` },
        boundMs: () => Math.max(SLOW_START_ROUND_TRIPS * (delayMs + jitterMs) + GUEST_ALLOWANCE_MS, foundMs),
        begin: () => all((path) => lab.impair(path, end, rule)),
        end: async () => {
          // What netem holds when it goes is lost, and this is not about loss.
          await all((path) => lab.impair(path, end, "delay 0ms"));
          await sleep(delayMs + jitterMs);
          await restore();
        },
      };
    }
    case "target restarted":
      return {
        ...{ ...base, begin: () => lab.killTarget(), end: () => lab.startTarget() },
        boundMs: (tookMs) => tookMs + settings.reconnectDelayMs + GUEST_ALLOWANCE_MS,
      };
    case "target frozen":
      return {
        ...{ ...base, begin: () => lab.freezeTarget(), end: () => lab.thawTarget() },
        boundMs: (tookMs) => Math.max(tookMs + GUEST_ALLOWANCE_MS, foundAloneMs) + settings.reconnectDelayMs,
      };
    case "all links down":
      return {
        ...{ ...base, begin: () => all((path) => lab.linkDown(path, ["near", "far"])), end: linksUp },
        boundMs: (tookMs) =>
          Math.max(tookMs + GUEST_ALLOWANCE_MS, foundAloneMs) + settings.connectTimeoutMs + settings.reconnectDelayMs,
      };
  }
}

function wholeBelow(limit: number, random: SeededRandom): number {
  return Math.floor(random.fraction() * limit);
}
