import { Command, Option } from "commander";
import type { PortalAddress } from "../../base/access.js";
import { AppError } from "../../base/errors.js";
import type { Logger, LogLevel } from "../../base/logger.js";
import { startDataplane } from "../../dataplane/dataplane-process.js";
import type { VolumeManager } from "../../dataplane/volume-manager.js";
import { becomeIoFlusher, lockProgram, lowerOomScore } from "../../host/launcher.js";
import { SystemNetworkInterfaces } from "../../host/network-interfaces.js";
import { deviceAccess, gatherHostFacts, isWritable } from "../../host/preflight-facts.js";
import { dataplaneFindings, type ProtectionFact } from "../../host/preflight.js";
import { detectBackends } from "../../nbd/bind.js";
import { TcpDialer } from "../../transport/tcp.js";
import { socketCheck } from "../health-checks.js";
import { addHealthOption, HealthServer } from "../health-server.js";
import { untilAborted } from "../interrupt.js";
import { addLogOption, reservationClusterArgument, wholeNumber } from "../options.js";
import { reportFindings } from "../preflight.js";
import { corePorts, type Runtime } from "../runtime.js";
import { DEFAULT_DATAPLANE_SOCKET } from "./sessions.js";

interface DataplaneOptions {
  readonly socket: string;
  readonly stateDir: string;
  readonly runtimeDir: string;
  readonly nodeName?: string;
  readonly initiatorName?: string;
  readonly clusterId: string;
  readonly reservationCluster?: string;
  readonly reservationNode?: number;
  readonly backend: "auto" | "nbd" | "fuse";
  readonly nbdIoTimeout: number;
  readonly nbdDeadTimeout: number;
  readonly logLevel: LogLevel;
  readonly health?: PortalAddress;
  readonly requireProtections: boolean;
}

/**
 * Keeps the kernel from waiting for us while it waits for itself (see host/launcher). The first step may replace the
 * program by itself, so nothing comes before it.
 */
async function protectFromReclaim(runtime: Runtime): Promise<readonly ProtectionFact[]> {
  const args = [...process.execArgv, ...process.argv.slice(1)];
  const flusher = await becomeIoFlusher({ program: process.execPath, args, env: runtime.environment });
  return [
    { measure: "not marked as an I/O flusher", capability: "SYS_RESOURCE", reason: flusher.reason },
    { measure: "program code not locked in memory", capability: "IPC_LOCK", reason: (await lockProgram()).reason },
    { measure: "OOM score not lowered", capability: "SYS_RESOURCE", reason: (await lowerOomScore()).reason },
  ];
}

async function preflight(
  { backend, requireProtections }: DataplaneOptions,
  protections: readonly ProtectionFact[],
  runtime: Runtime,
  logger: Logger,
): Promise<void> {
  const [host, { nbd }, fuseDevice, loopControl, isQueueWritable] = await Promise.all([
    gatherHostFacts(),
    // Not asked when it is not wanted: asking may load the module.
    backend === "fuse" ? { nbd: { isAvailable: false, reason: "" } } : detectBackends(corePorts(runtime, logger)),
    deviceAccess("/dev/fuse"),
    deviceAccess("/dev/loop-control"),
    isWritable("/sys/devices/virtual/block"),
  ]);
  const facts = { ...host, backend, nbd, fuseDevice, loopControl, isQueueWritable, protections, requireProtections };
  reportFindings(dataplaneFindings(facts), logger);
}

/**
 * How the dataplane is, for the kubelet; nothing without `--health`. Ready means: what is and what should be was
 * compared once after the start. Volumes that wait for their target do not keep it from being ready.
 */
class DataplaneHealth {
  /** Set while it serves. */
  manager: VolumeManager | undefined;
  #hasReconciled = false;
  readonly #server: HealthServer | undefined;

  constructor({ health, socket }: DataplaneOptions, { clock }: Runtime, logger: Logger) {
    if (health === undefined) return;
    const alive = socketCheck("control-socket", socket);
    const ready = { name: "reconciled", run: () => this.#reconciled() };
    this.#server = new HealthServer({ address: health, alive: [alive], ready: [alive, ready] }, { clock, logger });
  }

  async start(): Promise<void> {
    await this.#server?.start();
  }

  async close(): Promise<void> {
    await this.#server?.close();
  }

  async #reconciled(): Promise<void> {
    if (this.manager === undefined) throw new AppError("cli", "HEALTH_NOT_READY", "it is starting or stopping");
    if (this.#hasReconciled) return;
    await this.manager.reconcile();
    this.#hasReconciled = true;
  }
}

/** `hawser dataplane`: the only process that owns iSCSI sessions. */
export function dataplaneCommand(runtime: Runtime): Command {
  const command = new Command("dataplane")
    .description("own the iSCSI sessions and block devices of this node")
    .option("--socket <PATH>", "control socket to serve", DEFAULT_DATAPLANE_SOCKET)
    .option("--state-dir <DIR>", "volume records, node key, initiator name; survives boots", "/var/lib/hawser")
    .option("--runtime-dir <DIR>", "sockets and mount points of devices", "/run/hawser")
    .option("--node-name <NAME>", "name of this node (default: the host's name)")
    .option("--initiator-name <IQN>", "initiator name (default: made once from the node's name and kept)")
    .option("--cluster-id <ID>", "marks this cluster's devices on the node, and its reservations", "hawser")
    .option(
      "--reservation-cluster <HEX>",
      "first 6 bytes of this cluster's reservation keys, 12 hexadecimal digits (default: made of the cluster id)",
      reservationClusterArgument,
    )
    .option(
      "--reservation-node <N>",
      "last 2 bytes of this node's reservation key (default: made of the node's key)",
      wholeNumber(1, 65_535),
    )
    .addOption(
      new Option("--backend <KIND>", "how the kernel gets devices").choices(["auto", "nbd", "fuse"]).default("auto"),
    )
    .option(
      "--nbd-io-timeout <MS>",
      "the kernel sends requests lost in a crash again after",
      wholeNumber(100, 60_000),
      2000,
    )
    .option(
      "--nbd-dead-timeout <MS>",
      "the kernel waits for the next process for",
      wholeNumber(1000, 2_000_000_000),
      86_400_000,
    )
    .option("--require-protections", "do not start without every protection from memory shortage", false);
  addLogOption(addHealthOption(command), "info");
  return command
    .addHelpText("after", "\nExample:\n  hawser dataplane --node-name worker-1 --socket /run/hawser/dataplane.sock\n")
    .action((options: DataplaneOptions) => runDataplane(options, runtime));
}

async function runDataplane(options: DataplaneOptions, runtime: Runtime): Promise<void> {
  const logger = runtime.logger("dataplane", options.logLevel);
  const protections = await protectFromReclaim(runtime);
  await preflight(options, protections, runtime, logger);
  const health = new DataplaneHealth(options, runtime, logger);
  await health.start();
  try {
    const dataplane = await startDataplane(
      {
        stateDirectory: options.stateDir,
        runtimeDirectory: options.runtimeDir,
        socketPath: options.socket,
        packageDirectory: runtime.packageDirectory,
        nodeName: options.nodeName ?? runtime.hostName,
        clusterId: options.clusterId,
        ...(options.reservationCluster === undefined ? {} : { reservationCluster: options.reservationCluster }),
        ...(options.reservationNode === undefined ? {} : { reservationNode: options.reservationNode }),
        backend: options.backend,
        ioTimeoutMs: options.nbdIoTimeout,
        deadConnectionTimeoutMs: options.nbdDeadTimeout,
        ...(options.initiatorName === undefined ? {} : { initiatorName: options.initiatorName }),
      },
      { ...corePorts(runtime, logger), dialer: new TcpDialer(runtime), interfaces: new SystemNetworkInterfaces() },
    );
    health.manager = dataplane.manager;
    for (const { measure, reason } of protections) {
      if (reason !== "") dataplane.manager.noteNode("protection-missing", measure, `${measure}: ${reason}`);
    }
    await untilAborted(runtime.signal);
    health.manager = undefined;
    await dataplane.stop();
  } finally {
    await health.close();
  }
}
