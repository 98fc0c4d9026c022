import fc from "fast-check";
import { PATH_POLICIES, type PathPolicy } from "../../../src/multipath/path-policy.js";
import { hardwareError, pathGone, type ScriptedPath } from "../../support/scripted-path.js";
import { BLOCK, MultipathWorld } from "./world.js";

const USERS = 4;
const OPERATIONS_PER_USER = 150;
/** Each user has its own, so that it knows what must be there. */
const BLOCKS_PER_USER = 4;

type Fault =
  | { readonly kind: "down" | "down-landed" | "refused" | "up" | "fail" | "restore" | "remove" }
  /** Requests over the path fail for a while, by the path's fault or by the unit's. */
  | { readonly kind: "path-errors" | "unit-errors"; readonly spanMs: number }
  | { readonly kind: "policy"; readonly policy: PathPolicy };

interface Step {
  readonly pauseMs: number;
  readonly path: number;
  readonly fault: Fault;
}

const plainFaults = ["down", "down-landed", "refused", "up", "up", "up", "fail", "restore", "remove"] as const;

const fault: fc.Arbitrary<Fault> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constantFrom(...plainFaults) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom("path-errors" as const, "unit-errors" as const),
      spanMs: fc.integer({ min: 1, max: 3_000 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("policy" as const), policy: fc.constantFrom(...PATH_POLICIES) }),
  },
);

const plan = fc.record({
  policy: fc.constantFrom(...PATH_POLICIES),
  latenciesMs: fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 2, maxLength: 4 }),
  steps: fc.array(fc.record({ pauseMs: fc.integer({ min: 0, max: 400 }), path: fc.nat({ max: 3 }), fault }), {
    minLength: 5,
    maxLength: 40,
  }) satisfies fc.Arbitrary<Step[]>,
});

function apply(world: MultipathWorld, path: ScriptedPath, { kind, ...rest }: Fault): void {
  // Path a stays in the plan: it is the one that lives in the end.
  if (path.isClosed || (kind === "remove" && path.id === "a")) return;
  const isPlanned = world.device.status().paths.some(({ id }) => id === path.id);
  switch (kind) {
    case "down":
    case "down-landed":
      if (path.isUp) path.down({ hasLanded: kind === "down-landed" });
      break;
    case "refused":
      path.down({ isRefused: true });
      break;
    case "up":
      if (!path.isUp) path.up();
      break;
    case "remove":
      void world.device.removePath(path.id).catch(() => undefined);
      break;
    case "restore":
      if (isPlanned) world.device.restorePath(path.id);
      break;
    case "fail":
      try {
        world.device.failPath(path.id);
      } catch {
        // The last one, or not there any more.
      }
      break;
    case "policy":
      if ("policy" in rest) world.device.setPolicy(rest.policy);
      break;
    case "path-errors":
    case "unit-errors": {
      const untilMs = world.clock.nowMs() + ("spanMs" in rest ? rest.spanMs : 0);
      const failure = kind === "path-errors" ? pathGone(path.id) : hardwareError();
      path.answer = () => (world.clock.nowMs() < untilMs ? failure : undefined);
      break;
    }
  }
}

/** Writes and reads its own blocks in turn; the fill of each write is its number. */
async function user(world: MultipathWorld, index: number): Promise<Buffer> {
  const startBytes = index * BLOCKS_PER_USER * BLOCK;
  const model = Buffer.alloc(BLOCKS_PER_USER * BLOCK);
  for (let operation = 1; operation <= OPERATIONS_PER_USER; operation += 1) {
    const at = (operation % BLOCKS_PER_USER) * BLOCK;
    if (operation % 3 === 0) {
      const target = Buffer.alloc(BLOCK);
      await world.device.read(startBytes + at, target);
      expect(target.equals(model.subarray(at, at + BLOCK))).toBe(true);
    } else {
      model.fill(operation, at, at + BLOCK);
      await world.device.write(startBytes + at, Buffer.alloc(BLOCK, operation));
    }
  }
  return model;
}

describe("paths that fail at random", () => {
  it("fail no request while one lives in the end, and the data are what was written", async () => {
    await fc.assert(
      fc.asyncProperty(plan, async ({ policy, latenciesMs, steps }) => {
        const world = await MultipathWorld.up({
          ...{ policy, latenciesMs, paths: latenciesMs.length, failbackDelayMs: 500, verifyIntervalMs: 1_000 },
          // Errors of the unit last longer here than an operator would retry.
          retryCount: 100_000,
        });
        const users = Promise.all(Array.from({ length: USERS }, (_, index) => user(world, index)));
        for (const { pauseMs, path, fault: happening } of steps) {
          await world.clock.advance(pauseMs);
          const subject = world.paths[path % world.paths.length];
          if (subject !== undefined) apply(world, subject, happening);
        }
        // One path comes back; the others stay as they are, and what they keep may go over it.
        const survivor = world.path("a");
        survivor.answer = () => undefined;
        world.device.restorePath("a");
        survivor.down();
        survivor.up();
        await world.clock.advance(600_000);
        const models = await users;
        const disk = Buffer.alloc(USERS * BLOCKS_PER_USER * BLOCK);
        await world.disk.read(0, disk);
        expect(disk.equals(Buffer.concat(models))).toBe(true);
        await world.device.close();
        expect(world.clock.pendingTimers).toBe(0);
      }),
      { numRuns: 40, seed: 5 },
    );
  }, 120_000);
});
