import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Command, Option } from "commander";
import type { ChapCredentials, PortalAddress } from "../../base/access.js";
import { AppError, errorMessage } from "../../base/errors.js";
import type { LogLevel } from "../../base/logger.js";
import { formatPortal, parsePortal } from "../../base/portal.js";
import { formatSize, parseSize } from "../../base/size.js";
import type { BlockDevice } from "../../block/device.js";
import { FileDevice } from "../../block/file-device.js";
import { localIdentity } from "../../block/local-identity.js";
import { MemoryDevice } from "../../block/memory-device.js";
import { NullDevice } from "../../block/null-device.js";
import type { TargetDefinition, TargetPortal } from "../../target/api.js";
import { createTargetServer } from "../../target/target-server.js";
import { TcpListener } from "../../transport/tcp.js";
import { untilAborted } from "../interrupt.js";
import {
  addLogOption,
  argument,
  collecting,
  portalsArgument,
  readChap,
  requirePortals,
  type ChapOptions,
} from "../options.js";
import { corePorts, type Runtime } from "../runtime.js";
import { parseStore, type StoreArgument } from "../store-argument.js";

interface VolumeArgument {
  readonly name: string;
  readonly sizeBytes: number;
}

interface TargetOptions extends ChapOptions {
  readonly store: StoreArgument;
  readonly portal?: readonly TargetPortal[];
  readonly advertise?: readonly PortalAddress[];
  readonly redirectInTurn?: readonly (readonly PortalAddress[])[];
  readonly explicitAccessStates?: boolean;
  readonly volume?: readonly VolumeArgument[];
  readonly prefix: string;
  readonly blockSize: "512" | "4096";
  readonly allow?: readonly string[];
  readonly logLevel: LogLevel;
}

/** `NAME=SIZE`. */
export function parseVolume(text: string): VolumeArgument {
  const match = /^([a-z0-9][a-z0-9.-]{0,62})=(.+)$/.exec(text);
  if (match?.[1] === undefined || match[2] === undefined) {
    throw new AppError("cli", "VOLUME_INVALID", `"${text}" is not NAME=SIZE with a name of a-z, 0-9, dot and dash`);
  }
  return { name: match[1], sizeBytes: parseSize(match[2]) };
}

/** `HOST:PORT` as everywhere, with `@TAG` for another portal group than 1. Fails with PORTAL_INVALID. */
export function parseTargetPortal(text: string): TargetPortal {
  const [, portal = text, tagText] = /^(.*)@(.*)$/.exec(text) ?? [];
  if (tagText === undefined) return parsePortal(portal);
  const portalGroupTag = Number(tagText);
  if (!/^\d+$/.test(tagText) || portalGroupTag < 1 || portalGroupTag > 65_535) {
    const message = `"${text}" names the portal group "${tagText}"; write HOST:PORT@TAG with a tag from 1 to 65535`;
    throw new AppError("cli", "PORTAL_INVALID", message);
  }
  return { ...parsePortal(portal), portalGroupTag };
}

/** Portals with commas between them. Fails with PORTAL_INVALID. */
function parsePortalList(text: string): readonly PortalAddress[] {
  return text.split(",").map(parsePortal);
}

async function makeStore(directory: string): Promise<void> {
  try {
    await mkdir(directory, { recursive: true });
  } catch (error) {
    const reason = `--store: the folder ${directory} cannot be made: ${errorMessage(error)}; name another one`;
    throw new AppError("cli", "STORE_UNUSABLE", reason, { cause: error });
  }
}

async function openDevice(options: TargetOptions, volume: VolumeArgument, targetName: string): Promise<BlockDevice> {
  const logicalBlockBytes: 512 | 4096 = options.blockSize === "512" ? 512 : 4096;
  if (volume.sizeBytes === 0 || volume.sizeBytes % logicalBlockBytes !== 0) {
    const text = `volume ${volume.name} has ${volume.sizeBytes} bytes, which is not a number of ${logicalBlockBytes}-byte blocks`;
    throw new AppError("cli", "VOLUME_INVALID", `${text}; write for example ${volume.name}=1Gi`);
  }
  const identity = localIdentity(targetName);
  const common = { sizeBytes: volume.sizeBytes, logicalBlockBytes, identity } as const;
  switch (options.store.kind) {
    case "memory":
      return new MemoryDevice({ ...common, id: identity.id, serial: identity.serial });
    case "null":
      return new NullDevice(common);
    case "file":
      await makeStore(options.store.directory);
      return FileDevice.open({ ...common, path: join(options.store.directory, `${volume.name}.img`) });
  }
}

async function runTarget(options: TargetOptions, runtime: Runtime): Promise<void> {
  const ports = corePorts(runtime, runtime.logger("target", options.logLevel));
  if (options.volume === undefined) throw new AppError("cli", "VOLUME_MISSING", "give at least one --volume NAME=SIZE");
  const chap = await readChap(options);
  const server = createTargetServer(
    { portals: requirePortals(options.portal) },
    { ...ports, listener: new TcpListener(ports) },
  );
  const devices: BlockDevice[] = [];
  try {
    for (const volume of options.volume) {
      const name = `${options.prefix}:${volume.name}`;
      const device = await openDevice(options, volume, name);
      devices.push(device);
      server.addTarget({
        name,
        luns: new Map([[0, device]]),
        access: accessOf(options.allow, chap),
        explicitAccessStates: options.explicitAccessStates ?? false,
        ...pathsOf(options),
      });
      runtime.out.write(`${name} LUN 0 ${formatSize(device.info.sizeBytes)} ${device.info.identity.id}\n`);
    }
    await server.start();
    runtime.out.write(`listening on ${server.portals.map(formatPortal).join(", ")}; stop with Ctrl-C\n`);
    await untilAborted(runtime.signal);
  } finally {
    await server.stop();
    for (const device of devices) await device.close();
  }
}

/** Where initiators find a target, and where they are sent from there. */
function pathsOf(options: TargetOptions): Pick<TargetDefinition, "advertisedPortals" | "redirect"> {
  const { advertise, redirectInTurn } = options;
  return {
    ...(advertise === undefined ? {} : { advertisedPortals: advertise }),
    ...(redirectInTurn === undefined
      ? {}
      : { redirect: { kind: "temporary", choose: "in-turn", portals: redirectInTurn.flat() } }),
  };
}

function accessOf(
  allowed: readonly string[] | undefined,
  chap: ChapCredentials | undefined,
): Parameters<ReturnType<typeof createTargetServer>["setAccess"]>[1] {
  const withChap = chap === undefined ? {} : { chap };
  if (allowed === undefined) return { kind: "any", ...withChap };
  return { kind: "list", rules: allowed.map((initiatorName) => ({ initiatorName, ...withChap })) };
}

/** `hawser target`. */
export function targetCommand(runtime: Runtime): Command {
  const command = new Command("target")
    .description("the embedded iSCSI target on its own: one target per volume, LUN 0")
    .requiredOption(
      "--store <STORE>",
      "file:DIR (sparse files), memory, or null (for benchmarks: keeps nothing)",
      argument(parseStore),
    )
    .option(
      "--portal <HOST:PORT[@TAG]>",
      "portal to listen on, repeatable; portals of one group (default: 1) are one target port",
      collecting(parseTargetPortal),
    )
    .option(
      "--advertise <HOST:PORT>",
      "portal that discovery tells of, repeatable (default: every one)",
      portalsArgument,
    )
    .option(
      "--redirect-in-turn <HOST:PORT,...>",
      "portals that logins at other portals are sent to, one after the other; repeatable",
      collecting(parsePortalList),
    )
    .option("--explicit-access-states", "let initiators change access states (SET TARGET PORT GROUPS)")
    .option("--volume <NAME=SIZE>", "volume to export, repeatable", collecting(parseVolume))
    .option("--prefix <IQN>", "target names are PREFIX:NAME", "iqn.2026-11.dev.hawser")
    .addOption(new Option("--block-size <BYTES>", "logical block size").choices(["512", "4096"]).default("512"))
    .option("--allow <IQN>", "initiator that may log in, repeatable (default: every one)", collecting(String))
    .option("--chap-user <NAME>", "CHAP user initiators must prove")
    .option("--chap-secret-file <FILE>", "file that holds its secret (12 bytes or more)")
    .option("--mutual-user <NAME>", "user name the target proves itself with")
    .option("--mutual-secret-file <FILE>", "file that holds the target's own secret");
  addLogOption(command, "info");
  return command
    .addHelpText(
      "after",
      "\nExample:\n  hawser target --store memory --portal 127.0.0.1:3260 --volume disk1=1Gi --volume disk2=10Gi\n" +
        "\nOne portal is found, logins are spread over two others, each a port group of its own:\n" +
        "  hawser target --store memory --volume disk1=1Gi --portal 10.0.0.1:3260 --portal 10.0.0.2:3260@2 \\\n" +
        "    --portal 10.0.0.3:3260@3 --advertise 10.0.0.1:3260 --redirect-in-turn 10.0.0.2:3260,10.0.0.3:3260\n",
    )
    .action((options: TargetOptions) => runTarget(options, runtime));
}
