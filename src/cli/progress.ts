import type { Clock, Timer } from "../base/clock.js";
import type { OutputPort } from "./output.js";

/** How long something may take in silence. */
const QUIET_MS = 1000;

/**
 * Says on `output` that `label` is still going on, first after one second and then every second: in place on a
 * terminal, every tenth second as a line elsewhere. Returns what `work` returns.
 */
export async function withProgress<T>(
  label: string,
  dependencies: { readonly clock: Clock; readonly output: OutputPort; readonly isTerminal: boolean },
  work: (report: (detail: string) => void) => Promise<T>,
): Promise<T> {
  const { clock, output, isTerminal } = dependencies;
  const startMs = clock.nowMs();
  let detail = "";
  let ticks = 0;
  let timer: Timer;
  const tick = (): void => {
    const seconds = Math.round((clock.nowMs() - startMs) / 1000);
    const text = `${label}${detail === "" ? "" : `: ${detail}`} (${seconds} s)`;
    if (isTerminal) output.write(`\r\u001b[K${text}`);
    else if (ticks % 10 === 0) output.write(`${text}\n`);
    ticks += 1;
    timer = clock.setTimer(QUIET_MS, tick);
  };
  timer = clock.setTimer(QUIET_MS, tick);
  try {
    return await work((text) => {
      detail = text;
    });
  } finally {
    timer.cancel();
    if (isTerminal && ticks > 0) output.write("\r\u001b[K");
  }
}
