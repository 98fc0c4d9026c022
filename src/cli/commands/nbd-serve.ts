import { access } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { Command } from "commander";
import type { PortalAddress } from "../../base/access.js";
import { AppError } from "../../base/errors.js";
import type { LogLevel } from "../../base/logger.js";
import { formatSize } from "../../base/size.js";
import { NbdServer } from "../../nbd/server.js";
import { UnixListener } from "../../transport/unix.js";
import { untilAborted } from "../interrupt.js";
import { addSettingOptions, type SettingOptions } from "../initiator-settings.js";
import {
  addInitiatorOptions,
  addLogOption,
  portalsArgument,
  requirePortals,
  wholeNumber,
  type InitiatorOptions,
} from "../options.js";
import { corePorts, type Runtime } from "../runtime.js";
import { connectForCommand } from "../volume-for-command.js";

interface NbdServeOptions extends InitiatorOptions, SettingOptions {
  readonly portal?: readonly PortalAddress[];
  readonly target: string;
  readonly lun: number;
  readonly socket: string;
  readonly logLevel: LogLevel;
}

async function requireFolder(folder: string): Promise<void> {
  try {
    await access(folder);
  } catch (error) {
    throw new AppError("cli", "SOCKET_FOLDER_MISSING", `--socket: there is no folder ${folder}; make it first`, {
      cause: error,
    });
  }
}

async function serve(options: NbdServeOptions, runtime: Runtime): Promise<void> {
  const logger = runtime.logger("hawserctl", options.logLevel);
  const path = resolve(options.socket);
  await requireFolder(dirname(path));
  const volume = await connectForCommand({ ...options, portals: requirePortals(options.portal) }, runtime, logger);
  const server = new NbdServer(
    { endpoint: { kind: "unix", path }, exports: new Map([["", volume.device]]) },
    { clock: runtime.clock, logger, listener: new UnixListener({}, corePorts(runtime, logger)) },
  );
  try {
    await server.start();
    const { sizeBytes, identity } = volume.device.info;
    runtime.err.write(
      `serving ${identity.id} (${formatSize(sizeBytes)}) on nbd+unix:///?socket=${path}; stop with Ctrl-C\n`,
    );
    await untilAborted(runtime.signal);
  } finally {
    await server.close();
    await volume.close();
  }
}

/** `hawserctl nbd-serve`. */
export function nbdServeCommand(runtime: Runtime): Command {
  const command = new Command("nbd-serve")
    .description("serve an iSCSI LUN as an NBD export on a unix socket, for qemu, nbdcopy, fio and others")
    .option(
      "--portal <HOST:PORT>",
      "portal of the target, repeatable: the next is tried when one fails",
      portalsArgument,
    )
    .requiredOption("--target <IQN>", "target name")
    .option("--lun <N>", "logical unit", wholeNumber(0, 16_777_215), 0)
    .requiredOption("--socket <PATH>", "unix socket to listen on");
  addLogOption(addSettingOptions(addInitiatorOptions(command)), "warn");
  return command
    .addHelpText(
      "after",
      "\nExample:\n  hawserctl nbd-serve --portal 10.0.0.5 --target iqn.2001-01.com.example:disk --lun 1 --socket /run/disk.sock &\n  qemu-img info 'nbd+unix:///?socket=/run/disk.sock'\n",
    )
    .action((options: NbdServeOptions) => serve(options, runtime));
}
