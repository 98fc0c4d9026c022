import { accessTier, NO_TIER } from "../../../src/multipath/access-states.js";
import type { PathPolicy } from "../../../src/multipath/path-policy.js";
import { PathSelector, type PolicyCandidate } from "../../../src/multipath/path-selector.js";

interface Candidate extends PolicyCandidate {
  readonly name: string;
  requestsInFlight: number;
  bytesInFlight: number;
  speed: number;
}

function candidate(name: string, facts: Partial<Candidate> = {}): Candidate {
  return {
    ...{ name, rank: name.charCodeAt(0) - 97, weight: 0, isStandby: false, tier: 0, isPreferred: false, upSinceMs: 0 },
    ...{ requestsInFlight: 0, bytesInFlight: 0, speed: 0 },
    bytesPerMs() {
      return this.speed;
    },
    ...facts,
  };
}

function selector(policy: PathPolicy, candidates: Candidate[], failbackDelayMs?: number): PathSelector<Candidate> {
  const made = new PathSelector<Candidate>(policy, failbackDelayMs);
  made.update(candidates, 0);
  return made;
}

function names(selected: PathSelector<Candidate>, count: number, lengthBytes = 4_096): string {
  return Array.from({ length: count }, () => selected.next(lengthBytes, 0)?.name ?? "-").join("");
}

describe("access tiers", () => {
  it("go from optimized to lba-dependent, and leave out what takes no requests", () => {
    const usable = [undefined, "active-optimized", "active-non-optimized", "lba-dependent"] as const;
    expect(usable.map(accessTier)).toEqual([0, 0, 1, 2]);
    for (const state of ["standby", "unavailable", "offline", "transitioning", "unknown"] as const) {
      expect(accessTier(state)).toBe(NO_TIER);
    }
  });
});

describe("PathSelector", () => {
  it.each<PathPolicy>([
    "fail-over-only",
    "round-robin",
    "round-robin-subset",
    "weighted-path",
    "least-queue-depth",
    "least-service-time",
  ])("has no path with %s where there is none", (policy) => {
    const empty = selector(policy, []);
    expect(empty.next(0, 0)).toBeUndefined();
    expect(empty.chosen).toEqual([]);
  });

  it.each<PathPolicy>([
    "fail-over-only",
    "round-robin",
    "round-robin-subset",
    "weighted-path",
    "least-queue-depth",
    "least-service-time",
  ])("keeps to the best tier with %s", (policy) => {
    const paths = [candidate("a", { tier: 1, weight: -1 }), candidate("b"), candidate("c", { tier: 2 })];
    expect(names(selector(policy, paths), 3)).toBe("bbb");
  });

  it("takes turns exactly with round-robin, also when the paths change", () => {
    const [a, b, c] = [candidate("a"), candidate("b"), candidate("c")];
    const robin = selector("round-robin", [a, b, c]);
    expect(names(robin, 7)).toBe("abcabca");
    robin.update([a, b], 0);
    expect(
      names(robin, 100)
        .split("")
        .filter((name) => name === "a"),
    ).toHaveLength(50);
  });

  it("leaves standby paths out of the subset while there is another", () => {
    const paths = [
      candidate("a"),
      candidate("b"),
      candidate("c", { isStandby: true }),
      candidate("d", { isStandby: true }),
    ];
    const subset = selector("round-robin-subset", paths);
    expect(names(subset, 4)).toBe("abab");
    subset.update(paths.slice(2), 0);
    expect(names(subset, 4)).toBe("cdcd");
  });

  it("uses only the lightest path, of several alike the first", () => {
    const paths = [candidate("a", { weight: 5 }), candidate("b", { weight: 1 }), candidate("c", { weight: 1 })];
    expect(names(selector("weighted-path", paths), 3)).toBe("bbb");
    expect(selector("weighted-path", paths).chosen.map(({ name }) => name)).toEqual(["b"]);
  });

  it("uses the shortest queue, in turn where they are alike", () => {
    const [a, b, c] = [candidate("a", { requestsInFlight: 3 }), candidate("b"), candidate("c")];
    const queues = selector("least-queue-depth", [a, b, c]);
    expect(names(queues, 4)).toBe("bcbc");
    [b, c].forEach((path) => (path.requestsInFlight = 4));
    expect(names(queues, 2)).toBe("aa");
  });

  it("uses the path that would be done first, and tries one that was not measured", () => {
    const [a, b, c] = [candidate("a", { speed: 100 }), candidate("b", { speed: 10 }), candidate("c")];
    const service = selector("least-service-time", [a, b, c]);
    expect(names(service, 4)).toBe("acac");
    c.bytesInFlight = 50_000;
    expect(names(service, 2)).toBe("aa");
    a.bytesInFlight = 100_000;
    c.bytesInFlight = 100_000;
    expect(names(service, 1)).toBe("b");
  });

  it("takes turns when no path was measured", () => {
    expect(names(selector("least-service-time", [candidate("a"), candidate("b")]), 4, 0)).toBe("abab");
  });

  it("goes round the paths a request has failed over", () => {
    const [a, b] = [candidate("a"), candidate("b", { tier: 1 })];
    const robin = selector("round-robin", [a, b]);
    expect(robin.nextBeside(new Set([a]), 0, 0)).toBe(b);
    expect(robin.nextBeside(new Set([a, b]), 0, 0)).toBeUndefined();
  });

  it("prefers the group the array prefers with fail-over-only", () => {
    const paths = [candidate("a"), candidate("b"), candidate("c", { isPreferred: true })];
    expect(names(selector("fail-over-only", paths), 2)).toBe("cc");
  });

  describe("failing back", () => {
    const [a, b] = [candidate("a", { upSinceMs: 1_000 }), candidate("b")];

    it("is immediate with a delay of 0", () => {
      const failover = selector("fail-over-only", [b], 0);
      expect(failover.update([a, b], 1_000)).toBeUndefined();
      expect(failover.active).toBe(a);
    });

    it("waits until the better path has been up for the delay", () => {
      const failover = selector("fail-over-only", [b], 5_000);
      expect(failover.update([a, b], 1_000)).toBe(5_000);
      expect(failover.active).toBe(b);
      expect(failover.update([a, b], 4_000)).toBe(2_000);
      expect(failover.update([a, b], 6_000)).toBeUndefined();
      expect(failover.active).toBe(a);
    });

    it("never happens by itself without a delay", () => {
      const failover = selector("fail-over-only", [b]);
      expect(failover.update([a, b], 1_000_000)).toBeUndefined();
      expect(failover.active).toBe(b);
      failover.update([a], 1_000_000);
      expect(failover.active).toBe(a);
    });

    it("does not wait when the access states ask for another path", () => {
      const failover = selector("fail-over-only", [candidate("b", { tier: 1 })]);
      failover.update([a, candidate("b", { tier: 1 })], 0);
      expect(failover.active).toBe(a);
    });
  });

  it("forgets its path when the policy changes, and keeps it when the same is set", () => {
    const [a, b] = [candidate("a"), candidate("b")];
    const failover = selector("fail-over-only", [b]);
    failover.policy = "fail-over-only";
    failover.update([a, b], 0);
    expect(failover.active).toBe(b);
    failover.policy = "round-robin";
    failover.update([a, b], 0);
    expect(failover.active).toBeUndefined();
    expect(names(failover, 4)).toBe("abab");
  });
});
