import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Command } from "commander";
import type { PortalAddress } from "../../base/access.js";
import type { LogLevel } from "../../base/logger.js";
import { formatPortal } from "../../base/portal.js";
import { untilAborted } from "../interrupt.js";
import { addLogOption, portalsArgument } from "../options.js";
import type { Runtime } from "../runtime.js";
import { Supervisor, type ChildDefinition } from "../supervisor.js";

interface AllInOneOptions {
  readonly directory: string;
  readonly portal?: readonly PortalAddress[];
  readonly store?: string;
  readonly nodeName?: string;
  readonly backend: string;
  readonly csiSpecLevel: string;
  readonly logLevel: LogLevel;
}

/** The three processes, sharing one folder of state and sockets. */
export function childDefinitions(
  options: AllInOneOptions,
  program: string,
  hostName: string,
): readonly ChildDefinition[] {
  const { directory } = options;
  const socket = (name: string): string => join(directory, `${name}.sock`);
  const common = ["--log-level", options.logLevel];
  const level = ["--csi-spec-level", options.csiSpecLevel];
  const nodeName = ["--node-name", options.nodeName ?? hostName];
  const portals = options.portal ?? [{ host: "127.0.0.1", port: 3260 }];
  return [
    {
      name: "controller",
      argv: [
        ...[program, "controller", "--endpoint", `unix://${socket("controller")}`, "--backend", "embedded"],
        ...["--store", options.store ?? `file:${join(directory, "store")}`],
        ...portals.flatMap((portal) => ["--portal", formatPortal(portal)]),
        ...level,
        ...common,
      ],
    },
    {
      name: "dataplane",
      argv: [
        ...[program, "dataplane", "--socket", socket("dataplane"), "--state-dir", join(directory, "state")],
        ...["--runtime-dir", join(directory, "run"), "--backend", options.backend],
        ...nodeName,
        ...common,
      ],
    },
    {
      name: "node",
      argv: [
        ...[program, "node", "--endpoint", `unix://${socket("node")}`, "--dataplane", socket("dataplane")],
        ...["--state-dir", join(directory, "state")],
        ...nodeName,
        ...level,
        ...common,
      ],
    },
  ];
}

/** `hawser all-in-one`: quick start and development. */
export function allInOneCommand(runtime: Runtime): Command {
  const command = new Command("all-in-one")
    .description("run dataplane, controller with the embedded target, and node on this host")
    .requiredOption("--directory <DIR>", "folder for sockets, state and the volumes' files")
    .option(
      "--portal <HOST:PORT>",
      "portal of the embedded target, repeatable (default 127.0.0.1:3260)",
      portalsArgument,
    )
    .option("--store <STORE>", "file:DIR or memory (default file:DIRECTORY/store)")
    .option("--node-name <NAME>", "name of this node (default: the host's name)")
    .option("--backend <KIND>", "how the kernel gets devices: auto, nbd or fuse", "auto")
    .option("--csi-spec-level <LEVEL>", "1.12 or 1.13", "1.13");
  addLogOption(command, "info");
  command.addHelpText(
    "after",
    "\nExample:\n  hawser all-in-one --directory /var/lib/hawser-trial --portal 127.0.0.1:3260\n",
  );
  return command.action(async (options: AllInOneOptions) => {
    await mkdir(options.directory, { recursive: true, mode: 0o700 });
    const logger = runtime.logger("all-in-one", options.logLevel);
    const program = process.argv[1] ?? "";
    const supervisor = new Supervisor(childDefinitions(options, program, runtime.hostName), { ...runtime, logger });
    supervisor.start();
    await untilAborted(runtime.signal);
    await supervisor.stop();
  });
}
