import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import type { Clock } from "../base/clock.js";
import { CancelledError } from "../base/errors.js";
import type { Logger, LogLevel } from "../base/logger.js";
import type { Random } from "../base/random.js";
import { SystemClock } from "../base/system-clock.js";
import { SystemRandom } from "../base/system-random.js";
import { ExitCode } from "./exit-codes.js";
import type { OutputPort } from "./output.js";
import { createPinoLogger } from "./pino-logger.js";

/** Everything of the real world that commands get handed. */
export interface Runtime {
  readonly clock: Clock;
  readonly random: Random;
  readonly out: OutputPort;
  readonly err: OutputPort;
  /** Of `err`, where progress is shown. */
  readonly isTerminal: boolean;
  /** Of `out`. */
  readonly isOutputTerminal: boolean;
  readonly hostName: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Folder of the package: `proto/` lies in it. */
  readonly packageDirectory: string;
  /** Aborts on SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
  logger(name: string, level: LogLevel): Logger;
  uuid(): string;
}

/** What layers below are handed of a runtime, with the logger of the command. */
export function corePorts(runtime: Runtime, logger: Logger): { clock: Clock; random: Random; logger: Logger } {
  return { clock: runtime.clock, random: runtime.random, logger };
}

export interface RuntimeOptions {
  /** End when nobody reads the output any more (`| head`): for a program that only prints. A service goes on. */
  readonly endsWithOutput: boolean;
}

/** The process's own runtime. Called once, by main.ts or hawserctl.ts. */
export function createRuntime(packageDirectory: string, { endsWithOutput }: RuntimeOptions): Runtime {
  const controller = new AbortController();
  const stop = (signal: NodeJS.Signals): void => {
    controller.abort(new CancelledError("cli", "INTERRUPTED", `stopped by ${signal}`));
  };
  process.once("SIGINT", stop);
  process.once("SIGTERM", stop);
  process.stdout.on("error", () => {
    if (endsWithOutput) process.exit(ExitCode.ok);
  });
  process.stderr.on("error", () => undefined);
  return {
    clock: new SystemClock(),
    random: new SystemRandom(),
    out: { write: (text) => process.stdout.write(text) },
    err: { write: (text) => process.stderr.write(text) },
    isTerminal: process.stderr.isTTY,
    isOutputTerminal: process.stdout.isTTY,
    hostName: hostname(),
    environment: process.env,
    packageDirectory,
    signal: controller.signal,
    logger: (name, level) => createPinoLogger({ name, level }),
    uuid: randomUUID,
  };
}
