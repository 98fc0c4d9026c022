import { PATHS } from "./layout.js";
import { run, type RunOptions } from "./process.js";

/** Runs kubectl as administrator and returns what it printed. Throws with its message when it fails. */
export function kubectl(args: readonly string[], options: RunOptions = {}): Promise<string> {
  return run(PATHS.kubectl, args, options);
}
