import { Client, credentials, Metadata, status, type ServiceError } from "@grpc/grpc-js";
import type { z } from "zod";
import { sleep, type Clock } from "../base/clock.js";
import { AppError, TimeoutError } from "../base/errors.js";
import { MAX_CONTROL_MESSAGE_BYTES } from "../base/limits.js";
import { SystemClock } from "../base/system-clock.js";
import type { PathPolicy } from "../multipath/path-policy.js";
import type { ConnectionPolicy } from "../session/connection-policy.js";
import type {
  AddedConnection,
  AskedPathChange,
  AttachedVolume,
  AttachRequest,
  ConditionUpdate,
  DataplaneApi,
  DataplaneEvent,
  VolumeStatus,
} from "./api.js";
import {
  addConnectionToMessage,
  addedConnectionAnswer,
  attachRequestToMessage,
  conditionUpdateMessage,
  emptyMessage,
  eventMessage,
  statusAnswer,
  statusesAnswer,
  volumeAnswer,
} from "./control-messages.js";
import { changePathToMessage } from "./control-path-messages.js";
import { loadControlService, type ControlMethod, type ControlMethodDefinition } from "./control-proto.js";
import { fromServiceError } from "./error-metadata.js";
import { cancellationOf, DataplaneError, throwIfAborted } from "./errors.js";

export interface DataplaneClientOptions {
  readonly socketPath: string;
  /** Folder of the package: `proto/` lies in it. */
  readonly packageDirectory: string;
  /** How long a call waits for a dataplane that is just being restarted; default 2 s. */
  readonly reconnectWaitMs?: number;
  /** Longest attach, detach and resize; default 5 minutes. A signal ends them earlier. */
  readonly operationTimeoutMs?: number;
  /** Longest of all other calls; default 10 s. */
  readonly queryTimeoutMs?: number;
}

/** How soon a watch is begun anew after the dataplane went away. */
const WATCH_RETRY_MS = 500;

/**
 * The dataplane of this node over its control socket. Connects by itself, again after the dataplane was restarted;
 * DATAPLANE_UNREACHABLE names the socket when nobody answers. Every other error is the one the dataplane raised. An
 * aborted signal ends a call at once; the dataplane undoes what it began.
 */
export class DataplaneClient implements DataplaneApi {
  readonly #options: Required<DataplaneClientOptions>;
  readonly #clock: Clock;
  readonly #methods: ReadonlyMap<ControlMethod, ControlMethodDefinition>;
  readonly #client: Client;

  constructor(
    options: DataplaneClientOptions,
    dependencies: { readonly clock: Clock } = { clock: new SystemClock({ unref: true }) },
  ) {
    this.#options = { reconnectWaitMs: 2_000, operationTimeoutMs: 300_000, queryTimeoutMs: 10_000, ...options };
    this.#clock = dependencies.clock;
    this.#methods = loadControlService(options.packageDirectory).methods;
    this.#client = new Client(`unix:${options.socketPath}`, credentials.createInsecure(), {
      "grpc.default_authority": "localhost",
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.min_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 500,
      "grpc.max_receive_message_length": MAX_CONTROL_MESSAGE_BYTES,
      "grpc.max_send_message_length": MAX_CONTROL_MESSAGE_BYTES,
      // Every client has its own connection: closing one must not keep another's alive.
      "grpc.use_local_subchannel_pool": 1,
    });
  }

  attach(request: AttachRequest, signal?: AbortSignal): Promise<AttachedVolume> {
    return this.#call(
      "Attach",
      attachRequestToMessage(request),
      volumeAnswer,
      this.#options.operationTimeoutMs,
      signal,
    );
  }

  async detach(volumeHandle: string, signal?: AbortSignal): Promise<void> {
    await this.#call("Detach", { volumeHandle }, emptyMessage, this.#options.operationTimeoutMs, signal);
  }

  resize(volumeHandle: string, signal?: AbortSignal): Promise<AttachedVolume> {
    return this.#call("Resize", { volumeHandle }, volumeAnswer, this.#options.operationTimeoutMs, signal);
  }

  async markFormatted(volumeHandle: string, fsType: string): Promise<void> {
    await this.#call("MarkFormatted", { volumeHandle, fsType }, emptyMessage, this.#options.queryTimeoutMs);
  }

  async setConnectionPolicy(volumeHandle: string, policy: ConnectionPolicy): Promise<void> {
    const message = { volumeHandle, policy };
    await this.#call("SetConnectionPolicy", message, emptyMessage, this.#options.queryTimeoutMs);
  }

  addConnection(volumeHandle: string, connection: AddedConnection): Promise<number> {
    const message = addConnectionToMessage(volumeHandle, connection);
    return this.#call("AddConnection", message, addedConnectionAnswer, this.#options.operationTimeoutMs);
  }

  async removeConnection(volumeHandle: string, cid: number): Promise<void> {
    await this.#call("RemoveConnection", { volumeHandle, cid }, emptyMessage, this.#options.operationTimeoutMs);
  }

  async setPathPolicy(volumeHandle: string, policy: PathPolicy): Promise<void> {
    await this.#call("SetPathPolicy", { volumeHandle, policy }, emptyMessage, this.#options.queryTimeoutMs);
  }

  async changePath(volumeHandle: string, pathId: string, change: AskedPathChange): Promise<void> {
    const message = changePathToMessage(volumeHandle, pathId, change);
    await this.#call("ChangePath", message, emptyMessage, this.#options.queryTimeoutMs);
  }

  get(volumeHandle: string): Promise<VolumeStatus | undefined> {
    return this.#call("GetVolume", { volumeHandle }, statusAnswer, this.#options.queryTimeoutMs);
  }

  list(): Promise<readonly VolumeStatus[]> {
    return this.#call("ListVolumes", {}, statusesAnswer, this.#options.queryTimeoutMs);
  }

  /**
   * Events from now on, until the signal aborts. When the dataplane is restarted, watching goes on after an event of
   * kind `watch-resumed`: what happened meanwhile is not told.
   */
  async *watch(signal: AbortSignal): AsyncGenerator<DataplaneEvent, void> {
    let hasBegun = false;
    while (!signal.aborted) {
      try {
        const greeting = hasBegun ? (): DataplaneEvent => this.#resumed() : undefined;
        for await (const event of this.#stream("Watch", eventMessage, signal, greeting)) {
          hasBegun = true;
          yield event;
        }
      } catch (error) {
        const code = error instanceof AppError ? error.code : "";
        if (code !== "DATAPLANE_UNREACHABLE" && code !== "DATAPLANE_STOPPING" && !isCancelled(signal)) throw error;
      }
      hasBegun = true;
      await sleep(this.#clock, WATCH_RETRY_MS, signal).catch(() => undefined);
    }
  }

  watchVolumes(signal: AbortSignal): AsyncGenerator<ConditionUpdate, void> {
    return this.#stream("WatchVolumes", conditionUpdateMessage, signal);
  }

  /** Does somebody accept connections on the socket? */
  isReachable(timeoutMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      this.#client.waitForReady(this.#clock.wallTimeMs() + timeoutMs, (error) => resolve(error === undefined));
    });
  }

  /** Ends every call under way. */
  close(): void {
    this.#client.close();
  }

  async #call<T>(
    name: ControlMethod,
    message: object,
    answer: z.ZodType<T>,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<T> {
    throwIfAborted(signal);
    try {
      return await this.#callOnce(name, message, answer, timeoutMs, signal);
    } catch (error) {
      const isGone = error instanceof DataplaneError && error.code === "DATAPLANE_UNREACHABLE";
      if (!isGone || !(await this.isReachable(this.#options.reconnectWaitMs))) throw error;
    }
    // Every call can be repeated, so one that met a dataplane in the middle of a restart is.
    throwIfAborted(signal);
    return this.#callOnce(name, message, answer, timeoutMs, signal);
  }

  #callOnce<T>(
    name: ControlMethod,
    message: object,
    answer: z.ZodType<T>,
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const method = this.#method(name);
    return new Promise<T>((resolve, reject) => {
      const call = this.#client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        message,
        new Metadata(),
        { deadline: this.#clock.wallTimeMs() + timeoutMs },
        (error, response) => {
          signal?.removeEventListener("abort", onAbort);
          if (error !== null) {
            reject(this.#translate(error, name, timeoutMs, signal));
            return;
          }
          const parsed = answer.safeParse(response);
          if (parsed.success) resolve(parsed.data);
          else reject(protocolError(name, this.#options.socketPath));
        },
      );
      const onAbort = (): void => call.cancel();
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }

  /** One stream, to its end. A `greeting` is yielded first, as soon as the stream stands. */
  async *#stream<T>(
    name: ControlMethod,
    schema: z.ZodType<T>,
    signal: AbortSignal,
    greeting?: () => T,
  ): AsyncGenerator<T, void> {
    throwIfAborted(signal);
    const method = this.#method(name);
    const stream = this.#client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      {},
      new Metadata(),
    );
    const onAbort = (): void => stream.cancel();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      if (greeting !== undefined) {
        await new Promise<void>((resolve, reject) => {
          stream.once("metadata", () => resolve());
          stream.once("error", reject);
        });
        yield greeting();
      }
      for await (const message of stream) {
        const parsed = schema.safeParse(message);
        if (!parsed.success) throw protocolError(name, this.#options.socketPath);
        yield parsed.data;
      }
    } catch (error) {
      throw isServiceError(error) ? this.#translate(error, name, 0, signal) : error;
    } finally {
      signal.removeEventListener("abort", onAbort);
      stream.on("error", () => undefined);
      stream.cancel();
    }
  }

  #resumed(): DataplaneEvent {
    const timeMs = this.#clock.wallTimeMs();
    return { timeMs, volumeHandle: "", kind: "watch-resumed", message: "the dataplane was gone for a while" };
  }

  #translate(error: ServiceError, name: ControlMethod, timeoutMs: number, signal: AbortSignal | undefined): AppError {
    if (signal?.aborted === true) return cancellationOf(signal);
    const carried = fromServiceError(error);
    if (carried !== undefined) return carried;
    const { socketPath } = this.#options;
    if (error.code === status.DEADLINE_EXCEEDED) {
      return new TimeoutError(
        "dataplane",
        "DATAPLANE_TIMEOUT",
        `${name} on ${socketPath} took longer than ${timeoutMs} ms`,
        {
          retry: "same-path",
        },
      );
    }
    if (error.code === status.UNAVAILABLE || error.code === status.CANCELLED) {
      return new DataplaneError(
        "DATAPLANE_UNREACHABLE",
        `no dataplane answers on ${socketPath}; is "hawser dataplane" running, with this socket?`,
        { cause: error, retry: "same-path", details: { socketPath } },
      );
    }
    return new DataplaneError("DATAPLANE_PROTOCOL", `${name} on ${socketPath} failed: ${error.details}`, {
      cause: error,
    });
  }

  #method(name: ControlMethod): ControlMethodDefinition {
    const method = this.#methods.get(name);
    if (method === undefined) throw new DataplaneError("DATAPLANE_PROTOCOL", `the dataplane has no method ${name}`);
    return method;
  }
}

/** A function, since the compiler takes a signal that was not aborted before an await for one that never is. */
function isCancelled(signal: AbortSignal): boolean {
  return signal.aborted;
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && typeof error.code === "number" && "details" in error;
}

function protocolError(name: ControlMethod, socketPath: string): DataplaneError {
  return new DataplaneError(
    "DATAPLANE_PROTOCOL",
    `the answer to ${name} on ${socketPath} is not one of this version; run dataplane and node in the same version`,
  );
}
