import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Mutant } from "./mutants.js";

/** Worlds a mutant must not survive. */
const SEEDS_PER_MUTANT = 3_000;

const root = join(import.meta.dirname, "..", "..", "..");

interface Caught {
  /** Undefined when a unit test caught it. */
  readonly seed?: number;
  readonly violation: string;
}

/** A copy of the sources with one mistake in it; `remove` deletes it. */
function copyWith(mutant: Mutant): { readonly folder: string; readonly remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), "hawser-mutant-"));
  cpSync(join(root, "src"), join(folder, "src"), { recursive: true });
  for (const name of ["sim", "support", "unit"]) {
    cpSync(join(root, "test", name), join(folder, "test", name), { recursive: true });
  }
  for (const name of ["package.json", "tsconfig.json", "jest.config.cjs"]) cpSync(join(root, name), join(folder, name));
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  const path = join(folder, mutant.file);
  const source = readFileSync(path, "utf8");
  const parts = source.split(mutant.search);
  if (parts.length !== 2) {
    rmSync(folder, { recursive: true });
    throw new Error(`mutant "${mutant.name}": its text is ${parts.length - 1} times in ${mutant.file}, not once`);
  }
  writeFileSync(path, parts.join(mutant.replacement));
  return { folder, remove: () => rmSync(folder, { recursive: true }) };
}

function catchMutant(mutant: Mutant, simArguments: readonly string[]): Promise<Caught | undefined> {
  const { folder, remove } = copyWith(mutant);
  const { unitTest } = mutant;
  return (unitTest === undefined ? simulate(mutant, folder, simArguments) : runUnitTest(unitTest, folder)).finally(
    remove,
  );
}

function runUnitTest(unitTest: string, folder: string): Promise<Caught | undefined> {
  return new Promise((resolve, reject) => {
    const jest = join(root, "node_modules", "jest", "bin", "jest.js");
    const args = [jest, "--selectProjects", "unit", "--testPathPatterns", unitTest];
    const child = spawn(process.execPath, args, { cwd: folder, stdio: "ignore" });
    child.on("error", reject);
    child.on("exit", (code) => resolve(code === 0 ? undefined : { violation: unitTest }));
  });
}

/** The first seed whose world the mutant does not survive. */
function simulate(mutant: Mutant, folder: string, simArguments: readonly string[]): Promise<Caught | undefined> {
  return new Promise<Caught | undefined>((resolve, reject) => {
    const script = join(folder, "test", "sim", "main.ts");
    const args = [...process.execArgv, script, ...simArguments, "--until-failure", "--seeds", String(SEEDS_PER_MUTANT)];
    const child = spawn(process.execPath, args, { cwd: folder, stdio: ["ignore", "pipe", "inherit"] });
    let said = "";
    child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
    child.on("error", reject);
    child.on("exit", (code) => {
      if (code === 0) resolve(undefined);
      else if (said.startsWith("{")) resolve(JSON.parse(said) as Caught);
      else reject(new Error(`mutant "${mutant.name}": the simulation ended with ${code ?? "a signal"}: ${said}`));
    });
  });
}

/** Runs them all and prints a table; resolves with whether each was caught. `simArguments` choose the kind of world. */
export async function runMutants(
  mutants: readonly Mutant[],
  jobs: number,
  simArguments: readonly string[] = [],
): Promise<boolean> {
  const rows: {
    readonly mutant: string;
    readonly seed: string;
    readonly isCaught: boolean;
    readonly caughtBy: string;
  }[] = [];
  const waiting = [...mutants];
  const worker = async (): Promise<void> => {
    for (let mutant = waiting.shift(); mutant !== undefined; mutant = waiting.shift()) {
      const caught = await catchMutant(mutant, simArguments);
      const violation = caught?.violation.replace(/^\[[^\]]*\] /, "").split(/: \[|: \d|\n/)[0] ?? "";
      rows.push({
        mutant: mutant.name,
        seed: String(caught?.seed ?? "-"),
        isCaught: caught !== undefined,
        caughtBy: caught === undefined ? `NOT CAUGHT in ${SEEDS_PER_MUTANT} seeds` : violation.slice(0, 90),
      });
      console.log(`${mutant.name}: ${rows.at(-1)?.caughtBy ?? ""} (seed ${rows.at(-1)?.seed ?? "-"})`);
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  rows.sort((a, b) => a.mutant.localeCompare(b.mutant));
  const missed = rows.filter(({ isCaught }) => !isCaught).length;
  console.log("\n| mutant | caught by | seed |\n|---|---|---|");
  for (const { mutant, caughtBy, seed } of rows) console.log(`| ${mutant} | ${caughtBy} | ${seed} |`);
  console.log(`mutants: ${rows.length - missed} caught, ${missed} not`);
  return missed === 0;
}
