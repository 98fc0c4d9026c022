import { parseAllDocuments } from "yaml";
import { until, type Cluster, type KubeObject } from "./cluster.js";
import { isReady } from "./pods.js";
import { CLASSES } from "./objects.js";
import type { Phase } from "./scenario.js";

export const RELEASE = "hawser";
export const RELEASE_NAMESPACE = "hawser";
export const DRIVER = "csi.hawser.dev";
/** The embedded target's portals: two, so that one can fail alone. */
export const PORTS = [3260, 3261] as const;
/** Folder of the sandbox that holds the embedded target's volumes. */
export const STORE_DIRECTORY = "/var/lib/hawser-e2e-store";

/** The sidecars' most talkative level. */
const SIDECAR_LOG_LEVEL = 9;

export type Component = "controller" | "node" | "dataplane";
type Values = Readonly<Record<string, unknown>>;

/** The chart's release in the cluster, and its pods. */
export class Release {
  readonly #cluster: Cluster;
  readonly #chart: string;
  #values: Values = {};

  /** `chart`: folder of the chart. */
  constructor(cluster: Cluster, chart: string) {
    this.#cluster = cluster;
    this.#chart = chart;
  }

  /** Installs the chart and waits until every pod is ready. */
  async install(phase: Phase): Promise<void> {
    await this.#makeNamespace();
    const values = merge(commonValues(this.#cluster), phaseValues(phase));
    this.#values = merge(values, this.#cluster.description.helmValues);
    await this.#deploy("install");
  }

  /** `helm upgrade` with further values; waits until what is to be replaced is replaced. */
  async upgrade(values: Values): Promise<void> {
    this.#values = merge(this.#values, values);
    await this.#deploy("upgrade");
  }

  async uninstall(): Promise<void> {
    await this.#cluster.helm(["uninstall", RELEASE, "-n", RELEASE_NAMESPACE, "--wait", "--timeout", "3m"], {
      timeoutMs: 200_000,
    });
  }

  /** Runs the chart's own tests; returns what helm printed. */
  test(): Promise<string> {
    return this.#cluster.helm(["test", RELEASE, "-n", RELEASE_NAMESPACE, "--timeout", "3m"], {
      timeoutMs: 200_000,
    });
  }

  /** The objects of the release as they were sent to the API server, hooks left out. */
  async manifest(): Promise<readonly KubeObject[]> {
    const text = await this.#cluster.helm(["get", "manifest", RELEASE, "-n", RELEASE_NAMESPACE]);
    return parseAllDocuments(text).flatMap((document) => {
      const object = document.toJS() as KubeObject | null;
      return object === null ? [] : [object];
    });
  }

  /** Pods of a component that are not on their way out. */
  async pods(component: Component): Promise<readonly KubeObject[]> {
    const selector = `app.kubernetes.io/instance=${RELEASE},app.kubernetes.io/component=${component}`;
    const pods = await this.#cluster.list("pod", RELEASE_NAMESPACE, selector);
    return pods.filter((pod) => pod.metadata.deletionTimestamp === undefined);
  }

  /** The first pod of a component; rejects when there is none. */
  async pod(component: Component): Promise<KubeObject> {
    const [first] = await this.pods(component);
    if (first === undefined) throw new Error(`there is no pod of ${component} in namespace ${RELEASE_NAMESPACE}`);
    return first;
  }

  /** Waits until a component has a ready pod other than `previousUid`, and none that is not ready. */
  async ready(component: Component, previousUid?: string): Promise<KubeObject> {
    return until(
      async () => {
        const pods = await this.pods(component);
        const [first] = pods;
        return first !== undefined && pods.every(isReady) && first.metadata.uid !== previousUid ? first : undefined;
      },
      { what: `the ${component} pod to be ready`, timeoutMs: 120_000 },
    );
  }

  /** Deletes a pod without any grace, as a crash of its node's part does; returns its uid. */
  async kill(component: Component): Promise<string> {
    const { metadata } = await this.pod(component);
    await this.#cluster.kubectl([
      ...["-n", RELEASE_NAMESPACE, "delete", "pod", metadata.name, "--force", "--grace-period=0", "--wait=false"],
    ]);
    return metadata.uid ?? "";
  }

  /** Runs a program in the dataplane's container. */
  async inDataplane(...argv: readonly string[]): Promise<string> {
    const { metadata } = await this.pod("dataplane");
    return this.#cluster.kubectl([...["-n", RELEASE_NAMESPACE, "exec", metadata.name, "-c", "hawser", "--", ...argv]]);
  }

  async #deploy(verb: "install" | "upgrade"): Promise<void> {
    await this.#cluster.helm(
      [verb, RELEASE, this.#chart, "-n", RELEASE_NAMESPACE, "--wait", "--timeout", "4m", "--values", "-"],
      { input: JSON.stringify(this.#values), timeoutMs: 280_000 },
    );
    for (const component of ["controller", "node", "dataplane"] as const) await this.ready(component);
  }

  async #makeNamespace(): Promise<void> {
    // The node's pods are privileged; a cluster that enforces Pod Security has to be told.
    const labels = { "pod-security.kubernetes.io/enforce": "privileged" };
    const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: RELEASE_NAMESPACE, labels } };
    await this.#cluster.apply(namespace);
  }
}

function commonValues(cluster: Cluster): Values {
  const logLevel = SIDECAR_LOG_LEVEL;
  return {
    kubeletPath: cluster.description.kubeletPath,
    dataplane: { device: "fuse" },
    events: { enabled: true },
    tests: { image: cluster.description.images.workload },
    sidecars: { provisioner: { logLevel }, attacher: { logLevel }, resizer: { logLevel }, registrar: { logLevel } },
  };
}

function phaseValues(phase: Phase): Values {
  // Every PDU in the log: the hunt for secrets is to have something to read.
  if (phase === "static") return { logLevel: "trace" };
  return {
    storage: { enabled: true, hostPath: STORE_DIRECTORY, ports: PORTS },
    storageClasses: [
      { name: CLASSES.ext4, fsType: "ext4", volumeBindingMode: "WaitForFirstConsumer" },
      { name: CLASSES.xfs, fsType: "xfs", volumeBindingMode: "WaitForFirstConsumer" },
      { name: CLASSES.immediate, fsType: "ext4", volumeBindingMode: "Immediate" },
    ],
    // Not storageCapacity: csi-provisioner 6.3.0 takes the capacity objects of a driver without topology for obsolete
    // and deletes them as soon as they are made, and the scheduler waits for them.
    tests: { storageClass: CLASSES.ext4 },
  };
}

/** Maps are merged, everything else is replaced. */
export function merge(base: Values, over: Values): Values {
  const merged: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const standing = merged[key];
    merged[key] = isMap(standing) && isMap(value) ? merge(standing, value) : value;
  }
  return merged;
}

function isMap(value: unknown): value is Values {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
