import { field, until, type KubeObject } from "./cluster.js";
import { endLoad, loadedPod } from "./faults.js";
import { claim, workPod } from "./objects.js";
import { claimBound, podReady, secondsSince } from "./pods.js";
import { must, type Scenario, type ScenarioContext } from "./scenario.js";
import { DRIVER } from "./release.js";

interface SessionRow {
  readonly volumeHandle: string;
  readonly portal: string;
  readonly state: string;
}

const LOAD_SECONDS = 90;

export const portalDown: Scenario = {
  name: "portal-down",
  title: "one of two portals down under load, then both: no I/O error, events say so",
  phase: "embedded",
  timeoutMs: 300_000,
  async run(context) {
    const load = await loadedPod(context, LOAD_SECONDS);
    const volume = await context.cluster.find("pv", await claimBound(context, "load"));
    const handle = String(field(volume, "spec", "csi", "volumeHandle"));
    const first = await sessionPortal(context, handle);
    const firstDownAt = Date.now();
    await cut(context, first);
    const second = await until(
      async () => {
        const portal = await sessionPortal(context, handle);
        return portal === first ? undefined : portal;
      },
      { what: `the session to leave ${first}`, timeoutMs: 60_000 },
    );
    context.figure("on the other portal after", secondsSince(firstDownAt), "s");
    const bothDownAt = Date.now();
    await cut(context, second);
    await claimEvent(context, "VolumeUnreachable");
    context.figure("event after both went", secondsSince(bothDownAt), "s");
    await mend(context, first);
    await mend(context, second);
    const mendedAt = Date.now();
    await claimEvent(context, "VolumeRestored");
    context.figure("event after return", secondsSince(mendedAt), "s");
    const described = await context.cluster.kubectl(["-n", context.namespace, "describe", "pvc", "load"]);
    must(described.includes("VolumeUnreachable"), "kubectl describe pvc does not show VolumeUnreachable");
    must(described.includes("VolumeRestored"), "kubectl describe pvc does not show VolumeRestored");
    await endLoad(context, load);
  },
};

export const nodeEvents: Scenario = {
  name: "events",
  title: "kubectl describe of node, claim and pod says that a FUSE device does not survive its dataplane",
  phase: "embedded",
  timeoutMs: 120_000,
  async run(context) {
    const { cluster, namespace } = context;
    const image = cluster.description.images.workload;
    await cluster.apply(
      claim({ namespace, name: "told", size: "64Mi" }),
      workPod({ namespace, name: "told", image, claimName: "told" }),
    );
    await podReady(context, "told");
    const { nodeName } = cluster.description;
    const shown: Record<string, readonly string[]> = {
      claim: ["-n", namespace, "describe", "pvc", "told"],
      pod: ["-n", namespace, "describe", "pod", "told"],
      node: ["describe", "node", nodeName],
    };
    for (const [object, args] of Object.entries(shown)) {
      const line = await until(async () => /.*VolumeNotRestartSafe.*/.exec(await cluster.kubectl(args))?.[0], {
        what: `VolumeNotRestartSafe on the ${object}`,
      });
      context.progress(line.trim().replace(/\s+/g, " "));
    }
  },
};

/** Where a volume's session is logged in; undefined while it is not. */
async function sessionPortal(context: ScenarioContext, handle: string): Promise<string | undefined> {
  const text = await context.release.inDataplane("hawserctl", "sessions", "-o", "json");
  const rows = JSON.parse(text) as readonly SessionRow[];
  return rows.find((row) => row.volumeHandle === handle && row.state === "ready")?.portal;
}

function rule(portal: string): readonly string[] {
  const [address = "", port = ""] = portal.split(":");
  // Before the address of the Service is rewritten to that of the pod.
  return ["-t", "raw", "OUTPUT", "-d", address, "-p", "tcp", "--dport", port, "-j", "DROP"];
}

function iptables(action: "-I" | "-D", portal: string): readonly string[] {
  const [table, name, chain, ...rest] = rule(portal) as [string, string, string, ...string[]];
  return ["iptables", table, name, action, chain, ...rest];
}

/** What is sent to the portal disappears from now on, as with a pulled cable: no reset tells anybody. */
async function cut(context: ScenarioContext, portal: string | undefined): Promise<void> {
  if (portal === undefined) throw new Error("the volume has no session to cut");
  await context.cluster.host(iptables("-I", portal));
  context.progress(`portal ${portal} unreachable`);
  context.cleanUp(() => context.cluster.host(iptables("-D", portal)).catch(() => undefined));
}

async function mend(context: ScenarioContext, portal: string | undefined): Promise<void> {
  if (portal === undefined) return;
  await context.cluster.host(iptables("-D", portal));
  context.progress(`portal ${portal} reachable`);
}

/** Waits for an event of the driver on the claim of the load. */
async function claimEvent(context: ScenarioContext, reason: string): Promise<void> {
  const isWanted = (event: KubeObject): boolean =>
    event["reportingController"] === DRIVER &&
    event["reason"] === reason &&
    field(event, "regarding", "kind") === "PersistentVolumeClaim" &&
    field(event, "regarding", "name") === "load";
  const event = await until(
    async () => (await context.cluster.list("events.events.k8s.io", context.namespace)).find(isWanted),
    { what: `event ${reason} on the claim`, timeoutMs: 60_000 },
  );
  context.progress(`${reason}: ${String(event["note"])}`);
}
