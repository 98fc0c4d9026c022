import { spawn, type ChildProcess } from "node:child_process";
import { Backoff } from "../base/backoff.js";
import type { Clock, Timer } from "../base/clock.js";
import type { Logger } from "../base/logger.js";
import type { Random } from "../base/random.js";

export interface ChildDefinition {
  readonly name: string;
  readonly argv: readonly string[];
}

export interface SupervisorDependencies {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** How long a child may take to stop by itself before it is killed. */
const STOP_TIMEOUT_MS = 20_000;

/** A child that ran this long had started well: its next restart is quick again. */
const SETTLED_MS = 10_000;

class Child {
  readonly #definition: ChildDefinition;
  readonly #dependencies: SupervisorDependencies;
  readonly #backoff: Backoff;
  #process: ChildProcess | undefined;
  #restart: Timer | undefined;
  #isStopping = false;
  #onStopped: (() => void) | undefined;

  constructor(definition: ChildDefinition, dependencies: SupervisorDependencies) {
    this.#definition = definition;
    this.#dependencies = dependencies;
    this.#backoff = new Backoff({ initialMs: 200, maximumMs: 10_000 }, dependencies);
  }

  start(): void {
    const { clock, logger } = this.#dependencies;
    const { name, argv } = this.#definition;
    const startMs = clock.nowMs();
    const child = spawn(process.execPath, [...process.execArgv, ...argv], { stdio: ["ignore", "inherit", "inherit"] });
    this.#process = child;
    logger.info("child started", { child: name, pid: child.pid });
    child.once("error", (error) => logger.error("child cannot be started", { child: name, error }));
    child.once("exit", (code, signal) => {
      this.#process = undefined;
      if (this.#isStopping) {
        this.#onStopped?.();
        return;
      }
      if (clock.nowMs() - startMs > SETTLED_MS) this.#backoff.reset();
      const delayMs = this.#backoff.next();
      logger.warn("child died and is started again", { child: name, code, signal, delayMs: Math.round(delayMs) });
      this.#restart = clock.setTimer(delayMs, () => this.start());
    });
  }

  /** Asks the child to stop, kills it when it does not, and resolves when it is gone. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#restart?.cancel();
    const child = this.#process;
    if (child === undefined) return;
    const stopped = new Promise<void>((resolve) => (this.#onStopped = resolve));
    const killer = this.#dependencies.clock.setTimer(STOP_TIMEOUT_MS, () => {
      this.#dependencies.logger.error("child does not stop and is killed", { child: this.#definition.name });
      child.kill("SIGKILL");
    });
    child.kill("SIGTERM");
    await stopped;
    killer.cancel();
  }
}

/** Runs processes of this program side by side, starts again what dies, and stops them in reverse order. */
export class Supervisor {
  readonly #children: readonly Child[];

  constructor(definitions: readonly ChildDefinition[], dependencies: SupervisorDependencies) {
    this.#children = definitions.map((definition) => new Child(definition, dependencies));
  }

  start(): void {
    for (const child of this.#children) child.start();
  }

  async stop(): Promise<void> {
    for (const child of [...this.#children].reverse()) await child.stop();
  }
}
