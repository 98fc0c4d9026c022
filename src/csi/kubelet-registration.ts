import { chmod, lstat, mkdtemp, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import {
  Server,
  ServerCredentials,
  type sendUnaryData,
  type ServerUnaryCall,
  type ServiceDefinition,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import type { Clock, Timer } from "../base/clock.js";
import { createDeferred } from "../base/deferred.js";
import { AppError, errorCode, errorMessage } from "../base/errors.js";
import { MAX_REGISTRATION_ERROR_LENGTH } from "../base/limits.js";
import type { Logger } from "../base/logger.js";
import { CsiError } from "./errors.js";
import { DRIVER_NAME } from "./identity.js";

/** What the kubelet calls a CSI driver. */
const PLUGIN_TYPE = "CSIPlugin";
/** Versions of CSI, as the kubelet compares them: it knows 1.x. */
const SUPPORTED_VERSIONS = ["1.0.0"];
/** How often the socket is looked for: a kubelet that starts anew may have emptied its folder. */
const WATCH_INTERVAL_MS = 5_000;
/** How long a client may keep its connection when the service ends. */
const DRAIN_MS = 1_000;

export interface KubeletRegistrationOptions {
  /** The kubelet's registration folder as this process sees it; `<kubelet>/plugins_registry` on the host. */
  readonly directory: string;
  /** The CSI socket as the kubelet sees it. */
  readonly endpoint: string;
  readonly driverName?: string;
  /** Folder that holds `kubelet/pluginregistration`. */
  readonly protoDirectory: string;
}

export interface KubeletRegistrationDependencies {
  readonly clock: Clock;
  readonly logger: Logger;
}

interface StatusMessage {
  readonly pluginRegistered: boolean;
  readonly error: string;
}

/**
 * Registers the driver with the kubelet, which finds a socket in its registration folder, asks who is there, and tells
 * what became of it. Start it when the CSI service is served: the kubelet's next call is NodeGetInfo.
 */
export class KubeletRegistration {
  /** The socket the kubelet finds. */
  readonly socketPath: string;
  readonly #options: KubeletRegistrationOptions;
  readonly #deps: KubeletRegistrationDependencies;
  readonly #service: ServiceDefinition;
  readonly #refused = createDeferred<never>();
  #server: Server | undefined;
  #inode: bigint | undefined;
  #timer: Timer | undefined;
  #check: Promise<void> = Promise.resolve();
  #isClosed = false;
  #hasReportedStranger = false;

  constructor(options: KubeletRegistrationOptions, dependencies: KubeletRegistrationDependencies) {
    this.#options = options;
    this.#deps = dependencies;
    this.socketPath = join(options.directory, `${options.driverName ?? DRIVER_NAME}-reg.sock`);
    this.#service = loadRegistrationService(options.protoDirectory);
    // Whoever does not look at it is not to be ended by it.
    this.#refused.promise.catch(() => undefined);
  }

  /**
   * Rejects with KUBELET_REGISTRATION_REFUSED when the kubelet refuses the driver: it does not ask again by itself, so
   * the process must be started anew. Never resolves.
   */
  get failed(): Promise<never> {
    return this.#refused.promise;
  }

  /** Makes the socket, in place of one left behind. KUBELET_REGISTRATION_FAILED when it cannot be made. */
  async start(): Promise<void> {
    await this.#requireFolder();
    await this.#serve();
    this.#deps.logger.info("waiting for the kubelet to register the driver", { socketPath: this.socketPath });
    this.#schedule();
  }

  /** Removes the socket, by which the kubelet forgets the driver, and ends the service. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#timer?.cancel();
    await this.#check;
    if (this.#inode !== undefined && (await inodeOf(this.socketPath)) === this.#inode) {
      await rm(this.socketPath, { force: true });
    }
    await endServer(this.#server, this.#deps.clock);
  }

  async #requireFolder(): Promise<void> {
    const { directory } = this.#options;
    const isFolder = await stat(directory).then(
      (info) => info.isDirectory(),
      () => false,
    );
    // Not made here: in a folder of our own making no kubelet looks.
    if (isFolder) return;
    throw this.#failure(
      `${directory} is not a folder; mount the kubelet's plugins_registry there, or correct --kubelet-registration`,
    );
  }

  /**
   * The socket appears in one step, with its permissions, in place of a stale one. It is made in a folder whose name
   * begins with a dot, which the kubelet passes over.
   */
  async #serve(): Promise<void> {
    const info = await lstat(this.socketPath).catch(() => undefined);
    if (info !== undefined && !info.isSocket()) {
      throw this.#failure(`${this.socketPath} exists and is no socket; remove it`);
    }
    const server = this.#createServer();
    let folder: string | undefined;
    try {
      folder = await mkdtemp(join(this.#options.directory, ".hawser-"));
      const temporary = join(folder, "s");
      await bind(server, temporary);
      await chmod(temporary, 0o600);
      await rename(temporary, this.socketPath);
      this.#inode = await inodeOf(this.socketPath);
    } catch (error) {
      server.forceShutdown();
      throw this.#failure(`${this.socketPath} cannot be made: ${errorMessage(error)}`, error);
    } finally {
      if (folder !== undefined) await rm(folder, { recursive: true, force: true });
    }
    const previous = this.#server;
    this.#server = server;
    previous?.forceShutdown();
  }

  #createServer(): Server {
    const server = new Server();
    server.addService(this.#service, {
      GetInfo: (_call: ServerUnaryCall<unknown, unknown>, done: sendUnaryData<object>) => {
        this.#deps.logger.debug("the kubelet asks who is there");
        const { endpoint, driverName = DRIVER_NAME } = this.#options;
        done(null, { type: PLUGIN_TYPE, name: driverName, endpoint, supportedVersions: SUPPORTED_VERSIONS });
      },
      NotifyRegistrationStatus: (call: ServerUnaryCall<StatusMessage, unknown>, done: sendUnaryData<object>) => {
        done(null, {});
        this.#registered(call.request);
      },
    });
    return server;
  }

  #registered({ pluginRegistered, error }: StatusMessage): void {
    if (pluginRegistered) {
      this.#deps.logger.info("the kubelet has registered the driver");
      return;
    }
    const reason = error === "" ? "it gave no reason" : error.slice(0, MAX_REGISTRATION_ERROR_LENGTH);
    this.#deps.logger.error("the kubelet refuses the driver", { reason });
    this.#refused.reject(
      new AppError(
        "csi",
        "KUBELET_REGISTRATION_REFUSED",
        `the kubelet refuses the driver: ${reason}; it is asked again when this process is started anew`,
      ),
    );
  }

  #schedule(): void {
    this.#timer = this.#deps.clock.setTimer(WATCH_INTERVAL_MS, () => {
      this.#check = this.#look().then(() => {
        if (!this.#isClosed) this.#schedule();
      });
    });
  }

  /** Never rejects: what fails now is tried again. */
  async #look(): Promise<void> {
    try {
      const found = await inodeOf(this.socketPath);
      if (found === this.#inode || this.#isClosed) return;
      if (found === undefined) {
        this.#deps.logger.warn("the registration socket was removed and is made again", {
          socketPath: this.socketPath,
        });
        await this.#serve();
      } else if (!this.#hasReportedStranger) {
        this.#hasReportedStranger = true;
        this.#deps.logger.warn("another process has put its registration socket in place of ours", {
          socketPath: this.socketPath,
        });
      }
    } catch (error) {
      this.#deps.logger.warn("the registration socket cannot be made; it is tried again", {
        reason: errorMessage(error),
      });
    }
  }

  #failure(reason: string, cause?: unknown): AppError {
    return new AppError("csi", "KUBELET_REGISTRATION_FAILED", `cannot register with the kubelet: ${reason}`, { cause });
  }
}

function loadRegistrationService(protoDirectory: string): ServiceDefinition {
  const path = join(protoDirectory, "kubelet", "pluginregistration", "v1", "registration.proto");
  const service = loadSync(path, { defaults: true, arrays: true })["pluginregistration.Registration"];
  if (service === undefined || "format" in service) {
    throw new CsiError("CSI_INTERNAL", `${path} declares no service Registration`);
  }
  return service;
}

function bind(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) => {
      if (error === null) resolve();
      else reject(error);
    });
  });
}

/** Lets the kubelet have the answer to a call that is under way, which takes a moment at most. */
async function endServer(server: Server | undefined, clock: Clock): Promise<void> {
  if (server === undefined) return;
  const timer = clock.setTimer(DRAIN_MS, () => server.forceShutdown());
  await new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
  timer.cancel();
}

async function inodeOf(path: string): Promise<bigint | undefined> {
  try {
    return (await lstat(path, { bigint: true })).ino;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}
