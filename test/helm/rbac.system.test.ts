import {
  asList,
  at,
  describeWithHelm,
  HELM_TIMEOUT_MS,
  helmProgram,
  type Json,
  type JsonMap,
  render,
  type Rendered,
  textOf,
} from "../support/helm.js";

/** `GROUP/RESOURCE: VERBS`, with the names in brackets where a rule is for those alone; core is the empty group. */
function rulesOf(role: JsonMap | undefined): readonly string[] {
  return asList(role?.["rules"]).flatMap((rule) => {
    const list = (name: string): readonly string[] => asList(at(rule, name)).map(textOf);
    const names = list("resourceNames");
    return list("apiGroups").flatMap((group) =>
      list("resources").map((resource) => {
        const only = names.length === 0 ? "" : ` [${names.join(" ")}]`;
        return `${group}/${resource}${only}: ${list("verbs").join(" ")}`;
      }),
    );
  });
}

/** Every rule of the chart, by role, in the order of the objects. */
function allRules(rendered: Rendered): Readonly<Record<string, readonly string[]>> {
  const roles = [...rendered.ofKind("ClusterRole"), ...rendered.ofKind("Role")];
  return Object.fromEntries(
    roles.map((role) => {
      const namespace = at(role, "metadata.namespace");
      const place = namespace === undefined ? "" : `${textOf(namespace)}/`;
      return [`${textOf(role["kind"])} ${place}${textOf(at(role, "metadata.name"))}`, [...rulesOf(role)].sort()];
    }),
  );
}

const NODE_RULES = ["events.k8s.io/events: create patch"];
const ATTACHER = [
  "/persistentvolumes: list watch patch",
  "storage.k8s.io/csinodes: list watch",
  "storage.k8s.io/volumeattachments/status: patch",
  "storage.k8s.io/volumeattachments: list watch patch",
];
const STORAGE = [
  "/events: create patch",
  "/persistentvolumeclaims/status: patch",
  "/persistentvolumeclaims: list watch",
  "/persistentvolumes: list watch patch create delete",
  ...ATTACHER.slice(1),
  "storage.k8s.io/storageclasses: list watch",
];
const CAPACITY = [
  "/pods: get",
  "apps/replicasets: get",
  "storage.k8s.io/csistoragecapacities: list watch create update delete",
];
const elected = (...leases: readonly string[]): readonly string[] => [
  "/events: create patch",
  `coordination.k8s.io/leases [${leases.join(" ")}]: get update`,
];
const CLASS = (secrets: Json): JsonMap => ({ name: "a", secrets });
const SNAPSHOTTER = [
  "snapshot.storage.k8s.io/volumesnapshotclasses: list watch",
  "snapshot.storage.k8s.io/volumesnapshotcontents/status: update patch",
  "snapshot.storage.k8s.io/volumesnapshotcontents: get list watch patch",
];

interface Case {
  readonly title: string;
  readonly values: JsonMap;
  readonly rules: Readonly<Record<string, readonly string[]>>;
}

const storage = { "storage.enabled": true };
const CLUSTER = "ClusterRole hawser-controller";
const OWN = "Role hawser/hawser-controller";
const OF_NODE = { "ClusterRole hawser-node": NODE_RULES };

const cases: readonly Case[] = [
  {
    title: "as installed",
    values: {},
    rules: { [CLUSTER]: ATTACHER, ...OF_NODE, [OWN]: elected("external-attacher-leader-csi-hawser-dev") },
  },
  {
    title: "without events: nothing for nodes",
    values: { "events.enabled": false },
    rules: { [CLUSTER]: ATTACHER, [OWN]: elected("external-attacher-leader-csi-hawser-dev") },
  },
  { title: "trial storage: one pod, no election", values: storage, rules: { [CLUSTER]: STORAGE, ...OF_NODE } },
  {
    title: "one replica that overlaps with its successor: election",
    values: { "controller.replicaCount": 1 },
    rules: { [CLUSTER]: ATTACHER, ...OF_NODE, [OWN]: elected("external-attacher-leader-csi-hawser-dev") },
  },
  {
    title: "capacity",
    values: { ...storage, "storageCapacity.enabled": true },
    rules: { [CLUSTER]: [...STORAGE, "/nodes: list watch"], ...OF_NODE, [OWN]: CAPACITY },
  },
  {
    title: "trial storage without provisioner and resizer",
    values: { ...storage, "sidecars.provisioner.enabled": false, "sidecars.resizer.enabled": false },
    rules: { [CLUSTER]: ATTACHER, ...OF_NODE },
  },
  {
    title: "the resizer alone",
    values: { ...storage, "sidecars.provisioner.enabled": false, "sidecars.attacher.enabled": false },
    rules: {
      [CLUSTER]: [
        "/events: create patch",
        "/persistentvolumeclaims/status: patch",
        "/persistentvolumeclaims: list watch",
        "/persistentvolumes: list watch patch",
      ],
      ...OF_NODE,
    },
  },
  {
    title: "the provisioner alone",
    values: { ...storage, "sidecars.resizer.enabled": false, "sidecars.attacher.enabled": false },
    rules: {
      [CLUSTER]: [
        "/events: create patch",
        "/persistentvolumeclaims: list watch",
        "/persistentvolumes: list watch patch create delete",
        "storage.k8s.io/storageclasses: list watch",
        "storage.k8s.io/volumeattachments: list watch",
      ],
      ...OF_NODE,
    },
  },
  {
    title: "snapshots",
    values: { ...storage, "sidecars.snapshotter.enabled": true },
    rules: {
      [CLUSTER]: [...STORAGE, ...SNAPSHOTTER, "snapshot.storage.k8s.io/volumesnapshots: get list watch update"],
      ...OF_NODE,
    },
  },
  {
    title: "classes that change volumes",
    values: { ...storage, volumeAttributesClasses: [{ name: "a", parameters: { b: "c" } }] },
    rules: { [CLUSTER]: [...STORAGE, "storage.k8s.io/volumeattributesclasses: get list watch"], ...OF_NODE },
  },
  {
    title: "the health monitor",
    values: { "sidecars.healthMonitor.enabled": true, "sidecars.attacher.enabled": false },
    rules: {
      [CLUSTER]: [
        "/events: create patch",
        "/persistentvolumeclaims: list watch",
        "/persistentvolumes: list watch",
        "/pods: list watch",
      ],
      ...OF_NODE,
      [OWN]: elected("external-health-monitor-leader-csi-hawser-dev"),
    },
  },
  {
    title: "secrets of nodes: nothing, the kubelet reads them",
    values: { ...storage, storageClasses: [CLASS({ nodeStage: { name: "chap", namespace: "vault" } })] },
    rules: { [CLUSTER]: STORAGE, ...OF_NODE },
  },
  {
    title: "secrets of the controller with fixed names: those, there",
    values: {
      ...storage,
      storageClasses: [
        CLASS({
          provisioner: { name: "api", namespace: "vault" },
          controllerPublish: { name: "api", namespace: "vault" },
          controllerExpand: { name: "grow", namespace: "other" },
        }),
      ],
    },
    rules: {
      [CLUSTER]: STORAGE,
      ...OF_NODE,
      "Role vault/hawser-controller-secrets": ["/secrets [api]: get"],
      "Role other/hawser-controller-secrets": ["/secrets [grow]: get"],
    },
  },
  {
    title: "secrets with templates: a namespace's, or all",
    values: {
      ...storage,
      storageClasses: [
        CLASS({
          provisioner: { name: "${pvc.name}", namespace: "vault" },
          controllerExpand: { name: "grow", namespace: "${pvc.namespace}" },
        }),
      ],
    },
    rules: {
      [CLUSTER]: [...STORAGE, "/secrets: get"],
      ...OF_NODE,
      "Role vault/hawser-controller-secrets": ["/secrets: get"],
    },
  },
];

describeWithHelm("permissions", () => {
  beforeAll(() => void helmProgram(), HELM_TIMEOUT_MS);

  it.each(cases.map((item) => [item.title, item] as const))("%s", async (_title, { values, rules }) => {
    const sorted = Object.fromEntries(Object.entries(rules).map(([role, list]) => [role, [...list].sort()]));
    expect(allRules(await render({ values }))).toEqual(sorted);
  });

  it("binds every role to one account of its own component", async () => {
    const rendered = await render({ values: { ...storage, "storageCapacity.enabled": true } });
    const bindings = [...rendered.ofKind("ClusterRoleBinding"), ...rendered.ofKind("RoleBinding")];
    const bound = bindings.map((binding) => [
      `${textOf(at(binding, "roleRef.kind"))}/${textOf(at(binding, "roleRef.name"))}`,
      asList(binding["subjects"]),
    ]);
    const account = (name: string): JsonMap => ({ kind: "ServiceAccount", name, namespace: "hawser" });
    expect(bound).toEqual([
      ["ClusterRole/hawser-controller", [account("hawser-controller")]],
      ["ClusterRole/hawser-node", [account("hawser-node")]],
      ["Role/hawser-controller", [account("hawser-controller")]],
    ]);
  });

  it("makes a lease for every sidecar that elects, and for no other", async () => {
    const names = async (values: JsonMap): Promise<readonly string[]> =>
      (await render({ values })).ofKind("Lease").map((lease) => textOf(at(lease, "metadata.name")));
    expect(await names({})).toEqual(["external-attacher-leader-csi-hawser-dev"]);
    expect(await names(storage)).toEqual([]);
    expect(await names({ "sidecars.snapshotter.enabled": true, "sidecars.attacher.enabled": false })).toEqual([
      "external-snapshotter-leader-csi-hawser-dev",
    ]);
  });
});
