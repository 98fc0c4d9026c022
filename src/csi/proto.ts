import { join } from "node:path";
import type { ServiceDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import protobuf from "protobufjs";
import { CsiError } from "./errors.js";

export type CsiServiceName = "Identity" | "Controller" | "Node" | "GroupController" | "SnapshotMetadata";

/** The CSI interface, loaded. */
export interface CsiProto {
  /** For a gRPC server. Messages are plain objects, camelCase; 64-bit numbers are numbers, enums are their names. */
  service(name: CsiServiceName): ServiceDefinition;
  /** The declaration of a message, with the options of its fields. */
  messageType(name: string): protobuf.Type;
}

/** Loads `csi/v1/csi.proto` below `protoDirectory`, once, at start. */
export function loadCsiProto(options: { readonly protoDirectory: string }): CsiProto {
  const path = join(options.protoDirectory, "csi", "v1", "csi.proto");
  const definition = loadSync(path, {
    longs: Number,
    enums: String,
    defaults: true,
    arrays: true,
    objects: true,
    oneofs: true,
  });
  // The loader drops options of our own making, and csi_secret is one: a second look by the parser itself.
  const root = new protobuf.Root().loadSync(path).resolveAll();
  return {
    service: (name) => {
      const service = definition[`csi.v1.${name}`];
      if (service === undefined || "format" in service) {
        throw new CsiError("CSI_INTERNAL", `${path} declares no service ${name}`);
      }
      return service;
    },
    messageType: (name) => root.lookupType(`csi.v1.${name}`),
  };
}
