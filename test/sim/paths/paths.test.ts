import { readFileSync } from "node:fs";
import { join } from "node:path";
import { readRegressions } from "../regressions.js";
import { PATH_MUTANTS } from "./path-mutants.js";
import { PathWorld } from "./path-world.js";

/** Seeds of every run; `npm run sim -- --paths` takes as many more as there is time for. */
const FIXED_SEEDS = 100;
const SEEDS_PER_TEST = 25;

async function violationsOf(seed: number): Promise<readonly string[]> {
  const { violations } = await new PathWorld(seed).run();
  return violations.map((violation) => `seed ${seed}: ${violation}`);
}

for (let from = 1; from <= FIXED_SEEDS; from += SEEDS_PER_TEST) {
  it(`keeps every rule in the worlds of several paths of seeds ${from} to ${from + SEEDS_PER_TEST - 1}`, async () => {
    const violations: string[] = [];
    for (let seed = from; seed < from + SEEDS_PER_TEST; seed += 1) violations.push(...(await violationsOf(seed)));
    expect(violations).toEqual([]);
  });
}

it("keeps every rule in the worlds of several paths that once broke one", async () => {
  const violations: string[] = [];
  for (const { seed } of readRegressions(__dirname)) violations.push(...(await violationsOf(seed)));
  expect(violations).toEqual([]);
});

it("does the same twice for the same seed, and something else for another", async () => {
  const hashes: string[] = [];
  for (const seed of [7, 7, 8]) hashes.push((await new PathWorld(seed).run()).hash);
  expect(hashes[0]).toBe(hashes[1]);
  expect(hashes[2]).not.toBe(hashes[0]);
});

it.each(PATH_MUTANTS.map((mutant) => [mutant.name, mutant] as const))(
  "finds the place of the mutant: %s",
  (_name, mutant) => {
    const source = readFileSync(join(__dirname, "..", "..", "..", mutant.file), "utf8");
    expect(source.split(mutant.search)).toHaveLength(2);
  },
);
