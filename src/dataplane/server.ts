import { setMaxListeners } from "node:events";
import { chmod, lstat, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import {
  Server,
  ServerCredentials,
  type handleServerStreamingCall,
  type handleUnaryCall,
  type ServerUnaryCall,
  type ServerWritableStream,
  type UntypedServiceImplementation,
  Metadata,
} from "@grpc/grpc-js";
import { z } from "zod";
import type { Clock } from "../base/clock.js";
import { AppError, CancelledError, errorCode, errorMessage } from "../base/errors.js";
import { MAX_CONTROL_MESSAGE_BYTES } from "../base/limits.js";
import type { Logger } from "../base/logger.js";
import { makePrivateDirectory } from "../host/durable-file.js";
import type { DataplaneApi } from "./api.js";
import { DataplaneClient } from "./client.js";
import {
  addConnectionMessage,
  attachedVolumeToMessage,
  attachRequestFromMessage,
  conditionUpdateToMessage,
  handleMessage,
  markFormattedMessage,
  removeConnectionMessage,
  setConnectionPolicyMessage,
  volumeStatusToMessage,
} from "./control-messages.js";
import { changePathMessage, setPathPolicyMessage } from "./control-path-messages.js";
import { loadControlService, type ControlMethod } from "./control-proto.js";
import { toServiceError } from "./error-metadata.js";
import { DataplaneError } from "./errors.js";

/** sockaddr_un holds 108 bytes with the closing zero. */
const MAX_SOCKET_PATH_BYTES = 107;

export interface DataplaneServerOptions {
  readonly socketPath: string;
  /** Folder of the package: `proto/` lies in it. */
  readonly packageDirectory: string;
  /** How long calls under way may take to end when the server closes; default 5 s. */
  readonly closeTimeoutMs?: number;
}

export interface DataplaneServerDependencies {
  readonly api: DataplaneApi;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Serves a DataplaneApi on a unix socket that only its owner may open (0600). */
export class DataplaneServer {
  readonly #options: DataplaneServerOptions;
  readonly #deps: DataplaneServerDependencies;
  readonly #server: Server;
  /** Ends streams that would last for ever. */
  readonly #closing = new AbortController();

  constructor(options: DataplaneServerOptions, dependencies: DataplaneServerDependencies) {
    this.#options = options;
    this.#deps = dependencies;
    // One listener for each watcher, and watchers have their own bound.
    setMaxListeners(0, this.#closing.signal);
    this.#server = new Server({
      "grpc.max_receive_message_length": MAX_CONTROL_MESSAGE_BYTES,
      "grpc.max_send_message_length": MAX_CONTROL_MESSAGE_BYTES,
    });
    this.#server.addService(loadControlService(options.packageDirectory).service, this.#implementation());
  }

  /**
   * Begins to serve. A socket an earlier process left behind is removed; throws DATAPLANE_ALREADY_RUNNING when somebody
   * answers on it, STATE_FAILED when the socket cannot be made.
   */
  async start(): Promise<void> {
    const { socketPath } = this.#options;
    if (Buffer.byteLength(socketPath) > MAX_SOCKET_PATH_BYTES) {
      throw this.#failure(`its path is longer than ${MAX_SOCKET_PATH_BYTES} bytes, which no unix socket can have`);
    }
    await this.#removeStaleSocket();
    try {
      await makePrivateDirectory(dirname(socketPath));
      await new Promise<void>((resolve, reject) => {
        this.#server.bindAsync(`unix:${socketPath}`, ServerCredentials.createInsecure(), (error) => {
          if (error === null) resolve();
          else reject(error);
        });
      });
      await chmod(socketPath, 0o600);
    } catch (error) {
      throw this.#failure(errorMessage(error), error);
    }
    this.#deps.logger.info("control socket is open", { socketPath });
  }

  /** Ends streams, lets calls under way end, and removes the socket. */
  async close(): Promise<void> {
    this.#closing.abort(new DataplaneError("DATAPLANE_STOPPING", "the dataplane is stopping; ask again in a moment"));
    await new Promise<void>((resolve) => {
      const timer = this.#deps.clock.setTimer(this.#options.closeTimeoutMs ?? 5_000, () => {
        this.#server.forceShutdown();
        resolve();
      });
      this.#server.tryShutdown(() => {
        timer.cancel();
        resolve();
      });
    });
  }

  #implementation(): UntypedServiceImplementation {
    const { api } = this.#deps;
    const handlers: Readonly<
      Record<ControlMethod, handleUnaryCall<unknown, object> | handleServerStreamingCall<unknown, object>>
    > = {
      Attach: this.#unary(attachRequestFromMessage, async (request, signal) => ({
        volume: attachedVolumeToMessage(await api.attach(request, signal)),
      })),
      Detach: this.#unary(handleMessage, async ({ volumeHandle }, signal) => {
        await api.detach(volumeHandle, signal);
        return {};
      }),
      Resize: this.#unary(handleMessage, async ({ volumeHandle }, signal) => ({
        volume: attachedVolumeToMessage(await api.resize(volumeHandle, signal)),
      })),
      MarkFormatted: this.#unary(markFormattedMessage, async ({ volumeHandle, fsType }) => {
        await api.markFormatted(volumeHandle, fsType);
        return {};
      }),
      SetConnectionPolicy: this.#unary(setConnectionPolicyMessage, async ({ volumeHandle, policy }) => {
        await api.setConnectionPolicy(volumeHandle, policy);
        return {};
      }),
      AddConnection: this.#unary(addConnectionMessage, async ({ volumeHandle, connection }) => ({
        cid: await api.addConnection(volumeHandle, connection),
      })),
      RemoveConnection: this.#unary(removeConnectionMessage, async ({ volumeHandle, cid }) => {
        await api.removeConnection(volumeHandle, cid);
        return {};
      }),
      SetPathPolicy: this.#unary(setPathPolicyMessage, async ({ volumeHandle, policy }) => {
        await api.setPathPolicy(volumeHandle, policy);
        return {};
      }),
      ChangePath: this.#unary(changePathMessage, async ({ volumeHandle, pathId, change }) => {
        await api.changePath(volumeHandle, pathId, change);
        return {};
      }),
      GetVolume: this.#unary(handleMessage, async ({ volumeHandle }) => {
        const found = await api.get(volumeHandle);
        return found === undefined ? {} : { status: volumeStatusToMessage(found) };
      }),
      ListVolumes: this.#unary(z.object({}), async () => ({ volumes: (await api.list()).map(volumeStatusToMessage) })),
      Watch: this.#stream((signal) => api.watch(signal)),
      WatchVolumes: this.#stream((signal) => mapped(api.watchVolumes(signal), conditionUpdateToMessage)),
    };
    return handlers;
  }

  /** A handler that parses the request, ends the work when the caller is gone, and turns errors into metadata. */
  #unary<T>(
    schema: z.ZodType<T>,
    work: (request: T, signal: AbortSignal) => Promise<object>,
  ): handleUnaryCall<unknown, object> {
    return (call: ServerUnaryCall<unknown, object>, callback) => {
      const controller = new AbortController();
      call.on("cancelled", () => {
        controller.abort(new CancelledError("dataplane", "DATAPLANE_CANCELLED", "the caller withdrew the request"));
      });
      const answer = async (): Promise<object> => {
        const parsed = schema.safeParse(call.request);
        if (!parsed.success) throw invalidRequest(parsed.error);
        return work(parsed.data, controller.signal);
      };
      answer().then(
        (response) => callback(null, response),
        (error: unknown) => {
          if (!(error instanceof AppError)) {
            this.#deps.logger.error("a control call met an unexpected failure", { reason: errorMessage(error) });
          }
          callback(toServiceError(error));
        },
      );
    };
  }

  /** A handler that sends what `source` yields until the caller withdraws or the server closes. */
  #stream(source: (signal: AbortSignal) => AsyncIterable<object>): handleServerStreamingCall<unknown, object> {
    return (call) => void this.#send(call, source);
  }

  async #send(
    call: ServerWritableStream<unknown, object>,
    source: (signal: AbortSignal) => AsyncIterable<object>,
  ): Promise<void> {
    const controller = new AbortController();
    const end = (): void => controller.abort();
    call.on("cancelled", end);
    call.on("error", end);
    this.#closing.signal.addEventListener("abort", end, { once: true });
    try {
      const messages = source(controller.signal);
      call.sendMetadata(new Metadata());
      for await (const message of messages) {
        // A full buffer is waited for: what is before it is bounded and keeps what matters for a slow watcher.
        if (!call.write(message)) await drained(call, controller.signal);
      }
      if (this.#closing.signal.aborted) throw this.#closing.signal.reason;
      call.end();
    } catch (error) {
      call.emit("error", toServiceError(error));
    } finally {
      this.#closing.signal.removeEventListener("abort", end);
    }
  }

  async #removeStaleSocket(): Promise<void> {
    const { socketPath, packageDirectory } = this.#options;
    const info = await lstat(socketPath).catch((error: unknown) => {
      if (errorCode(error) === "ENOENT") return undefined;
      throw this.#failure(errorMessage(error), error);
    });
    if (info === undefined) return;
    if (!info.isSocket()) throw this.#failure("there is something else that is not a socket; remove it");
    const client = new DataplaneClient({ socketPath, packageDirectory }, { clock: this.#deps.clock });
    try {
      if (await client.isReachable(1_000)) {
        throw new DataplaneError(
          "DATAPLANE_ALREADY_RUNNING",
          `another dataplane answers on ${socketPath}; two must never serve the same volumes: stop it first`,
        );
      }
    } finally {
      client.close();
    }
    await unlink(socketPath);
  }

  #failure(reason: string, cause?: unknown): DataplaneError {
    return new DataplaneError("STATE_FAILED", `cannot serve on ${this.#options.socketPath}: ${reason}`, { cause });
  }
}

async function* mapped<T>(source: AsyncIterable<T>, toMessage: (value: T) => object): AsyncGenerator<object, void> {
  for await (const value of source) yield toMessage(value);
}

/** Names the fields, never their values: one of them may be a secret. */
function invalidRequest(error: z.ZodError): DataplaneError {
  const fields = error.issues.map((issue) => issue.path.join(".")).join(", ");
  return new DataplaneError("VOLUME_INVALID", `fields of the request are missing or wrong: ${fields}`);
}

async function drained(call: ServerWritableStream<unknown, object>, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      call.off("drain", done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    call.on("drain", done);
    signal.addEventListener("abort", done, { once: true });
  });
}
