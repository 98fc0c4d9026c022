import type { Clock, Timer } from "../base/clock.js";
import { TARGET_DATA_TIMEOUT_MS } from "../base/limits.js";
import type { TargetTask } from "./task.js";

export interface DataWatchDependencies {
  readonly clock: Clock;
  readonly tasks: () => Iterable<TargetTask>;
  /** Nothing came for a task for too long: its data, or what asked for it, was lost (RFC 7143 §7.1.4.1). */
  readonly onSilent: (task: TargetTask) => void;
}

/** Watches over the Data-Out that tasks of one session wait for. One timer for all, and none while nothing is due. */
export class DataWatch {
  readonly #deps: DataWatchDependencies;
  #timer: Timer | undefined;

  constructor(dependencies: DataWatchDependencies) {
    this.#deps = dependencies;
  }

  /** A task waits for data from now on. */
  begin(): void {
    this.#timer ??= this.#deps.clock.setTimer(TARGET_DATA_TIMEOUT_MS, () => this.#look());
  }

  end(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #look(): void {
    this.#timer = undefined;
    const nowMs = this.#deps.clock.nowMs();
    let nextMs = Infinity;
    for (const task of [...this.#deps.tasks()]) {
      if (!isWaiting(task) || task.recovery === undefined) continue;
      // The same sum decides and sets the timer: rounded differently, the two would disagree for ever.
      if (task.recovery.lastDataMs + TARGET_DATA_TIMEOUT_MS <= nowMs) this.#deps.onSilent(task);
      if (isWaiting(task)) nextMs = Math.min(nextMs, task.recovery.lastDataMs + TARGET_DATA_TIMEOUT_MS);
    }
    if (nextMs < Infinity) this.#timer = this.#deps.clock.setTimer(nextMs - nowMs, () => this.#look());
  }
}

function isWaiting(task: TargetTask): boolean {
  return task.state === "receiving" && task.slot.canSend && !task.isDraining;
}
