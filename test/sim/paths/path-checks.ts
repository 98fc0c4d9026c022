import type { MultipathStatus, PathStatus } from "../../../src/multipath/status.js";
import type { Findings } from "../findings.js";
import type { CapacityLie } from "./capacity-lie.js";
import { fits } from "./path-fault-runner.js";
import type { PathNetwork, Route } from "./path-network.js";
import type { PathPlan } from "./path-plan.js";

/** What a fence takes at most: a connection, a login, a reset and a logout, and the same over another way. */
const FENCE_MS = 21_000;
/** Of everything that is not named. */
const SLACK_MS = 4_000;
/** Requests that must have gone over the paths before their shares say something. */
const MEANINGFUL_REQUESTS = 20;

/** Rules of the path layer that need the whole world in view. */
export class PathChecks {
  readonly #plan: PathPlan;
  readonly #findings: Findings;
  readonly #lie: CapacityLie;
  readonly #touched: Partial<Pick<Route, "source" | "portal">>[] = [];
  /** Every path that was ever there, and may have carried requests. */
  readonly #pathIds = new Set<string>();
  #isAnyProcessGone = false;

  constructor(options: {
    readonly plan: PathPlan;
    readonly findings: Findings;
    readonly lie: CapacityLie;
    readonly network: PathNetwork;
  }) {
    this.#plan = options.plan;
    this.#findings = options.findings;
    this.#lie = options.lie;
  }

  /** A fault may have disturbed the paths that fit. */
  touch(what: Partial<Pick<Route, "source" | "portal">>): void {
    this.#touched.push(what);
  }

  touchPath(pathId: string): void {
    this.#touched.push(routeOf(pathId));
  }

  processGone(): void {
    this.#isAnyProcessGone = true;
  }

  /** The device must not grow while a path that is up leads to a unit that has not. */
  checkGrowth(sizeBytes: number, { paths }: MultipathStatus): void {
    for (const { id } of paths) this.#pathIds.add(id);
    const { portal, oldBytes } = this.#lie;
    if (portal === undefined || sizeBytes <= oldBytes) return;
    // One that takes no requests cannot say what it would; a portal whose state is changing may be heard a moment later.
    const liar = paths.find((path) => path.state === "up" && isActive(path) && routeOf(path.id).portal === portal);
    this.#require(
      liar === undefined,
      "the device grows when all paths agree",
      `${liar?.id ?? ""} still has ${oldBytes}`,
    );
  }

  /** Paths that are not up although they could be. */
  waitingPaths({ paths }: MultipathStatus, portals: ReadonlySet<string>): readonly PathStatus[] {
    for (const { id } of paths) this.#pathIds.add(id);
    return paths.filter(({ id, state }) => state !== "up" && state !== "failed" && portals.has(routeOf(id).portal));
  }

  /** While one path worked all the time, no request waited longer than the times that were set let it. */
  checkStalls(longestMs: number): void {
    const { settings, diskDelayMs, taskTimeoutMs } = this.#plan;
    const routes = [...this.#pathIds].map(routeOf);
    const isSafe = routes.some((route) => this.#isActive(route) && !this.#touched.some((what) => fits(route, what)));
    if (!isSafe || this.#isAnyProcessGone) return;
    const { nopOutIntervalSeconds = 10, nopOutTimeoutSeconds = 10, linkDownTimeSeconds = 0 } = settings;
    const { retryCount = 3, retryIntervalSeconds = 1 } = settings;
    const detectMs = 1_000 * (nopOutIntervalSeconds + nopOutTimeoutSeconds + linkDownTimeSeconds);
    const retryMs = 1_000 * retryCount * retryIntervalSeconds;
    const workMs = 10 * diskDelayMs[1] + taskTimeoutMs;
    const limitMs = detectMs + retryMs + FENCE_MS + SLACK_MS + workMs;
    this.#require(longestMs <= limitMs, "no request waits longer than the bound", `${longestMs} of ${limitMs} ms`);
  }

  /** As many ISIDs as there were paths: the same after every restart. */
  checkIsids(isids: number, paths: number): void {
    this.#require(isids <= paths, "each path keeps its ISID", `${isids} for ${paths} paths`);
  }

  /** In a world where nothing goes wrong requests go where the policy says. */
  checkDistribution(before: MultipathStatus, after: MultipathStatus): void {
    const shares = after.paths.map((path) => {
      const earlier = before.paths.find(({ id }) => id === path.id);
      return { path, requests: requestsOf(path) - (earlier === undefined ? 0 : requestsOf(earlier)) };
    });
    const total = shares.reduce((sum, { requests }) => sum + requests, 0);
    const text = shares.map(({ path, requests }) => `${path.id} ${requests}`).join(", ");
    const chosen = shares.filter(({ path }) => isBest(path, after));
    const others = total - chosen.reduce((sum, { requests }) => sum + requests, 0);
    this.#require(others === 0, "only active paths carry requests", text);
    if (total < MEANINGFUL_REQUESTS) return;
    const counts = chosen.map(({ requests }) => requests);
    const spread = Math.max(...counts) - Math.min(...counts);
    switch (after.policy) {
      case "fail-over-only": {
        // Without failback the first path that came up keeps them.
        if ((this.#plan.settings.failbackDelaySeconds ?? 0) < 0) return;
        const preferred = chosen.reduce((best, each) => (each.path.rank < best.path.rank ? each : best));
        this.#require(preferred.requests === total, "fail over only uses the first path", text);
        return;
      }
      case "weighted-path": {
        const lightest = Math.min(...chosen.map(({ path }) => path.weight));
        const light = chosen.filter(({ path }) => path.weight === lightest);
        const carried = light.reduce((sum, { requests }) => sum + requests, 0);
        this.#require(carried === total, "weighted path uses the lightest path", text);
        return;
      }
      case "round-robin":
      case "round-robin-subset":
        this.#require(spread <= Math.max(2, 0.02 * total), "round robin shares evenly", text);
        return;
      default:
        return;
    }
  }

  #isActive(route: Route): boolean {
    const portal = this.#plan.portals.find(({ host, port }) => `${host}:${port}` === route.portal);
    if (portal === undefined) return false;
    return portal.portalGroupTag === 1 || this.#plan.secondGroupState !== "standby";
  }

  #require(isTrue: boolean, rule: string, seen: string): void {
    this.#findings.checked[rule] = (this.#findings.checked[rule] ?? 0) + 1;
    if (!isTrue) this.#findings.report(`${rule}: ${seen}`);
  }
}

/** May requests go over the path as long as no better one is lost? */
function isBest(path: PathStatus, { policy, paths }: MultipathStatus): boolean {
  const hasOptimized = paths.some(({ accessState }) => accessState === "active-optimized");
  if (hasOptimized && path.accessState !== "active-optimized") return false;
  return policy !== "round-robin-subset" || !path.isStandby;
}

function isActive({ accessState }: PathStatus): boolean {
  return accessState === undefined || accessState.startsWith("active");
}

/** What a path's name says of its way. */
export function routeOf(pathId: string): Route {
  const [source, portal] = pathId.includes("->") ? pathId.split("->") : ["", pathId];
  return { node: "node", source: source?.split("/").at(-1) ?? "", portal: portal ?? "" };
}

function requestsOf({ readOperations, writeOperations }: PathStatus): number {
  return readOperations + writeOperations;
}
