import { cgroupProcesses } from "../cluster/cgroups.js";
import { sandboxLoopDevices, stillAttached, type LoopDevice } from "../cluster/loop-devices.js";
import { field, until, type Cluster } from "../scenarios/cluster.js";
import { DRIVER, PORTS, RELEASE, RELEASE_NAMESPACE } from "../scenarios/release.js";

/**
 * The loop devices of the cluster. The machine shows those of everybody, and once its file system is gone nothing tells
 * whose a device was: so note them while they are in use.
 */
export class LoopDeviceWatch {
  readonly #seen = new Map<string, LoopDevice>();

  /** Notes the devices that stand on something only this cluster's processes see. */
  async note(): Promise<void> {
    for (const device of await sandboxLoopDevices(await cgroupProcesses())) {
      this.#seen.set(`${device.name} ${device["back-maj:min"]}`, device);
    }
  }

  /** Names of noted devices that are still attached to what they stood on. */
  async left(cluster: Cluster): Promise<readonly string[]> {
    const noted = [...this.#seen.values()];
    const attached = await stillAttached(noted);
    const list = await cluster.host(["losetup", "--list", "--noheadings", "--raw", "--output", "NAME,BACK-FILE"]);
    const files = new Map(lines(list).map((line) => line.split(" ", 2) as [string, string]));
    // Numbers of devices and file systems are used again, by other clusters of the machine too; names of folders not.
    const isOther = (name: string): boolean => {
      const file = files.get(name) ?? "";
      return file.startsWith("/run/hawser/") && noted.every((device) => device["back-file"] !== file);
    };
    return attached.filter((name) => !isOther(name));
  }
}

/** What a node keeps after an uninstall, so that it is the same initiator when the driver comes back. */
const KEPT_FILES = ["node.key", "initiator.json", "dataplane.lock"].map((name) => `/var/lib/hawser/${name}`);
/** What is remembered of volumes that were detached: which disk each was, and that it has a file system. */
const KEPT_RECORDS = "/var/lib/hawser/volumes/";

export interface Leftovers {
  /** What must not be there. */
  readonly found: readonly string[];
  /** What stays on the node on purpose. */
  readonly kept: readonly string[];
}

/** Waits until nothing of the release is left in the cluster and on the node; says what still is when time is up. */
export async function leftoversAfterUninstall(cluster: Cluster, loops: LoopDeviceWatch): Promise<Leftovers> {
  let last: readonly string[] = [];
  try {
    await until(
      async () => {
        last = [
          ...(await objects(cluster)),
          ...(await onNode(cluster)),
          ...(await loops.left(cluster)).map((name) => `loop device ${name}`),
        ];
        return last.length === 0 ? true : undefined;
      },
      { what: "the release to be gone", timeoutMs: 60_000, intervalMs: 2000 },
    );
  } catch (error) {
    if (last.length === 0) throw error;
  }
  const { kept, strangers } = await stateFiles(cluster);
  return { found: [...last, ...strangers.map((path) => `file ${path}`)], kept };
}

/** The files of the state folder: those that stay on purpose, and others. */
async function stateFiles(cluster: Cluster): Promise<{ kept: readonly string[]; strangers: readonly string[] }> {
  const files = lines(await cluster.host(["sh", "-c", "find /var/lib/hawser -type f 2>/dev/null; true"]));
  const detached = lines(
    await cluster.host(["sh", "-c", `grep -ls '"phase": "detached"' ${KEPT_RECORDS}*.json; true`]),
  );
  const names = files.filter((path) => KEPT_FILES.includes(path)).sort();
  const records = detached.length === 0 ? [] : [`${detached.length} records of detached volumes`];
  const strangers = files.filter((path) => !KEPT_FILES.includes(path) && !detached.includes(path));
  return { kept: [...names, ...records], strangers };
}

/** Objects of any kind that carry the release's label, the driver's name, or stand in its namespace. */
async function objects(cluster: Cluster): Promise<readonly string[]> {
  const types = (await cluster.kubectl(["api-resources", "--verbs=list", "-o", "name"])).trim().split("\n");
  const searched = types.filter((type) => !type.startsWith("events"));
  const kinds = searched.join(",");
  const labelled = await cluster.kubectl([
    ...["get", kinds, "-A", "-l", `app.kubernetes.io/instance=${RELEASE}`, "-o", "name", "--ignore-not-found"],
  ]);
  const listed = JSON.parse(await cluster.kubectl(["get", kinds, "-A", "-o", "json"])) as {
    readonly items: readonly {
      readonly kind: string;
      readonly metadata: { readonly name: string; namespace?: string };
    }[];
  };
  const named = listed.items.filter((item) => isOfDriver(item));
  return [
    ...lines(labelled).map((name) => `object ${name}`),
    ...named.map(({ kind, metadata }) => `object ${kind} ${metadata.namespace ?? ""}/${metadata.name}`),
  ];
}

/** Made by Kubernetes in every namespace. */
const OF_EVERY_NAMESPACE = ["ConfigMap/kube-root-ca.crt", "ServiceAccount/default"];

function isOfDriver(item: { readonly kind: string; readonly metadata: { name: string; namespace?: string } }): boolean {
  const { kind, metadata } = item;
  if (metadata.namespace === RELEASE_NAMESPACE) return !OF_EVERY_NAMESPACE.includes(`${kind}/${metadata.name}`);
  if (kind === "Node") return field(item, "metadata", "annotations") !== undefined && nodeNames(item);
  return JSON.stringify(item).includes(DRIVER);
}

/** The annotation with the driver's node id, and volumes in use. */
function nodeNames(item: object): boolean {
  const annotations = JSON.stringify(field(item, "metadata", "annotations") ?? {});
  const volumes = JSON.stringify(field(item, "status", "volumesInUse") ?? []);
  return annotations.includes(DRIVER) || volumes.includes(DRIVER);
}

/** Mounts, devices, sessions, processes, sockets. */
async function onNode(cluster: Cluster): Promise<readonly string[]> {
  const ports = PORTS.map((port) => `dport = :${port}`).join(" or ");
  const { kubeletPath } = cluster.description;
  const looks: readonly (readonly [string, string])[] = [
    ["mount", `grep -E '${DRIVER}|/run/hawser|nbdfuse' /proc/self/mountinfo | cut -d' ' -f5`],
    ["iSCSI session", `ss -Htn state established '( ${ports} )'`],
    ["file", "find /run/hawser -mindepth 1 2>/dev/null"],
    [
      "file",
      `find ${kubeletPath}/plugins_registry ${kubeletPath}/plugins/${DRIVER} -mindepth 1 -name '*sock*' 2>/dev/null | grep hawser`,
    ],
    ["process", "pgrep -af 'hawser (node|dataplane|controller)|nbdfuse'"],
  ];
  const answers = await Promise.all(
    looks.map(async ([what, script]) => {
      const text = await cluster.host(["sh", "-c", `{ ${script}; } || true`]);
      return lines(text)
        .filter((line) => !line.includes("pgrep"))
        .map((line) => `${what} ${line}`);
    }),
  );
  return answers.flat();
}

function lines(text: string): readonly string[] {
  return text.split("\n").filter((line) => line.trim() !== "");
}
