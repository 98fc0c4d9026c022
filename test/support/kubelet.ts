import { join } from "node:path";
import { Client, credentials, type ServiceDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const FILE = join(process.cwd(), "proto", "kubelet", "pluginregistration", "v1", "registration.proto");
const service = loadSync(FILE, { defaults: true, arrays: true })[
  "pluginregistration.Registration"
] as ServiceDefinition;

/** What a kubelet of Kubernetes 1.29 or later sends as authority: the path of the socket, encoded. */
export function kubeletAuthority(socketPath: string): string {
  return encodeURIComponent(socketPath);
}

/** Speaks to a registration socket as a kubelet does. */
export class FakeKubelet {
  readonly #client: Client;

  constructor(socketPath: string, authority = kubeletAuthority(socketPath)) {
    this.#client = new Client(`unix:${socketPath}`, credentials.createInsecure(), {
      "grpc.default_authority": authority,
      "grpc.use_local_subchannel_pool": 1,
    });
  }

  getInfo(): Promise<unknown> {
    return this.#call("GetInfo", {});
  }

  notify(pluginRegistered: boolean, error = ""): Promise<unknown> {
    return this.#call("NotifyRegistrationStatus", { pluginRegistered, error });
  }

  close(): void {
    this.#client.close();
  }

  #call(method: string, request: object): Promise<unknown> {
    const definition = service[method];
    if (definition === undefined) throw new Error(`no RPC ${method}`);
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        definition.path,
        definition.requestSerialize,
        definition.responseDeserialize,
        request,
        // The kubelet gives GetInfo a second.
        { deadline: Date.now() + 1_000 },
        (error, answer) => (error === null ? resolve(answer) : reject(error)),
      );
    });
  }
}
