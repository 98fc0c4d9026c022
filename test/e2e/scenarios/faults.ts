import { until, type KubeObject } from "./cluster.js";
import { startLoad, type Load } from "./fio.js";
import { CLASSES, claim, workPod } from "./objects.js";
import { claimBound, deletePod, digestOf, inPod, podReady, secondsSince, writeRandom } from "./pods.js";
import { STORE_DIRECTORY } from "./release.js";
import { must, type Scenario, type ScenarioContext } from "./scenario.js";

const BURST = 20;

/** A pod with a volume of its own and a load on it. */
export async function loadedPod(context: ScenarioContext, seconds: number): Promise<Load> {
  const { cluster, namespace } = context;
  await cluster.apply(
    claim({ namespace, name: "load", size: "512Mi" }),
    workPod({ namespace, name: "load", image: cluster.description.images.workload, claimName: "load" }),
  );
  await podReady(context, "load");
  return startLoad(cluster, { namespace, pod: "load", target: "/data", sizeMib: 16, seconds });
}

/** Waits for the end of a load and puts its figures into the table. */
export async function endLoad(context: ScenarioContext, load: Load): Promise<void> {
  const { writtenBytes, longestWaitMs } = await load.finished;
  context.figure("written", Math.round(writtenBytes / 1_048_576), "MiB");
  context.figure("I/O errors", 0);
  context.figure("longest wait", longestWaitMs, "ms");
}

export const nodeKilled: Scenario = {
  name: "node-killed",
  title: "node plugin killed under load; stage and unstage work right after",
  phase: "embedded",
  timeoutMs: 240_000,
  async run(context) {
    const { cluster, namespace, release } = context;
    const image = cluster.description.images.workload;
    await cluster.apply(
      claim({ namespace, name: "leaving", size: "256Mi" }),
      workPod({ namespace, name: "leaving", image, claimName: "leaving" }),
    );
    await podReady(context, "leaving");
    const written = await writeRandom(context, "leaving", "/data/random", 16);
    const load = await loadedPod(context, 40);
    const killedAt = Date.now();
    const previous = await release.kill("node");
    // At once, while no plugin serves: the kubelet has to try again until one does.
    await Promise.all([
      deletePod(context, "leaving"),
      cluster.apply(
        claim({ namespace, name: "coming", size: "256Mi" }),
        workPod({ namespace, name: "coming", image, claimName: "coming" }),
      ),
    ]);
    context.figure("unstaged after", secondsSince(killedAt), "s");
    await podReady(context, "coming");
    context.figure("staged after", secondsSince(killedAt), "s");
    await release.ready("node", previous);
    await cluster.apply(workPod({ namespace, name: "back", image, claimName: "leaving" }));
    await podReady(context, "back");
    must((await digestOf(context, "back", "/data/random", 16)) === written, "the volume came back with other bytes");
    await endLoad(context, load);
  },
};

export const controllerKilled: Scenario = {
  name: "controller-killed",
  title: `controller killed while it makes ${BURST} volumes: none lost, none doubled`,
  phase: "embedded",
  timeoutMs: 300_000,
  async run(context) {
    const { cluster, namespace, release } = context;
    // The embedded target lives in the controller's pod: its volumes wait meanwhile, and that is all they do.
    const load = await loadedPod(context, 45);
    const names = Array.from({ length: BURST }, (_, index) => `burst-${index}`);
    await cluster.apply(...names.map((name) => claim({ namespace, name, size: "64Mi", className: CLASSES.immediate })));
    await until(async () => ((await boundCount(context, names)) > 0 ? true : undefined), {
      what: "the first volume",
      intervalMs: 50,
    });
    const boundAtKill = await boundCount(context, names);
    const killedAt = Date.now();
    const previous = await release.kill("controller");
    context.figure("bound at the kill", `${boundAtKill} of ${BURST}`);
    await release.ready("controller", previous);
    context.figure("controller ready after", secondsSince(killedAt), "s");
    for (const name of names) await claimBound(context, name, 120_000);
    context.figure("all bound after", secondsSince(killedAt), "s");
    const claims = await cluster.list("pvc", namespace);
    const wanted = claims.map((object) => `pvc-${object.metadata.uid}`).sort();
    await expectVolumes(context, wanted);
    await endLoad(context, load);
    await cluster.kubectl(["-n", namespace, "delete", "pvc", ...names, "--wait=true"], { timeoutMs: 90_000 });
    const kept = claims
      .filter((object) => object.metadata.name === "load")
      .map(({ metadata }) => `pvc-${metadata.uid}`);
    await until(
      async () => {
        const left = (await storedNames(context)).filter((name) => wanted.includes(name));
        return left.length === kept.length ? true : undefined;
      },
      { what: "the storage to delete the burst's volumes", timeoutMs: 90_000 },
    );
    must((await storedNames(context)).includes(kept[0] ?? ""), "the volume in use was deleted with the others");
  },
};

async function boundCount(context: ScenarioContext, names: readonly string[]): Promise<number> {
  const claims = await context.cluster.list("pvc", context.namespace);
  const isBound = (object: KubeObject): boolean => (object["status"] as { phase?: string }).phase === "Bound";
  return claims.filter((object) => names.includes(object.metadata.name) && isBound(object)).length;
}

/** Names of the volumes that the embedded target's store holds, as the provisioner gave them. */
async function storedNames(context: ScenarioContext): Promise<readonly string[]> {
  const script = `for file in ${STORE_DIRECTORY}/volumes/*/volume.json; do [ -e "$file" ] && cat "$file" && echo; done; true`;
  const text = await context.cluster.host(["sh", "-c", script]);
  return [...text.matchAll(/"name":\s*"(pvc-[0-9a-f-]+)"/g)].map((match) => match[1] ?? "").sort();
}

/** Exactly one stored volume and one PersistentVolume for each wanted name. */
async function expectVolumes(context: ScenarioContext, wanted: readonly string[]): Promise<void> {
  const stored = (await storedNames(context)).filter((name) => wanted.includes(name));
  must(
    stored.join() === wanted.join(),
    `${wanted.length} volumes were asked for and the storage holds ${stored.length}: ${stored.join(", ")}`,
  );
  const volumes = (await context.cluster.list("pv")).map((volume) => volume.metadata.name);
  const missing = wanted.filter((name) => !volumes.includes(name));
  must(missing.length === 0, `there is no PersistentVolume for ${missing.join(", ")}`);
  context.figure("volumes made", `${stored.length} for ${wanted.length} claims`);
}

export const helmTest: Scenario = {
  name: "helm-test",
  title: "helm test hawser",
  phase: "embedded",
  timeoutMs: 240_000,
  async run(context) {
    const output = await context.release.test();
    must(/Phase:\s+Succeeded/.test(output), `helm test said: ${output.slice(-1000)}`);
    must(!/Phase:\s+Failed/.test(output), `helm test said: ${output.slice(-1000)}`);
  },
};

export const upgrade: Scenario = {
  name: "upgrade",
  title: "helm upgrade under load: node plugin rolls, dataplane stays",
  phase: "embedded",
  timeoutMs: 300_000,
  async run(context) {
    const { release } = context;
    const load = await loadedPod(context, 50);
    const nodeBefore = (await release.pod("node")).metadata.uid;
    const dataplaneBefore = (await release.pod("dataplane")).metadata.uid;
    const startedAt = Date.now();
    await release.upgrade({ logLevel: "trace" });
    await release.ready("node", nodeBefore);
    context.figure("upgraded after", secondsSince(startedAt), "s");
    const dataplane = await release.pod("dataplane");
    must(dataplane.metadata.uid === dataplaneBefore, "the upgrade replaced the dataplane's pod and so cut its volumes");
    await endLoad(context, load);
    must((await inPod(context, "load", "ls /data")) !== "", "the load's files are gone");
  },
};
