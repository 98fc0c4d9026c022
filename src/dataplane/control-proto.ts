import { join } from "node:path";
import type { MethodDefinition, ServiceDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { errorMessage } from "../base/errors.js";
import { DataplaneError } from "./errors.js";

const SERVICE_NAME = "hawser.dataplane.v1.Dataplane";

const METHODS = [
  ...(["Attach", "Detach", "Resize", "MarkFormatted"] as const),
  ...(["SetConnectionPolicy", "AddConnection", "RemoveConnection"] as const),
  ...(["SetPathPolicy", "ChangePath"] as const),
  ...(["GetVolume", "ListVolumes", "Watch", "WatchVolumes"] as const),
] as const;

export type ControlMethod = (typeof METHODS)[number];

export type ControlMethodDefinition = MethodDefinition<object, object>;

/** The service and its methods from `proto/` in the package's directory. Throws STATE_FAILED when it is not there. */
export function loadControlService(packageDirectory: string): {
  readonly service: ServiceDefinition;
  readonly methods: ReadonlyMap<ControlMethod, ControlMethodDefinition>;
} {
  const path = join(packageDirectory, "proto", "hawser", "dataplane", "v1", "dataplane.proto");
  try {
    const service = loadSync(path, { longs: Number, defaults: true, arrays: true })[SERVICE_NAME];
    if (service === undefined || "format" in service) throw new Error(`it declares no service ${SERVICE_NAME}`);
    const methods = new Map<ControlMethod, ControlMethodDefinition>();
    for (const name of METHODS) {
      const method = service[name];
      if (method === undefined) throw new Error(`it declares no method ${name}`);
      methods.set(name, method);
    }
    return { service, methods };
  } catch (error) {
    throw new DataplaneError(
      "STATE_FAILED",
      `cannot load ${path}: ${errorMessage(error)}; the package is not complete, install it again`,
      { cause: error },
    );
  }
}
