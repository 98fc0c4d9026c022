import { Option, type Command } from "commander";
import type { PortalAddress } from "../base/access.js";
import { AppError } from "../base/errors.js";
import type { LogLevel } from "../base/logger.js";
import { CSI_SPEC_LEVELS, type CsiSpecLevel } from "../csi/capabilities.js";
import { loadCsiProto, type CsiProto } from "../csi/proto.js";
import { CsiServer } from "../csi/server.js";
import type { CsiService } from "../csi/service.js";
import type { Logger } from "../base/logger.js";
import { csiChecks } from "./health-checks.js";
import { addHealthOption, HealthServer } from "./health-server.js";
import { untilAborted } from "./interrupt.js";
import { addLogOption } from "./options.js";
import type { Runtime } from "./runtime.js";
import { join } from "node:path";

export interface CsiOptions {
  readonly endpoint: string;
  readonly csiSpecLevel: CsiSpecLevel;
  readonly logLevel: LogLevel;
  readonly health?: PortalAddress;
}

/** The flags of every process that serves CSI. */
export function addCsiOptions(command: Command): Command {
  command
    .requiredOption("--endpoint <ENDPOINT>", "unix socket to serve CSI on, unix:///path")
    .addOption(
      new Option("--csi-spec-level <LEVEL>", "version of the CSI interface").choices(CSI_SPEC_LEVELS).default("1.13"),
    );
  return addLogOption(addHealthOption(command), "info");
}

/** The path of a `unix:` endpoint. */
export function socketPathOf(endpoint: string): string {
  const match = /^unix:(?:\/\/)?(\/.+)$/.exec(endpoint);
  if (match?.[1] !== undefined) return match[1];
  throw new AppError("cli", "ENDPOINT_INVALID", `"${endpoint}" is not an endpoint; write unix:///path/to/csi.sock`);
}

function protoOf(runtime: Runtime): CsiProto {
  return loadCsiProto({ protoDirectory: join(runtime.packageDirectory, "proto") });
}

/** The health server of a process that serves CSI, when one is asked for. */
export function csiHealth(options: CsiOptions, runtime: Runtime, logger: Logger): readonly Companion[] {
  if (options.health === undefined) return [];
  const { clock } = runtime;
  const checks = csiChecks({ socketPath: socketPathOf(options.endpoint), proto: protoOf(runtime) }, { clock });
  return [new HealthServer({ address: options.health, ...checks }, { clock, logger })];
}

/** What runs beside a CSI service, from the moment it is served until shortly before it ends. */
export interface Companion {
  start(): Promise<void>;
  /** Called whether `start` succeeded or not. */
  close(): Promise<void>;
  /** Rejects when the whole process must end because of it. */
  readonly failed?: Promise<never>;
}

/** Serves until the runtime's signal aborts, or a companion fails. */
export async function serveCsi(
  options: CsiOptions,
  services: readonly CsiService[],
  runtime: Runtime,
  logger: Logger,
  companions: readonly Companion[] = [],
): Promise<void> {
  const proto = protoOf(runtime);
  const server = new CsiServer(
    { socketPath: socketPathOf(options.endpoint), services },
    { proto, clock: runtime.clock, logger },
  );
  await server.start();
  const started: Companion[] = [];
  try {
    for (const companion of companions) {
      started.push(companion);
      await companion.start();
    }
    await Promise.race([untilAborted(runtime.signal), ...companions.flatMap(({ failed }) => failed ?? [])]);
  } finally {
    for (const companion of started.reverse()) await companion.close();
    await server.close();
  }
}
