import { totalmem } from "node:os";
import { join } from "node:path";
import { Command, Option } from "commander";
import type { PortalAddress } from "../../base/access.js";
import { AppError } from "../../base/errors.js";
import type { Logger } from "../../base/logger.js";
import { createControllerService } from "../../csi/controller.js";
import { createIdentityService } from "../../csi/identity.js";
import { InFlight } from "../../csi/in-flight.js";
import type { StorageBackend } from "../../storage/backend.js";
import { EmbeddedBackend } from "../../storage/embedded-backend.js";
import { FileStore } from "../../storage/file-store.js";
import { MemoryStore } from "../../storage/memory-store.js";
import { StaticBackend } from "../../storage/static-backend.js";
import { StaticBeside } from "../../storage/static-beside.js";
import type { VolumeStore } from "../../storage/volume-store.js";
import { createTargetServer } from "../../target/target-server.js";
import { TcpListener } from "../../transport/tcp.js";
import { addCsiOptions, csiHealth, serveCsi, type CsiOptions } from "../csi-options.js";
import { argument, portalsArgument, requirePortals } from "../options.js";
import { readVersion } from "../package-version.js";
import { corePorts, type Runtime } from "../runtime.js";
import { parseStore, type StoreArgument } from "../store-argument.js";

interface ControllerOptions extends CsiOptions {
  readonly backend: "embedded" | "static";
  readonly store?: StoreArgument;
  readonly portal?: readonly PortalAddress[];
  readonly advertise?: readonly PortalAddress[];
}

function openStore(store: StoreArgument | undefined, runtime: Runtime, logger: Logger): VolumeStore {
  switch (store?.kind) {
    case "file":
      return new FileStore({ directory: store.directory }, { random: runtime.random, logger });
    case "memory":
      return new MemoryStore({ capacityBytes: totalmem() / 2 });
    case "null":
      throw new AppError("cli", "STORE_INVALID", "the null store keeps nothing; a controller needs file:DIR or memory");
    case undefined:
      throw new AppError("cli", "STORE_MISSING", "the embedded backend needs --store file:DIR or --store memory");
  }
}

async function openBackend(options: ControllerOptions, runtime: Runtime, logger: Logger): Promise<StorageBackend> {
  if (options.backend === "static") return new StaticBackend({ logger });
  const ports = corePorts(runtime, logger);
  const target = createTargetServer(
    { portals: requirePortals(options.portal) },
    { ...ports, listener: new TcpListener(ports) },
  );
  const advertised = options.advertise === undefined ? {} : { advertisedPortals: options.advertise };
  const store = openStore(options.store, runtime, logger);
  const embedded = await EmbeddedBackend.open(advertised, { ...ports, store, target });
  return new StaticBeside(embedded, new StaticBackend({ logger }));
}

async function runController(options: ControllerOptions, runtime: Runtime): Promise<void> {
  const logger = runtime.logger("controller", options.logLevel);
  const backend = await openBackend(options, runtime, logger);
  try {
    const version = await readVersion(runtime.packageDirectory);
    const services = [
      createIdentityService({ version }, { probe: () => backend.probe() }),
      createControllerService({ backend, inFlight: new InFlight(), random: runtime.random }),
    ];
    await serveCsi(options, services, runtime, logger, csiHealth(options, runtime, logger));
  } finally {
    await backend.close();
  }
}

/** `hawser controller`. */
export function controllerCommand(runtime: Runtime): Command {
  const command = new Command("controller")
    .description("serve the CSI Controller service over a storage backend")
    .addOption(
      new Option("--backend <KIND>", "where volumes come from").choices(["embedded", "static"]).default("static"),
    )
    .option("--store <STORE>", "embedded: file:DIR or memory", argument(parseStore))
    .option("--portal <HOST:PORT>", "embedded: portal to listen on, repeatable", portalsArgument)
    .option("--advertise <HOST:PORT>", "embedded: portal that nodes shall use, repeatable", portalsArgument);
  return addCsiOptions(command)
    .addHelpText(
      "after",
      `\nExamples:\n  hawser controller --endpoint unix:///csi/csi.sock --backend static\n  hawser controller --endpoint unix:///csi/csi.sock --backend embedded --store file:${join("/", "srv", "volumes")} --portal 0.0.0.0:3260 --advertise 10.0.0.5:3260\n`,
    )
    .action((options: ControllerOptions) => runController(options, runtime));
}
