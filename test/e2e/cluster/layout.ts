import { join } from "node:path";

/** Releases the cluster is made of. Programs are cached by these, so a new number is a new build. */
export const VERSIONS = {
  kubernetes: "v1.37.1",
  etcd: "v3.7.3",
  containerd: "v2.4.2",
  helm: "v3.22.0",
  pause: "3.10.2",
  provisioner: "v6.3.0",
  attacher: "v4.12.0",
  // The newest the Go module proxy serves; the chart's default is newer.
  resizer: "v2.2.0",
  snapshotter: "v8.6.0",
  registrar: "v2.17.0",
  livenessprobe: "v2.19.0",
} as const;

/** Built programs and image archives, by version. Outlives the cluster. */
export const CACHE = join(process.cwd(), ".cache", "e2e");

/** Everything of a running cluster. Short, because socket paths below it must stay under 108 bytes. */
export const STATE = "/var/lib/hawser-e2e";

/** Folders and files below `STATE`. `/var/lib` and `/var/log` of the sandbox are `varLib` and `varLog`. */
export const PATHS = {
  /** What is running: a `ClusterRecord`, and a `ClusterDescription` when it is up. */
  record: join(STATE, "cluster.json"),
  logs: join(STATE, "logs"),
  pki: join(STATE, "pki"),
  config: join(STATE, "config"),
  varLib: join(STATE, "var-lib"),
  varLog: join(STATE, "var-log"),
  admin: join(STATE, "config", "admin.conf"),
  audit: join(STATE, "logs", "audit.log"),
  /** Runs a command inside all namespaces of the node. */
  enter: join(STATE, "enter"),
  /** kubectl and helm as administrator, from outside the sandbox. */
  kubectl: join(STATE, "kubectl"),
  helm: join(STATE, "helm"),
} as const;

/** Addresses inside the sandbox's own network; nothing outside it sees them. */
export const NETWORK = {
  nodeName: "hawser-e2e",
  nodeAddress: "10.30.0.2",
  nodePrefix: 24,
  gateway: "10.30.0.1",
  apiPort: 6443,
  podRange: "10.244.0.0/24",
  serviceRange: "10.96.0.0/16",
  apiService: "10.96.0.1",
} as const;

/** The socket of containerd, inside the sandbox. */
export const CONTAINERD_SOCKET = "/run/containerd/containerd.sock";

/** Folder of programs of `name` at `version`. */
export function programFolder(name: string, version: string): string {
  return join(CACHE, name, version, "bin");
}
