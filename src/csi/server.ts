import { chmod, lstat, mkdir, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import {
  Client,
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  type sendUnaryData,
  type ServerUnaryCall,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { Clock } from "../base/clock.js";
import { CancelledError, errorCode, errorMessage } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { CsiError } from "./errors.js";
import type { CsiProto } from "./proto.js";
import { redactMessage } from "./redact.js";
import type { CsiService, UnaryMethod } from "./service.js";
import { toStatus } from "./status-map.js";

export interface CsiServerOptions {
  readonly socketPath: string;
  readonly services: readonly CsiService[];
}

export interface CsiServerDependencies {
  readonly proto: CsiProto;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** How long a live server has to answer before its socket counts as left behind. */
const PROBE_MS = 500;
/** How long running calls may take to finish when the server closes. */
const DRAIN_MS = 5_000;

/**
 * Serves CSI on a unix socket (mode 0600). Every call is logged once with its request redacted, its duration and its
 * outcome, and ends in a response or a status of status-map.
 */
export class CsiServer {
  readonly #options: CsiServerOptions;
  readonly #dependencies: CsiServerDependencies;
  readonly #server: Server;
  #isListening = false;

  constructor(options: CsiServerOptions, dependencies: CsiServerDependencies) {
    this.#options = options;
    this.#dependencies = dependencies;
    this.#server = new Server();
    for (const service of options.services) this.#add(service);
  }

  /** CSI_FAILED_PRECONDITION when another process serves the socket, or something else is in its place. */
  async start(): Promise<void> {
    const { socketPath } = this.#options;
    await mkdir(dirname(socketPath), { recursive: true });
    await removeStaleSocket(socketPath, this.#dependencies.clock);
    await new Promise<void>((resolve, reject) => {
      this.#server.bindAsync(`unix:${socketPath}`, ServerCredentials.createInsecure(), (error) => {
        if (error === null) resolve();
        else reject(new CsiError("CSI_INTERNAL", `cannot listen on ${socketPath}: ${error.message}`, { cause: error }));
      });
    });
    await chmod(socketPath, 0o600);
    this.#isListening = true;
    const services = this.#options.services.map((service) => service.name).join(", ");
    this.#dependencies.logger.info("serving CSI", { socketPath, services });
  }

  /** Takes no more calls, lets the running ones finish for a while, removes the socket. */
  async close(): Promise<void> {
    if (!this.#isListening) return;
    this.#isListening = false;
    await new Promise<void>((resolve) => {
      const timer = this.#dependencies.clock.setTimer(DRAIN_MS, () => this.#server.forceShutdown());
      this.#server.tryShutdown(() => {
        timer.cancel();
        resolve();
      });
    });
    await removeFile(this.#options.socketPath);
  }

  #add(service: CsiService): void {
    const definition = this.#dependencies.proto.service(service.name);
    const implementation: UntypedServiceImplementation = {};
    for (const [method, handler] of Object.entries(service.methods)) {
      if (definition[method] === undefined) {
        throw new CsiError("CSI_INTERNAL", `the interface has no RPC ${service.name}.${method}`);
      }
      implementation[method] = (call: ServerUnaryCall<unknown, unknown>, done: sendUnaryData<unknown>) => {
        void this.#answer(method, handler, call, done);
      };
    }
    this.#server.addService(definition, implementation);
  }

  /** Never rejects: whatever happens, the caller gets an answer. */
  async #answer(
    method: string,
    handler: UnaryMethod,
    call: ServerUnaryCall<unknown, unknown>,
    done: sendUnaryData<unknown>,
  ): Promise<void> {
    const { clock, proto } = this.#dependencies;
    const logger = this.#dependencies.logger.child({ method });
    const startedMs = clock.nowMs();
    const request = redactMessage(proto.messageType(`${method}Request`), call.request);
    const abort = new AbortController();
    call.on("cancelled", () => {
      abort.abort(new CancelledError("csi", "CSI_CANCELLED", `the caller of ${method} went away`));
    });
    logger.debug("call begins", { request });
    try {
      const response = await handler(call.request, { signal: abort.signal, logger });
      const durationMs = Math.round(clock.nowMs() - startedMs);
      logger.debug("call done", {
        request,
        response: redactMessage(proto.messageType(`${method}Response`), response),
        durationMs,
      });
      done(null, response);
    } catch (error) {
      const { code, details } = toStatus(error);
      const durationMs = Math.round(clock.nowMs() - startedMs);
      logger.warn("call failed", {
        request,
        grpcCode: code,
        code: errorCode(error),
        reason: errorMessage(error),
        durationMs,
      });
      done({ code, details, metadata: new Metadata() });
    }
  }
}

/**
 * A socket file outlives a process that was killed. It is removed when nobody answers on it; anything that is not a
 * socket is somebody's file and stays.
 */
async function removeStaleSocket(path: string, clock: Clock): Promise<void> {
  try {
    if (!(await lstat(path)).isSocket()) {
      throw new CsiError(
        "CSI_FAILED_PRECONDITION",
        `${path} exists and is no socket; remove it or choose another path`,
      );
    }
  } catch (error) {
    if (errorCode(error) === "ENOENT") return;
    throw error;
  }
  if (await isServed(path, clock)) {
    throw new CsiError("CSI_FAILED_PRECONDITION", `another process serves ${path}; stop it or choose another path`);
  }
  await removeFile(path);
}

function isServed(path: string, clock: Clock): Promise<boolean> {
  const client = new Client(`unix:${path}`, credentials.createInsecure());
  return new Promise((resolve) => {
    client.waitForReady(new Date(clock.wallTimeMs() + PROBE_MS), (error) => {
      client.close();
      resolve(error === undefined);
    });
  });
}

async function removeFile(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
  }
}
