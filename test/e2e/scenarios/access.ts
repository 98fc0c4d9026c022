import { field, until } from "./cluster.js";
import { claim, workPod } from "./objects.js";
import { deletePod, inPod, inPodRefused, podReady } from "./pods.js";
import { must, type Scenario, type ScenarioContext } from "./scenario.js";

export const accessModes: Scenario = {
  name: "access",
  title: "fsGroup, read-only, subPath, ReadWriteOncePod",
  phase: "embedded",
  timeoutMs: 240_000,
  async run(context) {
    await groupAndReadOnly(context);
    await subPaths(context);
    await onePod(context);
  },
};

async function groupAndReadOnly(context: ScenarioContext): Promise<void> {
  const { cluster, namespace } = context;
  const image = cluster.description.images.workload;
  await cluster.apply(
    claim({ namespace, name: "shared", size: "256Mi" }),
    workPod({
      ...{ namespace, name: "group", image, claimName: "shared" },
      securityContext: { runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000 },
    }),
  );
  await podReady(context, "group");
  await inPod(context, "group", "echo hello > /data/file && sync -f /data/file");
  const owners = await inPod(context, "group", "stat -c %u:%g /data/file /data | tr '\\n' ' '");
  must(owners.trim() === "1000:2000 0:2000", `fsGroup 2000 gave owners ${owners}`);
  await cluster.apply(
    workPod({ namespace, name: "reader", image, claimName: "shared", isReadOnlyClaim: true }),
    workPod({
      ...{ namespace, name: "guest", image, claimName: "shared" },
      mounts: [{ name: "data", mountPath: "/data", readOnly: true }],
    }),
  );
  for (const pod of ["reader", "guest"]) {
    await podReady(context, pod);
    must((await inPod(context, pod, "cat /data/file")) === "hello", `${pod} read something else`);
    const refusal = await inPodRefused(context, pod, "echo x > /data/other");
    must(refusal.includes("Read-only file system"), `${pod} was refused by "${refusal}"`);
  }
  // A reader beside it must not have made the writer's mount read-only.
  await inPod(context, "group", "echo again > /data/file");
}

async function subPaths(context: ScenarioContext): Promise<void> {
  const { cluster, namespace } = context;
  await cluster.apply(
    workPod({
      ...{ namespace, name: "parts", image: cluster.description.images.workload, claimName: "shared" },
      mounts: [
        { name: "data", mountPath: "/one", subPath: "parts/one" },
        { name: "data", mountPath: "/two", subPath: "parts/two" },
        { name: "data", mountPath: "/all" },
      ],
    }),
  );
  await podReady(context, "parts");
  await inPod(context, "parts", "echo 1 > /one/file && echo 2 > /two/file && sync -f /one/file");
  const seen = await inPod(context, "parts", "cat /all/parts/one/file /all/parts/two/file | tr -d '\\n'");
  must(seen === "12", `subPath showed "${seen}"`);
}

async function onePod(context: ScenarioContext): Promise<void> {
  const { cluster, namespace } = context;
  const image = cluster.description.images.workload;
  await cluster.apply(
    claim({ namespace, name: "single", size: "256Mi", accessMode: "ReadWriteOncePod" }),
    workPod({ namespace, name: "first", image, claimName: "single" }),
  );
  await podReady(context, "first");
  await cluster.apply(workPod({ namespace, name: "second", image, claimName: "single" }));
  const reason = await until(
    async () => {
      const pod = await cluster.find("pod", "second", namespace);
      const conditions = field(pod, "status", "conditions") as readonly { message?: string }[] | undefined;
      return conditions?.find(({ message }) => message?.includes("ReadWriteOncePod") === true)?.message;
    },
    { what: "the scheduler to refuse a second pod with a ReadWriteOncePod claim" },
  );
  context.progress(`second pod waits: ${reason}`);
  await deletePod(context, "first");
  await podReady(context, "second");
}
