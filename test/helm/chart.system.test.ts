import {
  at,
  CHART,
  describeWithHelm,
  helm,
  HELM_TIMEOUT_MS,
  helmProgram,
  type JsonMap,
  notes,
  refusal,
  render,
  textOf,
} from "../support/helm.js";

const SNAPSHOTS = "snapshot.storage.k8s.io/v1/VolumeSnapshotClass";
const storage: JsonMap = { "storage.enabled": true };

describeWithHelm("the chart", () => {
  beforeAll(() => void helmProgram(), HELM_TIMEOUT_MS);

  it.each<[title: string, values: readonly string[]]>([
    ["as installed", []],
    ["trial storage", ["storage.enabled=true", "storageCapacity.enabled=true", "storageClasses[0].name=a"]],
    ["fuse, built in", ["dataplane.device=fuse", "node.registrar.mode=builtin", "node.livenessProbe.mode=builtin"]],
    ["confined", ["networkPolicy.enabled=true", "openshift.enabled=true", "events.enabled=false"]],
  ])("passes helm lint: %s", async (_title, values) => {
    const set = values.flatMap((value) => ["--set", value]);
    expect(await helm(["lint", "--strict", "--kube-version", "1.37.0", CHART, ...set])).toContain("0 chart(s) failed");
  });

  it.each<[title: string, options: Parameters<typeof refusal>[0], says: string]>([
    ["an old cluster", { kubeVersion: "1.25.0" }, "chart requires kubeVersion: >=1.26.0-0"],
    [
      "capacity that nobody publishes",
      { values: { "storageCapacity.enabled": true } },
      "it needs storage.enabled and sidecars.provisioner.enabled",
    ],
    [
      "capacity without the provisioner",
      { values: { ...storage, "storageCapacity.enabled": true, "sidecars.provisioner.enabled": false } },
      "nothing publishes capacities",
    ],
    [
      "registration that an old kubelet cannot call",
      { kubeVersion: "1.28.15", values: { "node.registrar.mode": "builtin" } },
      "Kubernetes v1.28.15 cannot call a socket served by Node.js (1.29 can): set it to sidecar",
    ],
    [
      "a field the cluster does not know",
      { kubeVersion: "1.32.4", values: { "csiDriver.nodeAllocatableUpdatePeriodSeconds": 60 } },
      "Kubernetes v1.32.4 does not know it (1.33 does): set it to 0",
    ],
    [
      "snapshot classes without their CRD",
      { values: { volumeSnapshotClasses: [{ name: "a" }], "sidecars.snapshotter.enabled": true } },
      "install the CRDs of external-snapshotter first",
    ],
    [
      "snapshot classes without a snapshotter",
      { values: { volumeSnapshotClasses: [{ name: "a" }] }, apiVersions: [SNAPSHOTS] },
      "set sidecars.snapshotter.enabled",
    ],
    [
      "attributes classes before their time",
      { kubeVersion: "1.33.0", values: { volumeAttributesClasses: [{ name: "a", parameters: { b: "c" } }] } },
      "the cluster does not know storage.k8s.io VolumeAttributesClass",
    ],
    [
      "two places for the volumes",
      { values: { ...storage, "storage.hostPath": "/a", "storage.persistence.existingClaim": "b" } },
      "empty one of them",
    ],
    [
      "two default classes",
      {
        values: {
          storageClasses: [
            { name: "a", isDefault: true },
            { name: "b", isDefault: true },
          ],
        },
      },
      "storageClasses a, b are all isDefault",
    ],
    [
      "an account without a name",
      { values: { "node.serviceAccount.create": false } },
      "name an existing one in node.serviceAccount.name",
    ],
  ])("refuses %s, with a remedy", async (_title, options, says) => {
    expect(await refusal(options)).toContain(says);
  });

  it("takes the beta of attributes classes where the cluster has it", async () => {
    const rendered = await render({
      kubeVersion: "1.33.0",
      apiVersions: ["storage.k8s.io/v1beta1/VolumeAttributesClass"],
      values: { volumeAttributesClasses: [{ name: "a", parameters: { b: "c" } }] },
    });
    expect(rendered.at("VolumeAttributesClass/a", "apiVersion")).toBe("storage.k8s.io/v1beta1");
  });

  it("leaves out what an old cluster does not know", async () => {
    const rendered = await render({ kubeVersion: "1.26.0" });
    expect(rendered.at("CSIDriver/csi.hawser.dev", "spec")).toEqual({
      attachRequired: true,
      podInfoOnMount: true,
      fsGroupPolicy: "File",
      seLinuxMount: true,
      storageCapacity: false,
      requiresRepublish: false,
      volumeLifecycleModes: ["Persistent"],
    });
  });

  it("names objects after the release", async () => {
    const rendered = await render({ release: "blue", namespace: "other" });
    expect(rendered.at("Deployment/blue-hawser-controller", "metadata.namespace")).toBe("other");
    const long = await render({ release: "a".repeat(53), values: storage });
    const names = long.objects.map((object) => textOf(at(object, "metadata.name")));
    expect(names.filter((name) => name.length > 63)).toEqual([]);
  });

  it("renders a StorageClass with all it can have", async () => {
    const rendered = await render({
      values: {
        storageClasses: [
          {
            name: "all",
            isDefault: true,
            annotations: { a: "b" },
            labels: { c: "d" },
            fsType: "xfs",
            parameters: { blockSize: "4096" },
            reclaimPolicy: "Retain",
            volumeBindingMode: "Immediate",
            allowVolumeExpansion: false,
            mountOptions: ["noatime"],
            secrets: { nodeStage: { name: "${pvc.name}", namespace: "${pvc.namespace}" } },
          },
          { name: "plain" },
        ],
      },
    });
    expect(rendered.find("StorageClass/all")).toMatchObject({
      metadata: { annotations: { a: "b", "storageclass.kubernetes.io/is-default-class": "true" }, labels: { c: "d" } },
      reclaimPolicy: "Retain",
      volumeBindingMode: "Immediate",
      allowVolumeExpansion: false,
      mountOptions: ["noatime"],
      parameters: {
        "csi.storage.k8s.io/fstype": "xfs",
        "csi.storage.k8s.io/node-stage-secret-name": "${pvc.name}",
        "csi.storage.k8s.io/node-stage-secret-namespace": "${pvc.namespace}",
        blockSize: "4096",
      },
    });
    expect(rendered.find("StorageClass/plain")).toMatchObject({
      reclaimPolicy: "Delete",
      volumeBindingMode: "WaitForFirstConsumer",
      allowVolumeExpansion: true,
      parameters: { "csi.storage.k8s.io/fstype": "ext4" },
    });
    expect(rendered.at("StorageClass/plain", "metadata.annotations")).toBeUndefined();
  });

  it("renders a VolumeSnapshotClass with its secret", async () => {
    const rendered = await render({
      apiVersions: [SNAPSHOTS],
      values: {
        "sidecars.snapshotter.enabled": true,
        volumeSnapshotClasses: [
          {
            name: "a",
            isDefault: true,
            deletionPolicy: "Retain",
            secrets: { snapshotter: { name: "s", namespace: "n" } },
          },
        ],
      },
    });
    expect(rendered.find("VolumeSnapshotClass/a")).toMatchObject({
      metadata: { annotations: { "snapshot.storage.kubernetes.io/is-default-class": "true" } },
      deletionPolicy: "Retain",
      parameters: {
        "csi.storage.k8s.io/snapshotter-secret-name": "s",
        "csi.storage.k8s.io/snapshotter-secret-namespace": "n",
      },
    });
  });

  it("tests with two pods, one after the other, that leave nothing", async () => {
    const rendered = await render({ values: { ...storage, storageClasses: [{ name: "block" }] } });
    const hooks = rendered.objects
      .map((object) => object["metadata"] as JsonMap)
      .map(({ name, annotations }) => ({ name, annotations: (annotations ?? {}) as JsonMap }))
      .filter(({ annotations }) => annotations["helm.sh/hook"] === "test")
      .sort((a, b) => Number(a.annotations["helm.sh/hook-weight"]) - Number(b.annotations["helm.sh/hook-weight"]));
    expect(hooks.map(({ name }) => name)).toEqual(["hawser-test", "hawser-test-write", "hawser-test-read"]);
    const policies = new Set(hooks.map(({ annotations }) => annotations["helm.sh/hook-delete-policy"]));
    expect([...policies]).toEqual(["before-hook-creation,hook-succeeded"]);
  });

  it("has no test where nothing could be tested", async () => {
    expect((await render()).ofKind("Pod")).toEqual([]);
    expect((await render({ values: { storageClasses: [{ name: "block" }] } })).ofKind("Pod")).toEqual([]);
  });
});

describeWithHelm("what an installation says", () => {
  beforeAll(() => void helmProgram(), HELM_TIMEOUT_MS);

  it.each<[title: string, values: JsonMap, says: readonly RegExp[], not: readonly RegExp[]]>([
    [
      "as installed",
      {},
      [
        /no nbd module: set dataplane\.device=fuse/,
        /deploy\/examples\/static-pv\.yaml/,
        /An upgrade never replaces/,
        /hawserctl volumes/,
      ],
      [/WARNING/, /helm test/],
    ],
    ["without loading the module", { "dataplane.loadModule": false }, [/\/etc\/modules-load\.d/], [/init container/]],
    ["fuse", { "dataplane.device": "fuse" }, [/WARNING: .* do not survive a restart/], [/nbd module/]],
    ["auto", { "dataplane.device": "auto" }, [/unless the node uses nbd/], []],
    [
      "trial without a class",
      storage,
      [/There is no StorageClass yet/, /storageClassName: hawser/, /claim hawser-store/],
      [/helm test/],
    ],
    [
      "trial with a class",
      { ...storage, "storage.hostPath": "/srv/v", storageClasses: [{ name: "block" }] },
      [
        /storageClassName: block/,
        /from \/srv\/v of the controller's node/,
        /helm test hawser --namespace hawser/,
        /nothing keeps the controller on one node/,
      ],
      [/There is no StorageClass/],
    ],
    [
      "trial in a folder of a chosen node",
      { ...storage, "storage.hostPath": "/srv/v", "controller.nodeSelector": { "kubernetes.io/hostname": "a" } },
      [/from \/srv\/v of the controller's node/],
      [/nothing keeps the controller/],
    ],
    ["rolling dataplane", { "dataplane.updateStrategy.type": "RollingUpdate" }, [], [/An upgrade never replaces/]],
  ])("%s", async (_title, values, says, not) => {
    const text = await notes(values);
    expect(text).toContain("is installed in namespace hawser");
    for (const pattern of says) expect(text).toMatch(pattern);
    for (const pattern of not) expect(text).not.toMatch(pattern);
  });
});
