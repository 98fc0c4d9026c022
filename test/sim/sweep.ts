import { drawPlan, type Plan } from "./plan.js";
import { SimWorld, type WorldResult } from "./world.js";

/** Connections whose byte position is swept: the first one, and the one that takes its place. */
const SWEPT_WIRES = [1, 2];

/** A small world without faults of its own: a few operations, then the end. */
function scenario(seed: number): Plan {
  return {
    ...drawPlan(seed),
    mode: "liveness",
    faults: [],
    cuts: new Map(),
    workers: 2,
    blocks: 64,
    maxBlocksPerOperation: 16,
    spanMs: 300,
    thinkMs: 20,
    diskDelayMs: [0, 2],
    linkDelayMs: [0, 0.3],
    maxChunkBytes: undefined,
    taskTimeoutMs: 3_000,
  };
}

export interface SweepStep {
  readonly wire: number;
  readonly isToTarget: boolean;
  readonly afterBytes: number;
  readonly result: WorldResult;
}

/**
 * Repeats one scenario with a connection cut after byte 1, 1 + step, … of a direction, until the cut lies behind the
 * last byte. `steps` bounds the number of cuts per connection and direction.
 */
export async function* sweep(seed: number, steps: number): AsyncGenerator<SweepStep> {
  for (const wire of SWEPT_WIRES) {
    for (const isToTarget of [true, false]) {
      let stride = 1;
      for (let afterBytes = 1, count = 0; count < steps; afterBytes += stride, count += 1) {
        const base = scenario(seed);
        const cuts = new Map([[wire, { isToTarget, afterBytes }]]);
        // The second connection exists only where the first one breaks.
        if (wire === 2) cuts.set(1, { isToTarget: true, afterBytes: 600 });
        const result = await new SimWorld(seed, { plan: { ...base, cuts } }).run();
        yield { wire, isToTarget, afterBytes, result };
        const cutsFired = result.fired["cut-after-bytes"] ?? 0;
        if (cutsFired < cuts.size) break;
        // Every byte of the login, then further and further apart.
        if (afterBytes > steps / 2) stride = Math.ceil(afterBytes / 20);
      }
    }
  }
}
