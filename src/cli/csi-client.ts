import { join } from "node:path";
import type { Client } from "@grpc/grpc-js";
import { credentials, loadPackageDefinition, type ServiceError } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { AppError } from "../base/errors.js";

type Message = Readonly<Record<string, unknown>>;
type UnaryCall = (
  request: Message,
  options: object,
  done: (error: ServiceError | null, reply: Message) => void,
) => void;
type ServiceConstructor = new (address: string, channelCredentials: unknown, options: object) => Client;

/** A refused or failed CSI call. `details.grpcCode` is the status number. */
export class CsiCallError extends AppError {}

/**
 * A caller of a CSI endpoint, as a kubelet or a sidecar would be: used by the self-test, so that it goes through
 * the same socket and the same messages as Kubernetes. Messages keep the names of the interface definition.
 */
export class CsiClient {
  readonly #services: ReadonlyMap<string, Client>;
  readonly #timeoutMs: number;

  /** `endpoint` is `unix:///path`; `packageDirectory` holds `proto/`. */
  constructor(options: { readonly endpoint: string; readonly packageDirectory: string; readonly timeoutMs: number }) {
    const root = join(options.packageDirectory, "proto");
    const definition = loadSync(join(root, "csi", "v1", "csi.proto"), {
      keepCase: true,
      longs: Number,
      enums: String,
      defaults: true,
      oneofs: true,
      includeDirs: [root],
    });
    const loaded = loadPackageDefinition(definition) as unknown as {
      csi: { v1: Readonly<Record<string, ServiceConstructor>> };
    };
    const services = new Map<string, Client>();
    for (const name of ["Identity", "Controller", "Node"]) {
      const Service = loaded.csi.v1[name];
      if (Service === undefined) throw new AppError("cli", "PROTO_INCOMPLETE", `csi.proto declares no service ${name}`);
      services.set(
        name,
        new Service(options.endpoint, credentials.createInsecure(), { "grpc.default_authority": "localhost" }),
      );
    }
    this.#services = services;
    this.#timeoutMs = options.timeoutMs;
  }

  /** Calls `Service.Method`. Fails with CsiCallError, whose message is the server's. */
  call(service: "Identity" | "Controller" | "Node", method: string, request: Message = {}): Promise<Message> {
    const client = this.#services.get(service);
    const unary = (client as unknown as Readonly<Record<string, UnaryCall>> | undefined)?.[method];
    if (client === undefined || unary === undefined) {
      throw new AppError("cli", "PROTO_INCOMPLETE", `csi.proto declares no ${service}.${method}`);
    }
    // The deadline is wall-clock time by gRPC's interface.
    const deadline = new Date(Date.now() + this.#timeoutMs);
    return new Promise((resolve, reject) => {
      unary.call(client, request, { deadline }, (error, reply) => {
        if (error === null) {
          resolve(reply);
          return;
        }
        const details = { grpcCode: error.code, service, method };
        reject(new CsiCallError("csi", "CSI_CALL_FAILED", `${method}: ${error.details}`, { details, cause: error }));
      });
    });
  }

  close(): void {
    for (const client of this.#services.values()) client.close();
  }
}
