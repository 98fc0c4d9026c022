import { readFileSync } from "node:fs";
import { join } from "node:path";
import { MUTANTS } from "./mutants/mutants.js";
import { readRegressions } from "./regressions.js";
import { sweep } from "./sweep.js";
import { SimWorld } from "./world.js";

/** Seeds of every run; `npm run sim` takes as many more as there is time for. */
const FIXED_SEEDS = 300;
const SEEDS_PER_TEST = 50;

async function violationsOf(seed: number): Promise<readonly string[]> {
  const { violations } = await new SimWorld(seed).run();
  return violations.map((violation) => `seed ${seed}: ${violation}`);
}

for (let from = 1; from <= FIXED_SEEDS; from += SEEDS_PER_TEST) {
  it(`keeps every rule in the worlds of seeds ${from} to ${from + SEEDS_PER_TEST - 1}`, async () => {
    const violations: string[] = [];
    for (let seed = from; seed < from + SEEDS_PER_TEST; seed += 1) violations.push(...(await violationsOf(seed)));
    expect(violations).toEqual([]);
  });
}

it("keeps every rule in the worlds that once broke one", async () => {
  const violations: string[] = [];
  for (const { seed } of readRegressions(__dirname)) violations.push(...(await violationsOf(seed)));
  expect(violations).toEqual([]);
});

it("does the same twice for the same seed, and something else for another", async () => {
  const hashes: string[] = [];
  for (const seed of [7, 7, 8]) hashes.push((await new SimWorld(seed).run()).hash);
  expect(hashes[0]).toBe(hashes[1]);
  expect(hashes[2]).not.toBe(hashes[0]);
});

it("survives a cut after every byte of a short life, in each direction", async () => {
  let worlds = 0;
  for await (const { wire, isToTarget, afterBytes, result } of sweep(3, 60)) {
    worlds += 1;
    expect({ wire, isToTarget, afterBytes, violations: result.violations }).toEqual(
      expect.objectContaining({ violations: [] }),
    );
  }
  expect(worlds).toBeGreaterThan(200);
});

it.each(MUTANTS.map((mutant) => [mutant.name, mutant] as const))(
  "finds the place of the mutant: %s",
  (_name, mutant) => {
    const source = readFileSync(join(__dirname, "..", "..", mutant.file), "utf8");
    expect(source.split(mutant.search)).toHaveLength(2);
  },
);
