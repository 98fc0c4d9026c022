import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../base/clock.js";
import { errorMessage } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { Random } from "../base/random.js";
import { clusterPart, nodePart, reservationKey } from "../base/reservation-key.js";
import { makePrivateDirectory } from "../host/durable-file.js";
import type { NetworkInterfaces } from "../host/network-interfaces.js";
import { connectVolume } from "../initiator/connect-volume.js";
import { createIsid } from "../initiator/isid.js";
import { bindDevice, discardDevice, listBoundBackends, recoverDevice } from "../nbd/bind.js";
import type { SessionTimers } from "../session/session-options.js";
import type { Dialer } from "../transport/transport.js";
import { ChapVault } from "./chap-vault.js";
import { DataplaneError } from "./errors.js";
import { loadNodeIdentity } from "./node-key.js";
import type { DeviceBinder, VolumeConnector } from "./ports.js";
import { FileRecordStore } from "./record-store.js";
import { DataplaneServer } from "./server.js";
import { lockState } from "./state-lock.js";
import { VolumeManager } from "./volume-manager.js";

const DEFAULT_CLUSTER_ID = "hawser";

/** A random id the kernel makes at every boot. */
const BOOT_ID_PATH = "/proc/sys/kernel/random/boot_id";

export interface DataplaneProcessOptions {
  /** `/var/lib/hawser` on a node: records, node key, initiator name. Survives boots. */
  readonly stateDirectory: string;
  /** `/run/hawser` on a node: sockets and mount points of fuse devices. Short, and need not survive. */
  readonly runtimeDirectory: string;
  /** The control socket. */
  readonly socketPath: string;
  /** Folder of the package: `proto/` lies in it. */
  readonly packageDirectory: string;
  readonly nodeName: string;
  /** Default: the one in the state directory, made once from the node's name. */
  readonly initiatorName?: string;
  /** Marks our devices among others; default `hawser`. */
  readonly clusterId?: string;
  /** Default `auto`: nbd if the kernel has it, else fuse. */
  readonly backend?: "auto" | "nbd" | "fuse";
  /** Six bytes in hexadecimal, the same on all nodes of the cluster; default: made of `clusterId`. */
  readonly reservationCluster?: string;
  /** 1 to 65535, another one on each node of the cluster; default: made of the node's key. */
  readonly reservationNode?: number;
  readonly reconcileIntervalMs?: number;
  /** How long the kernel keeps I/O waiting for the next process; default 24 h. */
  readonly deadConnectionTimeoutMs?: number;
  /** Delay after which requests lost in a crash are sent again; default 2 s. */
  readonly ioTimeoutMs?: number;
  readonly timers?: Partial<SessionTimers>;
  /** Where the boot id is read; another only in tests. */
  readonly bootIdPath?: string;
}

export interface DataplaneProcessDependencies {
  readonly clock: Clock;
  readonly random: Random;
  readonly dialer: Dialer;
  readonly interfaces: NetworkInterfaces;
  readonly logger: Logger;
}

/** A dataplane at work. */
export interface DataplaneProcess {
  /** The API in this process; others use a DataplaneClient on the socket. */
  readonly manager: VolumeManager;
  readonly nodeId: string;
  readonly initiatorName: string;
  /**
   * Ends it in good order: new calls are refused, requests of the kernel are answered, sessions logged out. Devices of
   * kernel nbd stay, their I/O waiting for the next process; fuse devices that nobody uses are detached.
   */
  stop(): Promise<void>;
}

/**
 * Starts everything the `hawser dataplane` command is: purges what a boot ended, begins to bring back the volumes of an
 * earlier process, and serves the control socket. Throws STATE_FAILED, DATAPLANE_ALREADY_RUNNING.
 */
export async function startDataplane(
  options: DataplaneProcessOptions,
  dependencies: DataplaneProcessDependencies,
): Promise<DataplaneProcess> {
  await prepareDirectories(options);
  // First of all: whoever has the lock is the only one, and only then may anything be taken over.
  const unlock = await lockState(options.stateDirectory);
  try {
    return await startAlone(options, dependencies, unlock);
  } catch (error) {
    await unlock();
    throw error;
  }
}

async function startAlone(
  options: DataplaneProcessOptions,
  dependencies: DataplaneProcessDependencies,
  unlock: () => Promise<void>,
): Promise<DataplaneProcess> {
  const { clock, random, logger } = dependencies;
  const { nodeId, initiatorName, keyPair } = await loadNodeIdentity(options, dependencies);
  const clusterId = options.clusterId ?? DEFAULT_CLUSTER_ID;
  const manager = new VolumeManager(
    {
      ...{ clusterId, initiatorName },
      reservationKey: reservationKey({
        cluster: options.reservationCluster ?? clusterPart(clusterId),
        node: options.reservationNode ?? nodePart(nodeId),
      }),
      backend: options.backend ?? "auto",
      bootId: await readBootId(options.bootIdPath ?? BOOT_ID_PATH),
      ...(options.reconcileIntervalMs === undefined ? {} : { reconcileIntervalMs: options.reconcileIntervalMs }),
    },
    {
      records: new FileRecordStore({ directory: join(options.stateDirectory, "volumes") }, { logger }),
      connector: initiatorConnector(options, dependencies),
      binder: kernelBinder(options, dependencies),
      vault: new ChapVault({ keyPair }, { random }),
      createIsid,
      ...{ clock, random, logger },
    },
  );
  const server = new DataplaneServer(options, { api: manager, clock, logger });
  // The socket before the sessions: it too has one owner. Calls that come before the records are read wait for them.
  await server.start();
  try {
    await manager.start();
  } catch (error) {
    await server.close();
    throw error;
  }
  logger.info("dataplane is ready", { nodeId, socketPath: options.socketPath });
  let stopping: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    // In the opposite order, for the same reason.
    await manager.stop();
    await server.close();
    await unlock();
    logger.info("dataplane has stopped");
  };
  return { manager, nodeId, initiatorName, stop: () => (stopping ??= stop()) };
}

function initiatorConnector(
  options: DataplaneProcessOptions,
  dependencies: DataplaneProcessDependencies,
): VolumeConnector {
  const { timers } = options;
  return {
    connect: (request, signal) =>
      connectVolume(timers === undefined ? request : { ...request, timers }, dependencies, signal),
  };
}

function kernelBinder(options: DataplaneProcessOptions, dependencies: DataplaneProcessDependencies): DeviceBinder {
  const { runtimeDirectory, deadConnectionTimeoutMs, ioTimeoutMs } = options;
  const common = {
    runtimeDirectory,
    ...(deadConnectionTimeoutMs === undefined ? {} : { deadConnectionTimeoutMs }),
    ...(ioTimeoutMs === undefined ? {} : { ioTimeoutMs }),
  };
  return {
    bind: (device, which) => bindDevice(device, { ...common, ...which }, dependencies),
    recover: (device, which) => recoverDevice(device, { ...common, ...which }, dependencies),
    list: () => listBoundBackends({ runtimeDirectory }),
    discard: ({ backendId }) => discardDevice({ backendId, runtimeDirectory }, dependencies),
  };
}

async function prepareDirectories({ stateDirectory, runtimeDirectory }: DataplaneProcessOptions): Promise<void> {
  for (const directory of [stateDirectory, runtimeDirectory]) {
    await makePrivateDirectory(directory).catch((error: unknown) => {
      throw new DataplaneError("STATE_FAILED", `cannot make the directory ${directory}: ${errorMessage(error)}`, {
        cause: error,
      });
    });
  }
}

async function readBootId(path: string): Promise<string> {
  try {
    return (await readFile(path, "utf8")).trim();
  } catch (error) {
    throw new DataplaneError("STATE_FAILED", `cannot read the boot id from ${path}: ${errorMessage(error)}`, {
      cause: error,
    });
  }
}
