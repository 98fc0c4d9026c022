import { connect } from "node:net";
import { Client, credentials } from "@grpc/grpc-js";
import type { Clock } from "../base/clock.js";
import { AppError } from "../base/errors.js";
import { HEALTH_CHECK_TIMEOUT_MS } from "../base/limits.js";
import type { CsiProto } from "../csi/proto.js";
import type { HealthCheck } from "./health-server.js";

export interface CsiChecksOptions {
  /** The socket this very process serves. */
  readonly socketPath: string;
  readonly proto: CsiProto;
}

/**
 * Checks of a process that serves CSI, by Probe over its own socket and a connection made anew each time, as the
 * kubelet's calls come. Alive is who answers, whatever the answer: what makes a part "not ready" (no dataplane, no
 * backend) is not mended by starting this process anew. Ready is who answers "ready".
 */
export function csiChecks(
  options: CsiChecksOptions,
  dependencies: { readonly clock: Clock },
): { readonly alive: readonly HealthCheck[]; readonly ready: readonly HealthCheck[] } {
  const ask = (): Promise<boolean> => probe(options, dependencies.clock);
  return {
    alive: [{ name: "csi-socket", run: () => ask().then(() => undefined) }],
    ready: [
      {
        name: "csi-probe",
        run: async () => {
          if (await ask()) return;
          throw new AppError("cli", "HEALTH_NOT_READY", "Probe says not ready; the log has the reason");
        },
      },
    ],
  };
}

/** Is somebody accepting connections on a unix socket? */
export function socketCheck(name: string, socketPath: string): HealthCheck {
  return {
    name,
    run: () =>
      new Promise((resolve, reject) => {
        const socket = connect(socketPath);
        socket.setTimeout(HEALTH_CHECK_TIMEOUT_MS, () => socket.destroy(new Error(`${socketPath} does not answer`)));
        socket.once("connect", () => {
          socket.destroy();
          resolve();
        });
        socket.once("error", reject);
      }),
  };
}

function probe({ socketPath, proto }: CsiChecksOptions, clock: Clock): Promise<boolean> {
  const method = proto.service("Identity")["Probe"];
  if (method === undefined) throw new AppError("cli", "PROTO_INCOMPLETE", "csi.proto declares no Identity.Probe");
  // A pool of its own: a connection of an earlier look would say nothing of the socket's file.
  const client = new Client(`unix:${socketPath}`, credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.default_authority": "localhost",
  });
  const deadline = clock.wallTimeMs() + HEALTH_CHECK_TIMEOUT_MS;
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      {},
      { deadline },
      (error, answer) => {
        client.close();
        if (error === null) resolve((answer as { ready: { value: boolean } | null }).ready?.value !== false);
        else reject(new AppError("cli", "HEALTH_NO_ANSWER", `${socketPath}: ${error.details}`, { cause: error }));
      },
    );
  });
}
