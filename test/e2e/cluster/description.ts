import { BUSYBOX_REFERENCE, DRIVER_REFERENCE, WORKLOAD_REFERENCE } from "./images.js";
import { NETWORK, PATHS, VERSIONS } from "./layout.js";
import type { Sidecars } from "./sidecars.js";

/**
 * What the scenarios have to know about a cluster that is up. Lists of words are the beginnings of command lines that
 * work from outside the sandbox. It stands in `PATHS.record`.
 */
export interface ClusterDescription {
  readonly kubectl: readonly string[];
  readonly helm: readonly string[];
  /** Runs a program of this machine inside all namespaces of the node. */
  readonly enter: readonly string[];
  /** The same path inside and outside the sandbox. */
  readonly auditLog: string;
  readonly nodeName: string;
  readonly nodeAddress: string;
  readonly kubeletPath: string;
  readonly images: { readonly hawser: string; readonly workload: string; readonly busybox: string };
  /** Values of the chart this cluster needs: its images, and what the driver does itself for want of a sidecar. */
  readonly helmValues: Readonly<Record<string, unknown>>;
  /** What this cluster cannot do, and why; printed below the table. */
  readonly notes: readonly string[];
}

/** Describes the cluster with these sidecars. */
export function describeCluster(sidecars: Sidecars): ClusterDescription {
  const isMissing = (program: string): boolean => sidecars.missing.some((sidecar) => sidecar.program === program);
  const livenessProbe = { mode: isMissing("livenessprobe") ? "builtin" : "sidecar" };
  const registrar = { mode: isMissing("csi-node-driver-registrar") ? "builtin" : "sidecar" };
  const [registry = "", rest = ""] = DRIVER_REFERENCE.split("/");
  const [repository, tag] = rest.split(":");
  return {
    kubectl: [PATHS.kubectl],
    helm: [PATHS.helm],
    enter: [PATHS.enter],
    auditLog: PATHS.audit,
    nodeName: NETWORK.nodeName,
    nodeAddress: NETWORK.nodeAddress,
    kubeletPath: "/var/lib/kubelet",
    images: { hawser: DRIVER_REFERENCE, workload: WORKLOAD_REFERENCE, busybox: BUSYBOX_REFERENCE },
    helmValues: {
      image: { registry, repository, tag, pullPolicy: "IfNotPresent" },
      node: { registrar, livenessProbe },
      controller: { livenessProbe },
      sidecars: { resizer: { image: { tag: VERSIONS.resizer } } },
    },
    notes: [
      `Kubernetes ${VERSIONS.kubernetes}, containerd ${VERSIONS.containerd}, one node, no name service`,
      `csi-resizer is ${VERSIONS.resizer}, the newest that can be built from the Go module proxy`,
      ...sidecars.missing.map(({ program, reason }) => `no ${program}, the driver does its work itself: ${reason}`),
    ],
  };
}
