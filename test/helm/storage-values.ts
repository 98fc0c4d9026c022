import { container, CONTROLLER, DRIVER, flag, POD, type ValueGroup } from "./value-rows.js";

const STORAGE = { "storage.enabled": true };
const TARGET = "Service/hawser-target";
const CLAIM = "PersistentVolumeClaim/hawser-store";
const CLASS = { name: "block" };
const SNAPSHOTS = "snapshot.storage.k8s.io/v1/VolumeSnapshotClass";
const TEST_CLAIM = "PersistentVolumeClaim/hawser-test";
const WRITER = "Pod/hawser-test-write";

const storage: readonly ValueGroup[] = [
  {
    title: "storage.enabled",
    rows: [
      ["storage.enabled", true, CONTROLLER, flag("hawser", "--backend"), "embedded"],
      ["storage.enabled", true, CONTROLLER, flag("hawser", "--store"), "file:/store"],
      ["storage.enabled", true, CONTROLLER, "spec.replicas", 1],
      ["storage.enabled", true, CONTROLLER, "spec.strategy", { type: "Recreate" }],
      ["storage.enabled", true, CONTROLLER, flag("hawser", "--advertise"), "$(HAWSER_TARGET_SERVICE_HOST):3260"],
      ["storage.enabled", true, CONTROLLER, `${POD}.enableServiceLinks`, true],
      ["storage.enabled", true, CLAIM, 'metadata.annotations["helm.sh/resource-policy"]', "keep"],
      ["storage.enabled", true, "PodDisruptionBudget/hawser-controller", "kind", undefined],
    ],
  },
  {
    title: "storage: where the volumes are",
    given: STORAGE,
    rows: [
      ["storage.persistence.storageClass", "fast", CLAIM, "spec.storageClassName", "fast"],
      ["storage.persistence.accessMode", "ReadWriteMany", CLAIM, "spec.accessModes", ["ReadWriteMany"]],
      ["storage.persistence.size", "2Ti", CLAIM, "spec.resources.requests.storage", "2Ti"],
      ["storage.persistence.annotations", { a: "b" }, CLAIM, "metadata.annotations.a", "b"],
      ["storage.ports", [3260, 3261], CONTROLLER, flag("hawser", "--portal"), ["0.0.0.0:3260", "0.0.0.0:3261"]],
      ["storage.ports", [3260, 3261], TARGET, "spec.ports[name=iscsi-3261].port", 3261],
      [
        "storage.advertise",
        ["10.0.0.1:3260", "10.0.0.2:3260"],
        CONTROLLER,
        flag("hawser", "--advertise"),
        ["10.0.0.1:3260", "10.0.0.2:3260"],
      ],
      ["storage.service.type", "LoadBalancer", TARGET, "spec.type", "LoadBalancer"],
      ["storage.service.annotations", { a: "b" }, TARGET, "metadata.annotations.a", "b"],
    ],
  },
  {
    title: "storage.ipFamily",
    given: STORAGE,
    rows: [
      ["storage.ipFamily", "IPv6", TARGET, "spec.ipFamilies", ["IPv6"]],
      ["storage.ipFamily", "IPv6", CONTROLLER, flag("hawser", "--portal"), "[::]:3260"],
      ["storage.ipFamily", "IPv6", CONTROLLER, flag("hawser", "--advertise"), "[$(HAWSER_TARGET_SERVICE_HOST)]:3260"],
    ],
  },
  {
    title: "storage.hostPath",
    given: STORAGE,
    rows: [
      ["storage.hostPath", "/srv/v", CONTROLLER, `${POD}.volumes[name=store].hostPath.path`, "/srv/v"],
      ["storage.hostPath", "/srv/v", CONTROLLER, `${POD}.securityContext.runAsUser`, 0],
      ["storage.hostPath", "/srv/v", CLAIM, "kind", undefined],
    ],
  },
  {
    title: "storage.persistence.existingClaim",
    given: STORAGE,
    rows: [
      [
        "storage.persistence.existingClaim",
        "mine",
        CONTROLLER,
        `${POD}.volumes[name=store].persistentVolumeClaim.claimName`,
        "mine",
      ],
      ["storage.persistence.existingClaim", "mine", CLAIM, "kind", undefined],
    ],
  },
  {
    title: "storageCapacity",
    given: STORAGE,
    rows: [
      ["storageCapacity.enabled", true, DRIVER, "spec.storageCapacity", true],
      ["storageCapacity.enabled", true, CONTROLLER, flag("provisioner", "--enable-capacity"), true],
      [
        "storageCapacity.enabled",
        true,
        CONTROLLER,
        `${container("provisioner")}.env[name=NAMESPACE].valueFrom.fieldRef.fieldPath`,
        "metadata.namespace",
      ],
      ["storageCapacity.pollInterval", "5m", CONTROLLER, flag("provisioner", "--capacity-poll-interval"), "5m"],
    ],
  },
];

const classes: readonly ValueGroup[] = [
  {
    title: "storageClasses",
    rows: [["storageClasses", [CLASS], "StorageClass/block", "provisioner", "csi.hawser.dev"]],
  },
  {
    title: "volumeSnapshotClasses",
    given: { "sidecars.snapshotter.enabled": true },
    apiVersions: [SNAPSHOTS],
    rows: [["volumeSnapshotClasses", [CLASS], "VolumeSnapshotClass/block", "driver", "csi.hawser.dev"]],
  },
  {
    title: "volumeAttributesClasses",
    rows: [
      [
        "volumeAttributesClasses",
        [{ ...CLASS, parameters: { a: "b" } }],
        "VolumeAttributesClass/block",
        "driverName",
        "csi.hawser.dev",
      ],
    ],
  },
];

const policies: readonly ValueGroup[] = [
  {
    title: "networkPolicy.enabled",
    rows: [["networkPolicy.enabled", true, "NetworkPolicy/hawser-node", "spec.policyTypes", ["Ingress", "Egress"]]],
  },
  {
    title: "networkPolicy: addresses",
    given: { ...STORAGE, "networkPolicy.enabled": true },
    rows: [
      [
        "networkPolicy.apiServer.cidrs",
        ["10.0.0.1/32"],
        "NetworkPolicy/hawser-node",
        "spec.egress.0.to.0.ipBlock.cidr",
        "10.0.0.1/32",
      ],
      ["networkPolicy.apiServer.ports", [7443], "NetworkPolicy/hawser-node", "spec.egress.0.ports.0.port", 7443],
      [
        "networkPolicy.storageClients",
        ["10.1.0.0/16"],
        "NetworkPolicy/hawser-controller",
        "spec.ingress.1.from.0.ipBlock.cidr",
        "10.1.0.0/16",
      ],
    ],
  },
];

const tests: readonly ValueGroup[] = [
  {
    title: "tests",
    given: { ...STORAGE, storageClasses: [CLASS] },
    rows: [
      ["tests.image", "mirror/busybox:1", WRITER, "spec.containers[name=write].image", "mirror/busybox:1"],
      ["tests.storageClass", "other", TEST_CLAIM, "spec.storageClassName", "other"],
      ["tests.size", "1Gi", TEST_CLAIM, "spec.resources.requests.storage", "1Gi"],
    ],
  },
  {
    title: "tests.enabled",
    given: { ...STORAGE, storageClasses: [CLASS] },
    rows: [["tests.enabled", false, WRITER, "kind", undefined]],
  },
  {
    title: "tests.existingClaim",
    given: { ...STORAGE, storageClasses: [CLASS] },
    rows: [
      ["tests.existingClaim", "mine", WRITER, "spec.volumes[name=volume].persistentVolumeClaim.claimName", "mine"],
      ["tests.existingClaim", "mine", TEST_CLAIM, "kind", undefined],
    ],
  },
];

/** Trial storage, classes, network policies, helm test. */
export const STORAGE_GROUPS: readonly ValueGroup[] = [...storage, ...classes, ...policies, ...tests];
