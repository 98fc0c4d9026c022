import { field, until, type KubeObject } from "./cluster.js";
import { endLoad, loadedPod } from "./faults.js";
import { claimBound, secondsSince } from "./pods.js";
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
    await volumeEvent(context, "Warning");
    context.figure("event after both went", secondsSince(bothDownAt), "s");
    await mend(context, first);
    await mend(context, second);
    const mendedAt = Date.now();
    await volumeEvent(context, "Normal");
    context.figure("event after return", secondsSince(mendedAt), "s");
    const described = await context.cluster.kubectl(["-n", context.namespace, "describe", "pvc", "load"]);
    must(described.includes(DRIVER), "kubectl describe pvc shows no event of the driver");
    await endLoad(context, load);
  },
};

export const nodeEvents: Scenario = {
  name: "events",
  title: "kubectl describe node says what a FUSE device does not survive",
  phase: "embedded",
  timeoutMs: 60_000,
  async run(context) {
    const { nodeName } = context.cluster.description;
    const event = await until(
      async () => {
        const events = await driverEvents(context, "default");
        return events.find((found) => isAbout(found, "Node", nodeName) && /fuse/i.test(noteOf(found)));
      },
      { what: "an event on the node about FUSE" },
    );
    context.progress(`${String(event["reason"])}: ${noteOf(event)}`);
    const described = await context.cluster.kubectl(["describe", "node", nodeName]);
    must(described.includes(String(event["reason"])), "kubectl describe node does not show it");
    context.figure("reason", String(event["reason"]));
  },
};

/** Where a volume's session is logged in; undefined while it is not. */
async function sessionPortal(context: ScenarioContext, handle: string): Promise<string | undefined> {
  const text = await context.release.inDataplane("hawserctl", "sessions", "-o", "json");
  const rows = JSON.parse(text) as readonly SessionRow[];
  return rows.find((row) => row.volumeHandle === handle && row.state === "LOGGED_IN")?.portal;
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

async function driverEvents(context: ScenarioContext, namespace: string): Promise<readonly KubeObject[]> {
  const events = await context.cluster.list("events.events.k8s.io", namespace);
  return events.filter((event) => event["reportingController"] === DRIVER);
}

function noteOf(event: KubeObject): string {
  const note = event["note"];
  return typeof note === "string" ? note : "";
}

function isAbout(event: KubeObject, kind: string, name: string): boolean {
  return field(event, "regarding", "kind") === kind && field(event, "regarding", "name") === name;
}

/** Waits for an event of this type on the claim of the load. */
async function volumeEvent(context: ScenarioContext, type: "Warning" | "Normal"): Promise<KubeObject> {
  const isWanted = (event: KubeObject): boolean =>
    isAbout(event, "PersistentVolumeClaim", "load") && event["type"] === type && /path|I\/O/i.test(noteOf(event));
  const event = await until(async () => (await driverEvents(context, context.namespace)).find(isWanted), {
    what: `a ${type} event on the claim about its paths`,
    timeoutMs: 60_000,
  });
  context.progress(`${String(event["reason"])}: ${noteOf(event)}`);
  return event;
}
