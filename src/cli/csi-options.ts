import { Option, type Command } from "commander";
import { AppError } from "../base/errors.js";
import type { LogLevel } from "../base/logger.js";
import { CSI_SPEC_LEVELS, type CsiSpecLevel } from "../csi/capabilities.js";
import { loadCsiProto } from "../csi/proto.js";
import { CsiServer } from "../csi/server.js";
import type { CsiService } from "../csi/service.js";
import type { Logger } from "../base/logger.js";
import { untilAborted } from "./interrupt.js";
import { addLogOption } from "./options.js";
import type { Runtime } from "./runtime.js";
import { join } from "node:path";

export interface CsiOptions {
  readonly endpoint: string;
  readonly csiSpecLevel: CsiSpecLevel;
  readonly logLevel: LogLevel;
}

/** The flags of every process that serves CSI. */
export function addCsiOptions(command: Command): Command {
  command
    .requiredOption("--endpoint <ENDPOINT>", "unix socket to serve CSI on, unix:///path")
    .addOption(
      new Option("--csi-spec-level <LEVEL>", "version of the CSI interface").choices(CSI_SPEC_LEVELS).default("1.13"),
    );
  return addLogOption(command, "info");
}

/** The path of a `unix:` endpoint. */
export function socketPathOf(endpoint: string): string {
  const match = /^unix:(?:\/\/)?(\/.+)$/.exec(endpoint);
  if (match?.[1] !== undefined) return match[1];
  throw new AppError("cli", "ENDPOINT_INVALID", `"${endpoint}" is not an endpoint; write unix:///path/to/csi.sock`);
}

/** Serves until the runtime's signal aborts. */
export async function serveCsi(
  options: CsiOptions,
  services: readonly CsiService[],
  runtime: Runtime,
  logger: Logger,
): Promise<void> {
  const proto = loadCsiProto({ protoDirectory: join(runtime.packageDirectory, "proto") });
  const server = new CsiServer(
    { socketPath: socketPathOf(options.endpoint), services },
    { proto, clock: runtime.clock, logger },
  );
  await server.start();
  await untilAborted(runtime.signal);
  await server.close();
}
