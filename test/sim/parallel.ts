import { fork } from "node:child_process";

/** Seeds that a process takes at a time. */
const CHUNK_SEEDS = 25;

export interface SeedRange {
  readonly from: number;
  readonly count: number;
}

/** In a process of its own: runs one range after the other, and hands over what each came to. */
export function serveRanges(run: (range: SeedRange) => Promise<unknown>): void {
  process.on("message", (range: SeedRange) => {
    void run(range).then((tally) => process.send?.(tally));
  });
}

/** Has `jobs` processes that serve ranges (see serveRanges) run the seeds between them; `add` adds what comes back to `total`. */
export async function runParallel<Tally>(
  range: SeedRange,
  options: { readonly jobs: number; readonly script: string; readonly args: readonly string[] },
  total: Tally,
  add: (total: Tally, part: Tally) => void,
): Promise<Tally> {
  let next = range.from;
  const end = range.from + range.count;
  const worker = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const child = fork(options.script, options.args);
      const feed = (): void => {
        if (next >= end) {
          child.disconnect();
          resolve();
          return;
        }
        const count = Math.min(CHUNK_SEEDS, end - next);
        child.send({ from: next, count });
        next += count;
      };
      child.on("message", (tally: Tally) => {
        add(total, tally);
        feed();
      });
      child.on("error", reject);
      child.on("exit", (code) => {
        if (code !== 0) reject(new Error(`a process of the simulation ended with ${code ?? "a signal"}`));
      });
      feed();
    });
  await Promise.all(Array.from({ length: options.jobs }, worker));
  return total;
}
