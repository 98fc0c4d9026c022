import { VERSIONS } from "./layout.js";
import { buildGo, type GoModule } from "./go-build.js";

const [, minor = ""] = VERSIONS.kubernetes.split(".");

const KUBERNETES: GoModule = {
  name: "kubernetes",
  module: "k8s.io/kubernetes",
  version: VERSIONS.kubernetes,
  programs: Object.fromEntries(
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"].map((name) => [
      name,
      `k8s.io/kubernetes/cmd/${name}`,
    ]),
  ),
  variables: {
    "k8s.io/component-base/version.gitVersion": VERSIONS.kubernetes,
    "k8s.io/component-base/version.gitMajor": "1",
    "k8s.io/component-base/version.gitMinor": minor,
  },
};

const CONTAINERD: GoModule = {
  name: "containerd",
  module: "github.com/containerd/containerd/v2",
  version: VERSIONS.containerd,
  programs: Object.fromEntries(
    ["containerd", "containerd-shim-runc-v2", "ctr"].map((name) => [
      name,
      `github.com/containerd/containerd/v2/cmd/${name}`,
    ]),
  ),
  tags: "no_btrfs,no_devmapper,no_zfs",
  variables: { "github.com/containerd/containerd/v2/version.Version": VERSIONS.containerd },
};

/** Debian's etcd is older than what the API server's watch cache is made for. */
const ETCD: GoModule = {
  name: "etcd",
  module: "go.etcd.io/etcd/server/v3",
  version: VERSIONS.etcd,
  programs: { etcd: "go.etcd.io/etcd/server/v3" },
};

const HELM: GoModule = {
  name: "helm",
  module: "helm.sh/helm/v3",
  version: VERSIONS.helm,
  programs: { helm: "helm.sh/helm/v3/cmd/helm" },
  variables: { "helm.sh/helm/v3/internal/version.version": VERSIONS.helm },
};

/** Folders of the programs the cluster runs. */
export interface ClusterPrograms {
  readonly etcd: string;
  readonly kubernetes: string;
  readonly containerd: string;
  readonly helm: string;
}

/** Builds what is not in the cache. Throws when a build fails. */
export async function ensureClusterPrograms(): Promise<ClusterPrograms> {
  return {
    etcd: await buildGo(ETCD),
    containerd: await buildGo(CONTAINERD),
    kubernetes: await buildGo(KUBERNETES),
    helm: await buildGo(HELM),
  };
}
