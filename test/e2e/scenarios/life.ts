import { field, until } from "./cluster.js";
import { startLoad } from "./fio.js";
import { CLASSES, claim, workPod, workPodSpec } from "./objects.js";
import { claimBound, deletePod, digestOf, inPod, podReady, secondsSince, writeRandom } from "./pods.js";
import { must, type Scenario, type ScenarioContext } from "./scenario.js";

const MIB = 1_048_576;
/** Bit of CAP_SYS_RESOURCE, which the kernel asks for when a mounted ext4 grows. */
const SYS_RESOURCE_BIT = 24n;

export const pvcLife: Scenario = {
  name: "pvc-life",
  title: "claim bound, pod writes, next pod reads the same",
  phase: "embedded",
  timeoutMs: 180_000,
  async run(context) {
    const { cluster, namespace } = context;
    const image = cluster.description.images.workload;
    const startedAt = Date.now();
    await cluster.apply(
      claim({ namespace, name: "disk", size: "1Gi" }),
      workPod({ namespace, name: "writer", image, claimName: "disk" }),
    );
    await claimBound(context, "disk");
    context.figure("bound after", secondsSince(startedAt), "s");
    await podReady(context, "writer");
    context.figure("pod ready after", secondsSince(startedAt), "s");
    must((await inPod(context, "writer", "stat -f -c %T /data")).includes("ext"), "the file system is not ext4");
    const written = await writeRandom(context, "writer", "/data/random", 64);
    await deletePod(context, "writer");
    await cluster.apply(workPod({ namespace, name: "reader", image, claimName: "disk" }));
    await podReady(context, "reader");
    must((await digestOf(context, "reader", "/data/random", 64)) === written, "the next pod read other bytes");
  },
};

export const expansion: Scenario = {
  name: "expansion",
  title: "online expansion while fio writes",
  phase: "embedded",
  timeoutMs: 300_000,
  async run(context) {
    await expandOne(context, CLASSES.xfs, "xfs");
    if (await hasSysResource(context)) await expandOne(context, CLASSES.ext4, "ext4");
    else
      context.note("ext4 not grown while mounted: this machine withholds CAP_SYS_RESOURCE, which the kernel demands");
  },
};

async function hasSysResource(context: ScenarioContext): Promise<boolean> {
  const status = await context.cluster.host(["cat", "/proc/self/status"]);
  const bounding = BigInt(`0x${/^CapBnd:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? "0"}`);
  return ((bounding >> SYS_RESOURCE_BIT) & 1n) === 1n;
}

async function expandOne(context: ScenarioContext, className: string, fsType: string): Promise<void> {
  const { cluster, namespace } = context;
  const image = cluster.description.images.workload;
  const claimName = `grow-${fsType}`;
  const pod = `grow-${fsType}`;
  await cluster.apply(
    claim({ namespace, name: claimName, size: "512Mi", className }),
    workPod({ namespace, name: pod, image, claimName }),
  );
  await podReady(context, pod);
  const sizeMib = async (): Promise<number> =>
    Number(await inPod(context, pod, "df --output=size -B1 /data | tail -n 1")) / MIB;
  const before = await sizeMib();
  const load = startLoad(cluster, { namespace, pod, target: "/data", sizeMib: 16, seconds: 20 });
  const startedAt = Date.now();
  const patch = JSON.stringify({ spec: { resources: { requests: { storage: "1Gi" } } } });
  await cluster.kubectl(["-n", namespace, "patch", "pvc", claimName, "--type=merge", "-p", patch]);
  await until(
    async () => {
      const status = field(await cluster.find("pvc", claimName, namespace), "status");
      const isPending = field(status, "allocatedResourceStatuses", "storage") === "NodeResizePending";
      return isPending || field(status, "capacity", "storage") === "1Gi" ? true : undefined;
    },
    { what: `the storage to grow claim ${claimName}` },
  );
  // The kubelet looks at a pod's volumes when the pod changes, and else about once in a minute.
  await cluster.kubectl(["-n", namespace, "label", "pod", pod, "look=now"]);
  const after = await until(
    async () => {
      const now = await sizeMib();
      return now > before * 1.8 ? now : undefined;
    },
    { what: `${fsType} to grow from ${Math.round(before)} MiB in the pod`, timeoutMs: 180_000, intervalMs: 1000 },
  );
  context.figure(`${fsType} grown after`, secondsSince(startedAt), "s");
  context.figure(fsType, `${Math.round(before)} → ${Math.round(after)}`, "MiB");
  const { longestWaitMs } = await load.finished;
  context.figure(`${fsType} longest wait`, longestWaitMs, "ms");
  const claimed = await until(
    async () => {
      const found = await cluster.find("pvc", claimName, namespace);
      return field(found, "status", "capacity", "storage") === "1Gi" ? found : undefined;
    },
    { what: `claim ${claimName} to say 1Gi` },
  );
  must(claimed.metadata.name === claimName, "the claim changed its name");
  await deletePod(context, pod);
}

export const rawBlock: Scenario = {
  name: "raw-block",
  title: "raw block volume: written, read back, read by another pod",
  phase: "embedded",
  timeoutMs: 180_000,
  async run(context) {
    const { cluster, namespace } = context;
    const image = cluster.description.images.workload;
    const pod = (name: string) => workPod({ namespace, name, image, claimName: "raw", isBlock: true });
    await cluster.apply(claim({ namespace, name: "raw", size: "256Mi", isBlock: true }), pod("writer"));
    await podReady(context, "writer");
    const size = Number(await inPod(context, "writer", "blockdev --getsize64 /dev/volume"));
    must(size === 256 * MIB, `the device has ${size} bytes, not 256 MiB`);
    const write = "dd if=/dev/urandom of=/dev/volume bs=1M count=64 oflag=direct conv=fsync status=none";
    await inPod(context, "writer", write);
    const written = await digestOf(context, "writer", "/dev/volume", 64);
    await deletePod(context, "writer");
    await cluster.apply(pod("reader"));
    await podReady(context, "reader");
    must((await digestOf(context, "reader", "/dev/volume", 64)) === written, "the next pod read other bytes");
    context.figure("device", size / MIB, "MiB");
  },
};

export const statefulSet: Scenario = {
  name: "stateful-set",
  title: "StatefulSet of 3: a volume each; pod deleted, scaled down and up, data stays",
  phase: "embedded",
  timeoutMs: 300_000,
  async run(context) {
    const { cluster, namespace } = context;
    const names = ["db-0", "db-1", "db-2"];
    await cluster.apply(setOfThree(namespace, cluster.description.images.workload));
    for (const name of names) {
      await podReady(context, name);
      await inPod(context, name, "hostname > /data/name && sync -f /data/name");
    }
    const volumes = new Set(await Promise.all(names.map((name) => claimBound(context, `data-${name}`))));
    must(volumes.size === 3, `${volumes.size} volumes for three pods`);
    const uid = (await podReady(context, "db-1")).metadata.uid;
    await deletePod(context, "db-1");
    must((await podReady(context, "db-1")).metadata.uid !== uid, "db-1 was not replaced");
    await expectOwnData(context, ["db-1"]);
    const scale = (replicas: number): Promise<string> =>
      cluster.kubectl(["-n", namespace, "scale", "statefulset", "db", `--replicas=${replicas}`]);
    await scale(1);
    await until(async () => ((await cluster.list("pod", namespace)).length === 1 ? true : undefined), {
      what: "two pods of the set to go",
      timeoutMs: 90_000,
    });
    await scale(3);
    await expectOwnData(context, names);
  },
};

async function expectOwnData(context: ScenarioContext, names: readonly string[]): Promise<void> {
  for (const name of names) {
    await podReady(context, name);
    const found = await inPod(context, name, "cat /data/name");
    must(found === name, `pod ${name} found the data of "${found}"`);
  }
}

function setOfThree(namespace: string, image: string) {
  const labels = { app: "db" };
  return {
    apiVersion: "apps/v1",
    kind: "StatefulSet",
    metadata: { name: "db", namespace },
    spec: {
      replicas: 3,
      serviceName: "db",
      podManagementPolicy: "Parallel",
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: workPodSpec({ image }) },
      volumeClaimTemplates: [
        {
          metadata: { name: "data" },
          spec: {
            accessModes: ["ReadWriteOnce"],
            storageClassName: CLASSES.ext4,
            resources: { requests: { storage: "300Mi" } },
          },
        },
      ],
    },
  };
}
