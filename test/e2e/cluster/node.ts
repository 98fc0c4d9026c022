import { mkdir, readFile, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { CGROUP } from "./cgroups.js";
import { kubectl } from "./kubectl.js";
import { CONTAINERD_SOCKET, NETWORK, PATHS, STATE, VERSIONS } from "./layout.js";
import { progress, run, waitFor, type Background } from "./process.js";
import type { ClusterPrograms } from "./programs.js";
import { startInside } from "./sandbox.js";

const config = (name: string): string => join(PATHS.config, name);
const START_LIMIT_MS = 60_000;
const READY_LIMIT_MS = 180_000;
const CAP_SYS_RESOURCE = 24n;

/** May root here lower the score by which the kernel chooses what to kill, and raise limits? */
async function hasSysResource(): Promise<boolean> {
  const status = await readFile("/proc/self/status", "utf8");
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  return ((effective >> CAP_SYS_RESOURCE) & 1n) === 1n;
}

function pluginFolder(): string {
  const folder = ["/usr/lib/cni", "/opt/cni/bin"].find((path) => existsSync(join(path, "bridge")));
  if (folder !== undefined) return folder;
  throw new Error("no CNI plug-ins in /usr/lib/cni or /opt/cni/bin; install containernetworking-plugins");
}

const POD_NETWORK = {
  cniVersion: "1.0.0",
  name: "pods",
  plugins: [
    {
      type: "bridge",
      bridge: "cni0",
      isGateway: true,
      hairpinMode: true,
      ipam: { type: "host-local", ranges: [[{ subnet: NETWORK.podRange }]], routes: [{ dst: "0.0.0.0/0" }] },
    },
    { type: "portmap", capabilities: { portMappings: true } },
  ],
};

/** TOML of containerd: its programs, where its data is, and the rights this machine lacks. */
function containerdConfig(restrictScores: boolean): string {
  const runtime = "plugins.'io.containerd.cri.v1.runtime'";
  return `version = 3
root = '${join(STATE, "containerd")}'
state = '/run/containerd'
[grpc]
address = '${CONTAINERD_SOCKET}'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = 'registry.k8s.io/pause:${VERSIONS.pause}'
[${runtime}]
restrict_oom_score_adj = ${restrictScores}
[${runtime}.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[${runtime}.containerd.runtimes.runc.options]
SystemdCgroup = false
[${runtime}.cni]
bin_dirs = ['${pluginFolder()}']
conf_dir = '${join(STATE, "cni")}'
`;
}

function kubeletConfig(hasPriority: boolean): object {
  return {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: join(PATHS.pki, "ca.crt") },
    },
    authorization: { mode: "Webhook" },
    cgroupDriver: "cgroupfs",
    cgroupRoot: `/${CGROUP}`,
    failCgroupV1: false,
    failSwapOn: false,
    containerRuntimeEndpoint: `unix://${CONTAINERD_SOCKET}`,
    resolvConf: config("resolv.conf"),
    // The default is a folder of the machine's own /usr.
    volumePluginDir: join(STATE, "flexvolume"),
    // This machine's disk is not the test's: neither images nor pods are thrown out for want of space.
    evictionHard: {
      "memory.available": "100Mi",
      "nodefs.available": "1%",
      "imagefs.available": "1%",
      "nodefs.inodesFree": "1%",
      "imagefs.inodesFree": "1%",
    },
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
    serializeImagePulls: false,
    shutdownGracePeriod: "0s",
    ...(hasPriority ? {} : { oomScoreAdj: 0 }),
  };
}

function proxyConfig(hasPriority: boolean): object {
  return {
    apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
    kind: "KubeProxyConfiguration",
    clientConnection: { kubeconfig: config("proxy.conf") },
    mode: "iptables",
    clusterCIDR: NETWORK.podRange,
    hostnameOverride: NETWORK.nodeName,
    // The size of the connection table belongs to the machine, not to this network.
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: "0s", tcpCloseWaitTimeout: "0s" },
    ...(hasPriority ? {} : { oomScoreAdj: 0 }),
  };
}

/** Starts containerd and returns when it answers. */
export async function startContainerd(programs: ClusterPrograms): Promise<Background> {
  const hasPriority = await hasSysResource();
  await mkdir(join(STATE, "cni"), { recursive: true });
  await writeFile(join(STATE, "cni", "10-pods.conflist"), JSON.stringify(POD_NETWORK, null, 1));
  await writeFile(config("containerd.toml"), containerdConfig(!hasPriority));
  const path = `${programs.containerd}:${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`;
  const command = [join(programs.containerd, "containerd"), "--config", config("containerd.toml")];
  const containerd = await startInside("containerd", command, { PATH: path });
  await waitFor("containerd", [containerd], START_LIMIT_MS, async () => {
    await run(PATHS.enter, [join(programs.containerd, "ctr"), "--address", CONTAINERD_SOCKET, "version"]);
    return true;
  });
  progress("containerd ready");
  return containerd;
}

/** Starts the kubelet and kube-proxy; returns when the node is Ready. */
export async function startNode(programs: ClusterPrograms, containerd: Background): Promise<readonly Background[]> {
  const hasPriority = await hasSysResource();
  if (!hasPriority) progress("root here lacks CAP_SYS_RESOURCE: scores for the out-of-memory killer are left alone");
  // No name service: pods reach services by address.
  await writeFile(config("resolv.conf"), "");
  await writeFile(config("kubelet.json"), JSON.stringify(kubeletConfig(hasPriority), null, 1));
  await writeFile(config("proxy.json"), JSON.stringify(proxyConfig(hasPriority), null, 1));
  const path = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`;
  const kubelet = await startInside(
    "kubelet",
    [
      join(programs.kubernetes, "kubelet"),
      `--config=${config("kubelet.json")}`,
      `--kubeconfig=${config("kubelet.conf")}`,
      `--hostname-override=${NETWORK.nodeName}`,
      `--node-ip=${NETWORK.nodeAddress}`,
    ],
    { PATH: path },
  );
  const proxy = await startInside(
    "kube-proxy",
    [join(programs.kubernetes, "kube-proxy"), `--config=${config("proxy.json")}`],
    { PATH: path },
  );
  const needed = [containerd, kubelet, proxy];
  await waitFor("the node", needed, READY_LIMIT_MS, async () => {
    const condition = `jsonpath={.status.conditions[?(@.type=="Ready")].status}`;
    return (await kubectl(["get", "node", NETWORK.nodeName, "-o", condition])).trim() === "True";
  });
  progress("node Ready");
  return needed;
}
