import type { PortalAddress } from "../../../src/base/access.js";
import type { InitiatorSettings } from "../../../src/initiator/settings.js";
import { PATH_POLICIES } from "../../../src/multipath/path-policy.js";
import { Draw, fork } from "../plan.js";
import { drawPathFaults, type PathFault } from "./path-faults.js";

/** A portal of the target, and the portal group it is in. */
export interface PlannedPortal extends PortalAddress {
  readonly portalGroupTag: number;
}

export type PlannedState = "active-optimized" | "active-non-optimized" | "standby";

/** Everything a seed decides about a world of several paths before anything runs. */
export interface PathPlan {
  readonly seed: number;
  readonly mode: "safety" | "liveness";
  readonly portals: readonly PlannedPortal[];
  /** Comes in the place of another one while the world runs, and is only advertised. */
  readonly sparePortal: PlannedPortal | undefined;
  readonly settings: InitiatorSettings;
  /** State of the second portal group, where there is one. */
  readonly secondGroupState: PlannedState;
  readonly hasExplicitStates: boolean;
  /** Reservations are used, and another node may want the unit. */
  readonly isReserved: boolean;
  /** What a connection had still to deliver when its owner closed it arrives all the same, later. */
  readonly keepsBytes: boolean;
  readonly headerDigest: "none" | "crc32c";
  readonly dataDigest: "none" | "crc32c";
  readonly blocks: number;
  /** Blocks that come when the unit is grown. */
  readonly grownBlocks: number;
  readonly workers: number;
  readonly isOverlapping: boolean;
  readonly maxBlocksPerOperation: number;
  readonly thinkMs: number;
  readonly spanMs: number;
  readonly diskDelayMs: readonly [minimum: number, maximum: number];
  /** Of each portal in turn. */
  readonly linkDelaysMs: readonly (readonly [minimum: number, maximum: number])[];
  readonly maxChunkBytes: number | undefined;
  readonly taskTimeoutMs: number;
  /** The policy, weights and roles change under load, paths are taken out of service and put back. */
  readonly isAdministered: boolean;
  readonly faults: readonly PathFault[];
}

export const PORT = 3260;

/** Addresses of the node, one for each interface. */
export const SOURCES = [
  { name: "eth1", address: "10.0.0.1" },
  { name: "eth2", address: "10.0.1.1" },
] as const;

export function drawPathPlan(seed: number): PathPlan {
  const draw = new Draw(fork(seed, "paths"));
  const hasTwoGroups = draw.chance(0.35);
  const count = hasTwoGroups ? draw.pick([2, 2, 4]) : draw.pick([1, 2, 2, 3, 4]);
  const portals = Array.from({ length: count }, (_, index) => portal(index, hasTwoGroups ? 1 + (index % 2) : 1));
  const hasSpare = count > 1 && draw.chance(0.2);
  const spanMs = draw.pick([3_000, 6_000, 15_000, 30_000]);
  const blocks = draw.pick([16, 64, 256]);
  const isReserved = draw.chance(0.35);
  const digests = draw.pick(["none", "both", "header", "data"] as const);
  const settings = drawSettings(draw, { portals: count, hasSpare, isReserved });
  const linkDelaysMs = Array.from({ length: count + 1 }, () =>
    draw.pick([
      [0, 0],
      [0, 0.3],
      [1, 3],
      [5, 10],
    ] as const),
  );
  const keepsBytes = !hasTwoGroups && draw.chance(0.8);
  return {
    seed,
    mode: draw.chance(0.8) ? "liveness" : "safety",
    portals,
    sparePortal: hasSpare ? portal(count, 1) : undefined,
    settings,
    secondGroupState: draw.pick(["active-optimized", "active-non-optimized", "standby"] as const),
    hasExplicitStates: draw.chance(0.5),
    isReserved,
    keepsBytes,
    headerDigest: digests === "both" || digests === "header" ? "crc32c" : "none",
    dataDigest: digests === "both" || digests === "data" ? "crc32c" : "none",
    blocks,
    grownBlocks: 16,
    workers: draw.pick([1, 2, 4, 6]),
    isOverlapping: draw.chance(0.7),
    maxBlocksPerOperation: Math.min(draw.pick([1, 4, 16]), blocks / 4),
    thinkMs: draw.pick([40, 100, 250]) * (spanMs / 6_000),
    spanMs,
    diskDelayMs: draw.pick([
      [0, 0],
      [0, 2],
      [1, 20],
      [0, 120],
    ] as const),
    linkDelaysMs,
    maxChunkBytes: oneOf(draw, [undefined, undefined, 4_096, 700]),
    taskTimeoutMs: draw.pick([4_000, 10_000, 30_000]),
    isAdministered: draw.chance(0.35),
    faults: drawPathFaults(draw, { spanMs, portals: count, hasTwoGroups, hasSpare, isReserved, keepsBytes }),
  };
}

/** Like `pick`, where nothing is a choice too. */
function oneOf<T>(draw: Draw, choices: readonly T[]): T {
  return draw.pick(choices.map((value) => ({ value }))).value;
}

function portal(index: number, portalGroupTag: number): PlannedPortal {
  return { host: `10.0.${index % 2}.${11 + index}`, port: PORT, portalGroupTag };
}

function drawSettings(
  draw: Draw,
  { portals, hasSpare }: { readonly portals: number; readonly hasSpare: boolean; readonly isReserved: boolean },
): InitiatorSettings {
  const pathInterfaces = oneOf(draw, [undefined, ["eth1"], ["eth1", "eth2"], ["eth1", "eth2"], ["all"]]);
  const paths = portals * (pathInterfaces?.length === 2 ? 2 : 1);
  const linkDownTimeSeconds = oneOf(draw, [undefined, 0, 1, 3]);
  const retryCount = oneOf(draw, [undefined, 0, 3]);
  const failbackDelaySeconds = oneOf(draw, [undefined, 0, 1, 5, -1]);
  const pathVerificationPeriodSeconds = oneOf(draw, [undefined, 1, 5]);
  return {
    multipath: "mpio",
    pathPolicy: draw.pick(PATH_POLICIES),
    ...(pathInterfaces === undefined ? {} : { pathInterfaces }),
    standbyPaths: paths > 1 ? draw.pick([0, 0, 1]) : 0,
    pathWeights: Array.from({ length: paths }, () => draw.between(0, 3)),
    ...(linkDownTimeSeconds === undefined ? {} : { linkDownTimeSeconds }),
    nopOutIntervalSeconds: draw.pick([1, 2]),
    nopOutTimeoutSeconds: draw.pick([1, 2]),
    tcpConnectTimeSeconds: 3,
    delayBetweenReconnectSeconds: draw.pick([1, 2]),
    ...(retryCount === undefined ? {} : { retryCount }),
    ...(retryCount === 3 ? { retryIntervalSeconds: draw.pick([0, 1]) } : {}),
    ...(failbackDelaySeconds === undefined ? {} : { failbackDelaySeconds }),
    ...(pathVerificationPeriodSeconds === undefined ? {} : { pathVerificationPeriodSeconds }),
    ...(draw.chance(0.1) ? { pdoRemovePeriodSeconds: draw.pick([2, 20]) } : {}),
    ...(draw.chance(0.3) ? { errorRecoveryLevel: 1 as const } : {}),
    ...(hasSpare || draw.chance(0.15) ? { portalHopping: "advertised" as const } : {}),
    maxPendingRequests: draw.pick([2, 8, 64]),
  };
}
