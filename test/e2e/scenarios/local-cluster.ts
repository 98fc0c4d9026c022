import { join } from "node:path";
import { CONTAINERD_SOCKET, NETWORK, PATHS, VERSIONS, programFolder } from "../cluster/layout.js";
import { readRecord } from "../cluster/sandbox.js";
import { Cluster, startCommand } from "./cluster.js";

const IMAGES = { hawser: "localhost/hawser:dev", workload: "localhost/hawser-test:dev" } as const;
const OPTIONAL = {
  registrar: `registry.k8s.io/sig-storage/csi-node-driver-registrar:${VERSIONS.registrar}`,
  livenessProbe: `registry.k8s.io/sig-storage/livenessprobe:${VERSIONS.livenessprobe}`,
} as const;

/** The way into the cluster that `scripts/e2e` brought up. Rejects when none runs, or an image is missing. */
export async function localCluster(): Promise<Cluster> {
  const record = await readRecord();
  if (record === undefined) throw new Error("no e2e cluster is running; start one: scripts/e2e --up");
  const present = await presentImages();
  const missing = Object.values(IMAGES).filter((reference) => !present.has(reference));
  if (missing.length > 0) throw new Error(`the cluster has no image ${missing.join(", ")}; scripts/e2e imports them`);
  const registrar = present.has(OPTIONAL.registrar) ? "sidecar" : "builtin";
  const livenessProbe = present.has(OPTIONAL.livenessProbe) ? "sidecar" : "builtin";
  return new Cluster({
    kubectl: [PATHS.kubectl],
    helm: [PATHS.helm],
    enter: [PATHS.enter],
    auditLog: PATHS.audit,
    nodeName: NETWORK.nodeName,
    kubeletPath: "/var/lib/kubelet",
    images: IMAGES,
    helmValues: {
      image: imageValues(IMAGES.hawser),
      node: { registrar: { mode: registrar }, livenessProbe: { mode: livenessProbe } },
      controller: { livenessProbe: { mode: livenessProbe } },
      sidecars: { resizer: { image: { tag: VERSIONS.resizer } } },
    },
    sandboxPid: record.sandboxPid,
    notes: [
      "the node's kernel has no nbd: devices are made by FUSE and loop",
      `csi-resizer is ${VERSIONS.resizer}, the newest that is served as a Go module; the chart names a newer one`,
      ...(registrar === "builtin" ? ["no csi-node-driver-registrar here: the driver registers itself"] : []),
      ...(livenessProbe === "builtin" ? ["no livenessprobe here: the driver answers health checks itself"] : []),
    ],
  });
}

async function presentImages(): Promise<ReadonlySet<string>> {
  const ctr = join(programFolder("containerd", VERSIONS.containerd), "ctr");
  const list = [PATHS.enter, ctr, "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io", "images", "ls", "-q"];
  return new Set((await startCommand(list).finished).split("\n"));
}

/** `localhost/hawser:dev` as the chart's values say it. */
function imageValues(reference: string): {
  readonly registry: string;
  readonly repository: string;
  readonly tag: string;
} {
  const [, registry = "", repository = "", tag = ""] = /^([^/]+)\/(.+):([^:]+)$/.exec(reference) ?? [];
  return { registry, repository, tag };
}
