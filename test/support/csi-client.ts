import { join } from "node:path";
import { Client, credentials, status, type ServiceDefinition, type ServiceError } from "@grpc/grpc-js";
import { loadCsiProto, type CsiProto, type CsiServiceName } from "../../src/csi/proto.js";

/** The repository's own interface definition, loaded once per test file. */
export const csiProto: CsiProto = loadCsiProto({ protoDirectory: join(process.cwd(), "proto") });

interface TypedCapability {
  readonly rpc?: { readonly type: string } | null;
  readonly service?: { readonly type: string } | null;
  readonly volumeExpansion?: { readonly type: string } | null;
}

export interface VolumeAnswer {
  readonly volumeId: string;
  readonly capacityBytes: number;
  readonly volumeContext: Readonly<Record<string, string>>;
}

interface EntryAnswer {
  readonly volume: VolumeAnswer;
  readonly status: { readonly publishedNodeIds: readonly string[] };
}

/** What tests look at in answers; an answer has the fields of its own RPC only. */
export interface Answer {
  readonly name: string;
  readonly vendorVersion: string;
  readonly capabilities: readonly TypedCapability[];
  readonly ready: { readonly value: boolean };
  readonly volume: VolumeAnswer;
  readonly status: EntryAnswer["status"];
  readonly entries: readonly EntryAnswer[];
  readonly nextToken: string;
  readonly publishContext: Readonly<Record<string, string>>;
  readonly confirmed: {
    readonly volumeCapabilities: readonly { readonly accessMode: { readonly mode: string } }[];
  } | null;
  readonly message: string;
  readonly availableCapacity: number;
  readonly maximumVolumeSize: { readonly value: number };
  readonly capacityBytes: number;
  readonly nodeExpansionRequired: boolean;
  readonly nodeId: string;
  readonly maxVolumesPerNode: number;
  readonly usage: readonly {
    readonly unit: string;
    readonly total: number;
    readonly used: number;
    readonly available: number;
  }[];
  readonly volumeHealth: {
    readonly volumeId: string;
    readonly healthStatuses: readonly { readonly status: string; readonly message: string }[];
  };
}

/** How a call was refused: the status by name, and its message. */
export class CallRefused extends Error {
  readonly status: string;
  constructor(error: ServiceError) {
    super(error.details);
    this.status = status[error.code];
  }
}

/** Calls CSI over a unix socket as a kubelet or sidecar does, with the authority they send. */
export class TestCsiClient {
  readonly #client: Client;
  readonly #methods = new Map<string, ServiceDefinition[string]>();

  constructor(socketPath: string, authority = "localhost") {
    this.#client = new Client(`unix:${socketPath}`, credentials.createInsecure(), {
      "grpc.default_authority": authority,
    });
    for (const name of ["Identity", "Controller", "Node"] satisfies CsiServiceName[]) {
      for (const [method, definition] of Object.entries(csiProto.service(name))) this.#methods.set(method, definition);
    }
  }

  call(method: string, request: object = {}, timeoutMs = 20_000): Promise<Answer> {
    const definition = this.#methods.get(method);
    if (definition === undefined) throw new Error(`no RPC ${method}`);
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        definition.path,
        definition.requestSerialize,
        definition.responseDeserialize,
        request,
        { deadline: Date.now() + timeoutMs },
        (error, answer) => (error === null ? resolve(answer as Answer) : reject(new CallRefused(error))),
      );
    });
  }

  close(): void {
    this.#client.close();
  }
}
