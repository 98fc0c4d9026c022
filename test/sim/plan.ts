import type { DigestChoice } from "../../src/base/access.js";
import type { Random } from "../../src/base/random.js";
import { SeededRandom } from "../../src/base/seeded-random.js";
import { CONNECTION_POLICIES, type ConnectionPolicy } from "../../src/session/connection-policy.js";
import type { OperationalPreferences } from "../../src/login/negotiate.js";
import { drawFaults, type Fault } from "./fault-plan.js";

export type SideOffers = Partial<Omit<OperationalPreferences, "headerDigest" | "dataDigest">>;

/** Everything a seed decides before anything runs. */
export interface Plan {
  readonly seed: number;
  readonly mode: "safety" | "liveness";
  readonly portals: number;
  readonly connections: number;
  readonly errorRecoveryLevel: 0 | 1 | 2;
  readonly policy: ConnectionPolicy;
  readonly headerDigest: DigestChoice;
  readonly dataDigest: DigestChoice;
  readonly initiatorOffers: SideOffers;
  readonly targetOffers: SideOffers;
  readonly maxTasks: number;
  readonly targetQueueDepth: number;
  readonly blocks: number;
  readonly workers: number;
  readonly isOverlapping: boolean;
  readonly maxBlocksPerOperation: number;
  readonly thinkMs: number;
  readonly spanMs: number;
  readonly diskDelayMs: readonly [minimum: number, maximum: number];
  readonly linkDelayMs: readonly [minimum: number, maximum: number];
  readonly maxChunkBytes: number | undefined;
  readonly taskTimeoutMs: number;
  /** Connections and the policy are changed under load. */
  readonly isAdministered: boolean;
  /** Added to every CmdSN on the way to the target, so that its numbers wrap. */
  readonly cmdSnShift: number;
  /** The first StatSN of each connection lies just below 2^32. */
  readonly isStatSnWrapping: boolean;
  /** Bytes after which a connection breaks, by its number, for some of the first ones. */
  readonly cuts: ReadonlyMap<number, { readonly isToTarget: boolean; readonly afterBytes: number }>;
  readonly faults: readonly Fault[];
}

/** Draws from a seeded source. */
export class Draw {
  readonly random: Random;

  constructor(random: Random) {
    this.random = random;
  }

  chance(probability: number): boolean {
    return this.random.fraction() < probability;
  }

  /** A whole number from `low` to `high`, both included. */
  between(low: number, high: number): number {
    return low + Math.floor(this.random.fraction() * (high - low + 1));
  }

  pick<T>(choices: readonly T[]): T {
    const [choice] = choices.slice(this.between(0, choices.length - 1));
    if (choice === undefined) throw new RangeError("nothing to pick from");
    return choice;
  }
}

/** Sources for parts of a world that do not disturb each other's sequence. */
export function fork(seed: number, part: string): SeededRandom {
  let state = seed >>> 0;
  for (const letter of part) state = (Math.imul(state ^ letter.charCodeAt(0), 0x01000193) ^ (state >>> 13)) >>> 0;
  const random = new SeededRandom(state);
  random.uint32();
  return random;
}

export function drawPlan(seed: number): Plan {
  const draw = new Draw(fork(seed, "plan"));
  const portals = draw.between(1, 3);
  const connections = draw.pick([1, 1, 2, 3, 4]);
  const errorRecoveryLevel = draw.pick([0, 0, 1, 2] as const);
  const digests = draw.pick(["none", "none", "crc32c", "crc32c", "header", "data"] as const);
  const spanMs = draw.pick([2_000, 5_000, 10_000, 20_000]);
  const isStorm = draw.chance(0.15);
  const maxBlocksPerOperation = draw.pick([1, 4, 16, 64]);
  return {
    seed,
    mode: draw.chance(0.75) ? "liveness" : "safety",
    portals,
    connections,
    errorRecoveryLevel,
    policy: draw.pick(CONNECTION_POLICIES),
    headerDigest: digests === "crc32c" || digests === "header" ? "crc32c" : "none",
    dataDigest: digests === "crc32c" || digests === "data" ? "crc32c" : "none",
    initiatorOffers: drawOffers(draw),
    targetOffers: {
      ...drawOffers(draw),
      maxConnections: draw.pick([1, 4, 8, 8]),
      errorRecoveryLevel: draw.pick([0, 1, 2, 2, 2] as const),
    },
    maxTasks: draw.pick([1, 2, 8, 64]),
    targetQueueDepth: draw.pick([1, 2, 8, 32, 128]),
    blocks: draw.pick([64, 256, 512]),
    workers: draw.pick([1, 2, 4, 8]),
    isOverlapping: draw.chance(0.6),
    maxBlocksPerOperation,
    thinkMs: draw.pick([20, 100, 300]) * (spanMs / 5_000),
    spanMs,
    diskDelayMs: draw.pick([
      [0, 0],
      [0, 2],
      [1, 20],
      [0, 200],
    ] as const),
    ...drawLink(draw, maxBlocksPerOperation),
    taskTimeoutMs: draw.pick([3_000, 8_000, 30_000]),
    isAdministered: draw.chance(0.3),
    cmdSnShift: draw.chance(0.3) ? 0xffff_fff0 - draw.between(0, 30) : 0,
    isStatSnWrapping: draw.chance(0.3),
    cuts: drawCuts(draw),
    faults: drawFaults(draw, {
      spanMs,
      isStorm,
      hasHeaderDigest: digests === "crc32c" || digests === "header",
      hasDataDigest: digests === "crc32c" || digests === "data",
      errorRecoveryLevel,
    }),
  };
}

/** The delay is that of every chunk, one after the other: small chunks must be fast, or no task ends in its time. */
function drawLink(draw: Draw, maxBlocksPerOperation: number): Pick<Plan, "linkDelayMs" | "maxChunkBytes"> {
  const smallest = maxBlocksPerOperation <= 4 ? 60 : 700;
  const maxChunkBytes = draw.chance(0.5) ? undefined : draw.pick([4096, 700, smallest]);
  const slow = maxChunkBytes === 60 ? ([0, 0.05] as const) : ([1, 5] as const);
  return { maxChunkBytes, linkDelayMs: draw.pick([[0, 0], [0, 0.3], slow] as const) };
}

function drawOffers(draw: Draw): SideOffers {
  const maxBurstLength = draw.pick([512, 4096, 16_384, 65_536, 262_144]);
  return {
    initialR2T: draw.chance(0.4),
    immediateData: draw.chance(0.7),
    maxRecvDataSegmentLength: draw.pick([512, 1024, 4096, 8192, 65_536]),
    maxBurstLength,
    firstBurstLength: Math.min(maxBurstLength, draw.pick([512, 2048, 8192, 65_536])),
    maxOutstandingR2T: draw.pick([1, 2, 8]),
    defaultTime2Wait: draw.pick([0, 0, 1, 2, 4]),
    defaultTime2Retain: draw.pick([0, 5, 20, 60]),
  };
}

function drawCuts(draw: Draw): Plan["cuts"] {
  const cuts = new Map<number, { isToTarget: boolean; afterBytes: number }>();
  if (!draw.chance(0.25)) return cuts;
  for (let wire = 1; wire <= 8; wire += 1) {
    if (draw.chance(0.5))
      cuts.set(wire, { isToTarget: draw.chance(0.5), afterBytes: draw.between(1, draw.pick([600, 6_000, 60_000])) });
  }
  return cuts;
}
