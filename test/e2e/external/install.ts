import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import type { Cluster } from "../scenarios/cluster.js";
import { merge, RELEASE, RELEASE_NAMESPACE, STORE_DIRECTORY } from "../scenarios/release.js";

const CHART = resolve("charts/hawser");
const STORAGE_CLASS = resolve("deploy/e2e/storageclass.yaml");
/** Few, because the suite fills a node up to see what happens then. */
const MAX_VOLUMES = 12;
const WAIT_MS = 300_000;

/** Installs the chart with the embedded target, or brings the one that is there to these values. */
export async function installChart(cluster: Cluster): Promise<void> {
  const values = merge(
    {
      kubeletPath: cluster.description.kubeletPath,
      dataplane: { device: "fuse" },
      node: { maxVolumes: MAX_VOLUMES },
      storage: { enabled: true, hostPath: STORE_DIRECTORY },
    },
    cluster.description.helmValues,
  );
  await cluster.host(["mkdir", "-p", STORE_DIRECTORY]);
  const release = ["upgrade", "--install", RELEASE, CHART, "--namespace", RELEASE_NAMESPACE, "--create-namespace"];
  await cluster.helm([...release, "--wait", "--timeout", `${WAIT_MS / 1000}s`, "--values", "-"], {
    input: JSON.stringify(values),
    timeoutMs: WAIT_MS + 10_000,
  });
}

/**
 * Makes the class the suite copies and returns its file system. Growing a mounted ext4 takes CAP_SYS_RESOURCE in the
 * kernel; where this machine withholds it, xfs takes ext4's place, so that growing is tested all the same.
 */
export async function applyStorageClass(cluster: Cluster): Promise<string> {
  const text = await readFile(STORAGE_CLASS, "utf8");
  const fsType = hasSysResource(await readFile("/proc/self/status", "utf8")) ? "ext4" : "xfs";
  // Parameters of a class cannot be changed, so an older one makes way.
  await cluster.kubectl(["replace", "--force", "-f", "-"], {
    input: text.replace("fstype: ext4", `fstype: ${fsType}`),
  });
  return fsType;
}

/** Bit 24 of the bounding set, which no container can leave. */
function hasSysResource(status: string): boolean {
  const bounding = /^CapBnd:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0";
  return ((BigInt(`0x${bounding}`) >> 24n) & 1n) === 1n;
}
