import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Seeds that found something once; every test run repeats them. */
export interface Regression {
  readonly seed: number;
  readonly note: string;
}

export function readRegressions(folder: string): Regression[] {
  return JSON.parse(readFileSync(join(folder, "regressions.json"), "utf8")) as Regression[];
}

/** Adds what is not there yet. */
export function rememberRegressions(folder: string, found: readonly Regression[]): void {
  const known = readRegressions(folder);
  const fresh = found.filter(({ seed }) => !known.some((each) => each.seed === seed));
  if (fresh.length === 0) return;
  writeFileSync(join(folder, "regressions.json"), `${JSON.stringify([...known, ...fresh], null, 2)}\n`);
}
