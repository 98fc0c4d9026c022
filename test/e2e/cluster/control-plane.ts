import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { kubectl } from "./kubectl.js";
import { NETWORK, PATHS, STATE } from "./layout.js";
import { progress, waitFor, type Background } from "./process.js";
import type { ClusterPrograms } from "./programs.js";
import { startInside } from "./sandbox.js";

const pki = (name: string): string => join(PATHS.pki, name);
const config = (name: string): string => join(PATHS.config, name);
const START_LIMIT_MS = 120_000;

/** Who did what, without bodies: those may hold secrets. The second stage only repeats who asked. */
const AUDIT_POLICY = {
  apiVersion: "audit.k8s.io/v1",
  kind: "Policy",
  omitStages: ["RequestReceived"],
  rules: [{ level: "Metadata" }],
};

/** Starts etcd. Its data is for one run only, so it need not wait for the disk. */
async function startEtcd(programs: ClusterPrograms): Promise<Background> {
  const folder = join(STATE, "etcd");
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const url = "http://127.0.0.1:2379";
  const peer = "http://127.0.0.1:2380";
  const listen = ["--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", peer];
  const cluster = ["--name", "e2e", "--initial-advertise-peer-urls", peer, "--initial-cluster", `e2e=${peer}`];
  return startInside("etcd", [
    join(programs.etcd, "etcd"),
    "--data-dir",
    folder,
    ...listen,
    ...cluster,
    "--unsafe-no-fsync",
  ]);
}

function apiServerFlags(): readonly string[] {
  return [
    `--etcd-servers=http://127.0.0.1:2379`,
    `--advertise-address=${NETWORK.nodeAddress}`,
    `--secure-port=${NETWORK.apiPort}`,
    `--service-cluster-ip-range=${NETWORK.serviceRange}`,
    `--client-ca-file=${pki("ca.crt")}`,
    `--tls-cert-file=${pki("apiserver.crt")}`,
    `--tls-private-key-file=${pki("apiserver.key")}`,
    `--kubelet-client-certificate=${pki("apiserver-kubelet.crt")}`,
    `--kubelet-client-key=${pki("apiserver-kubelet.key")}`,
    `--kubelet-preferred-address-types=InternalIP`,
    `--service-account-issuer=https://kubernetes.default.svc`,
    `--service-account-signing-key-file=${pki("sa.key")}`,
    `--service-account-key-file=${pki("sa.key")}`,
    `--authorization-mode=Node,RBAC`,
    `--enable-admission-plugins=NodeRestriction`,
    // As on every distribution: storage drivers and network plug-ins run privileged containers.
    `--allow-privileged=true`,
    `--audit-policy-file=${config("audit-policy.json")}`,
    `--audit-log-path=${PATHS.audit}`,
    `--audit-log-maxsize=2000`,
  ];
}

function managerFlags(): readonly string[] {
  return [
    `--kubeconfig=${config("controller-manager.conf")}`,
    `--authentication-kubeconfig=${config("controller-manager.conf")}`,
    `--authorization-kubeconfig=${config("controller-manager.conf")}`,
    `--root-ca-file=${pki("ca.crt")}`,
    `--service-account-private-key-file=${pki("sa.key")}`,
    `--cluster-signing-cert-file=${pki("ca.crt")}`,
    `--cluster-signing-key-file=${pki("ca.key")}`,
    `--use-service-account-credentials=true`,
    `--leader-elect=false`,
  ];
}

function schedulerFlags(): readonly string[] {
  return [
    `--kubeconfig=${config("scheduler.conf")}`,
    `--authentication-kubeconfig=${config("scheduler.conf")}`,
    `--authorization-kubeconfig=${config("scheduler.conf")}`,
    `--leader-elect=false`,
  ];
}

/** Starts etcd, the API server, the controller manager and the scheduler; returns when the API server is ready. */
export async function startControlPlane(programs: ClusterPrograms): Promise<readonly Background[]> {
  await writeFile(config("audit-policy.json"), JSON.stringify(AUDIT_POLICY));
  const etcd = await startEtcd(programs);
  const apiServer = await startInside("kube-apiserver", [
    join(programs.kubernetes, "kube-apiserver"),
    ...apiServerFlags(),
  ]);
  await waitFor("the API server", [etcd, apiServer], START_LIMIT_MS, async () => {
    return (await kubectl(["get", "--raw", "/readyz"])).trim() === "ok";
  });
  progress("API server ready");
  const manager = await startInside("kube-controller-manager", [
    join(programs.kubernetes, "kube-controller-manager"),
    ...managerFlags(),
  ]);
  const scheduler = await startInside("kube-scheduler", [
    join(programs.kubernetes, "kube-scheduler"),
    ...schedulerFlags(),
  ]);
  return [etcd, apiServer, manager, scheduler];
}
