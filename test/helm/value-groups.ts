import { STORAGE_GROUPS } from "./storage-values.js";
import {
  accountGroups,
  componentRows,
  container,
  CONTROLLER,
  DATAPLANE,
  DRIVER,
  flag,
  NODE,
  POD,
  probeGroups,
  type ValueGroup,
} from "./value-rows.js";

const HAWSER = container("hawser");
const DIGEST = `sha256:${"cd".repeat(32)}`;
const PROFILE = { type: "Localhost" };
const SPREAD = [{ maxSkew: 2, topologyKey: "zone", whenUnsatisfiable: "DoNotSchedule" }];
const SELECTOR = {
  "app.kubernetes.io/name": "hawser",
  "app.kubernetes.io/instance": "hawser",
  "app.kubernetes.io/component": "controller",
};

const names: readonly ValueGroup[] = [
  {
    title: "nameOverride",
    rows: [["nameOverride", "moor", DRIVER, 'metadata.labels["app.kubernetes.io/name"]', "moor"]],
  },
  {
    title: "fullnameOverride",
    rows: [["fullnameOverride", "moor", "Deployment/moor-controller", "metadata.name", "moor-controller"]],
  },
  {
    title: "namespaceOverride",
    rows: [
      ["namespaceOverride", "moor", NODE, "metadata.namespace", "moor"],
      ["namespaceOverride", "moor", CONTROLLER, flag("attacher", "--leader-election-namespace"), "moor"],
      [
        "namespaceOverride",
        "moor",
        "ClusterRoleBinding/hawser-node",
        "subjects[kind=ServiceAccount].namespace",
        "moor",
      ],
    ],
  },
  {
    title: "commonLabels",
    rows: [
      ["commonLabels", { team: "a" }, DRIVER, "metadata.labels.team", "a"],
      ["commonLabels", { team: "a" }, DATAPLANE, "spec.template.metadata.labels.team", "a"],
    ],
  },
];

const images: readonly ValueGroup[] = [
  {
    title: "image",
    rows: [
      ["image.registry", "mirror:5000", NODE, `${HAWSER}.image`, "mirror:5000/own/hawser:dev"],
      ["image.repository", "own/hawser", CONTROLLER, `${HAWSER}.image`, "mirror:5000/own/hawser:dev"],
      ["image.tag", "dev", DATAPLANE, `${HAWSER}.image`, "mirror:5000/own/hawser:dev"],
      ["image.tag", "dev", DATAPLANE, `${POD}.initContainers[name=load-nbd].image`, "mirror:5000/own/hawser:dev"],
      ["image.pullPolicy", "Always", DATAPLANE, `${HAWSER}.imagePullPolicy`, "Always"],
      ["imagePullSecrets", [{ name: "pull" }], NODE, `${POD}.imagePullSecrets`, [{ name: "pull" }]],
      ["imagePullSecrets", [{ name: "pull" }], CONTROLLER, `${POD}.imagePullSecrets`, [{ name: "pull" }]],
    ],
  },
  {
    title: "image.digest",
    rows: [["image.digest", DIGEST, NODE, `${HAWSER}.image`, `localhost/hawser@${DIGEST}`]],
  },
  {
    title: "global.imageRegistry",
    rows: [
      ["global.imageRegistry", "mirror", NODE, `${HAWSER}.image`, "mirror/hawser:0.1.0"],
      [
        "global.imageRegistry",
        "mirror",
        CONTROLLER,
        `${container("attacher")}.image`,
        "mirror/sig-storage/csi-attacher:v4.12.0",
      ],
    ],
  },
];

const general: readonly ValueGroup[] = [
  {
    title: "what all processes share",
    rows: [
      ["kubeletPath", "/k", NODE, `${POD}.volumes[name=kubelet].hostPath.path`, "/k"],
      ["kubeletPath", "/k", NODE, `${HAWSER}.volumeMounts[name=kubelet].mountPath`, "/k"],
      ["kubeletPath", "/k", NODE, `${POD}.volumes[name=registration].hostPath.path`, "/k/plugins_registry"],
      ["kubeletPath", "/k", NODE, `${POD}.volumes[name=socket].hostPath.path`, "/k/plugins/csi.hawser.dev"],
      [
        "kubeletPath",
        "/k",
        NODE,
        flag("registrar", "--kubelet-registration-path"),
        "/k/plugins/csi.hawser.dev/csi.sock",
      ],
      ["kubeletPath", "/k", NODE, flag("hawser", "--kubelet-dir"), "/k"],
      ["clusterId", "blue", DATAPLANE, flag("hawser", "--cluster-id"), "blue"],
      ["logLevel", "trace", NODE, flag("hawser", "--log-level"), "trace"],
      ["logLevel", "trace", CONTROLLER, flag("hawser", "--log-level"), "trace"],
      ["logLevel", "trace", DATAPLANE, flag("hawser", "--log-level"), "trace"],
      ["csiSpecLevel", "1.12", NODE, flag("hawser", "--csi-spec-level"), "1.12"],
      ["csiSpecLevel", "1.12", CONTROLLER, flag("hawser", "--csi-spec-level"), "1.12"],
      ["extraCaCerts.configMap", "own", CONTROLLER, `${POD}.volumes[name=ca].configMap.name`, "own"],
      [
        "extraCaCerts.key",
        "a.pem",
        CONTROLLER,
        `${HAWSER}.env[name=NODE_EXTRA_CA_CERTS].value`,
        "/etc/hawser/ca/a.pem",
      ],
    ],
  },
  {
    title: "rbac.create",
    rows: [
      ["rbac.create", false, "ClusterRole/hawser-controller", "kind", undefined],
      ["rbac.create", false, "ClusterRoleBinding/hawser-node", "kind", undefined],
      ["rbac.create", false, "Role/hawser-controller", "kind", undefined],
    ],
  },
  {
    title: "events.enabled",
    rows: [
      ["events.enabled", false, NODE, flag("hawser", "--events"), undefined],
      ["events.enabled", false, NODE, `${POD}.automountServiceAccountToken`, false],
      ["events.enabled", false, "ClusterRole/hawser-node", "kind", undefined],
      ["events.enabled", false, DRIVER, "spec.podInfoOnMount", false],
    ],
  },
  {
    title: "csiDriver",
    rows: [
      ["csiDriver.fsGroupPolicy", "None", DRIVER, "spec.fsGroupPolicy", "None"],
      ["csiDriver.seLinuxMount", false, DRIVER, "spec.seLinuxMount", false],
      ["csiDriver.nodeAllocatableUpdatePeriodSeconds", 60, DRIVER, "spec.nodeAllocatableUpdatePeriodSeconds", 60],
      ["csiDriver.annotations", { a: "b" }, DRIVER, "metadata.annotations.a", "b"],
    ],
  },
  {
    title: "openshift.enabled",
    rows: [
      ["openshift.enabled", true, "SecurityContextConstraints/hawser-dataplane", "allowHostNetwork", true],
      ["openshift.enabled", true, "SecurityContextConstraints/hawser-node", "allowHostNetwork", false],
      ["openshift.enabled", true, CONTROLLER, `${POD}.securityContext.runAsUser`, undefined],
    ],
  },
];

const controller: readonly ValueGroup[] = [
  { title: "controller", rows: componentRows("controller", CONTROLLER) },
  ...accountGroups("controller", CONTROLLER),
  ...probeGroups("controller", CONTROLLER),
  {
    title: "controller: replicas",
    rows: [
      ["controller.replicaCount", 3, CONTROLLER, "spec.replicas", 3],
      ["controller.strategy.rollingUpdate", { maxSurge: 0 }, CONTROLLER, "spec.strategy.rollingUpdate.maxSurge", 0],
      [
        "controller.podSecurityContext",
        { seccompProfile: PROFILE },
        CONTROLLER,
        `${POD}.securityContext.seccompProfile.type`,
        "Localhost",
      ],
      [
        "controller.podDisruptionBudget.maxUnavailable",
        "50%",
        "PodDisruptionBudget/hawser-controller",
        "spec.maxUnavailable",
        "50%",
      ],
      [
        "controller.topologySpreadConstraints",
        SPREAD,
        CONTROLLER,
        `${POD}.topologySpreadConstraints[topologyKey=zone].maxSkew`,
        2,
      ],
      [
        "controller.topologySpreadConstraints",
        SPREAD,
        CONTROLLER,
        `${POD}.topologySpreadConstraints[topologyKey=zone].labelSelector.matchLabels`,
        SELECTOR,
      ],
    ],
  },
  {
    title: "controller.strategy.type",
    rows: [["controller.strategy.type", "Recreate", CONTROLLER, "spec.strategy", { type: "Recreate" }]],
  },
  {
    title: "controller.podDisruptionBudget.enabled",
    rows: [
      ["controller.podDisruptionBudget.enabled", false, "PodDisruptionBudget/hawser-controller", "kind", undefined],
    ],
  },
];

const nodes: readonly ValueGroup[] = [
  { title: "node", rows: componentRows("node", NODE) },
  ...accountGroups("node", NODE),
  ...probeGroups("node", NODE),
  {
    title: "node: its own",
    rows: [
      ["node.maxVolumes", 12, NODE, flag("hawser", "--max-volumes"), "12"],
      ["node.capabilities", ["SYS_ADMIN"], NODE, `${HAWSER}.command{--bounding-set}`, "-all,+sys_admin"],
      ["node.updateStrategy.maxUnavailable", 3, NODE, "spec.updateStrategy.rollingUpdate.maxUnavailable", 3],
      ["node.registrar.mode", "builtin", NODE, container("registrar"), undefined],
      ["node.registrar.mode", "builtin", NODE, flag("hawser", "--kubelet-registration"), "/registration"],
      [
        "node.registrar.mode",
        "builtin",
        NODE,
        flag("hawser", "--kubelet-endpoint"),
        "/var/lib/kubelet/plugins/csi.hawser.dev/csi.sock",
      ],
    ],
  },
  {
    title: "node.updateStrategy.type",
    rows: [["node.updateStrategy.type", "OnDelete", NODE, "spec.updateStrategy", { type: "OnDelete" }]],
  },
];

const dataplane: readonly ValueGroup[] = [
  { title: "dataplane", rows: componentRows("dataplane", DATAPLANE) },
  ...accountGroups("dataplane", DATAPLANE),
  {
    title: "dataplane.device: fuse",
    rows: [
      ["dataplane.device", "fuse", DATAPLANE, flag("hawser", "--backend"), "fuse"],
      ["dataplane.device", "fuse", DATAPLANE, flag("hawser", "--require-protections"), undefined],
      ["dataplane.device", "fuse", DATAPLANE, `${POD}.initContainers`, undefined],
    ],
  },
  {
    title: "dataplane.device: auto",
    rows: [
      ["dataplane.device", "auto", DATAPLANE, flag("hawser", "--backend"), "auto"],
      [
        "dataplane.device",
        "auto",
        DATAPLANE,
        `${POD}.initContainers[name=load-nbd].command`,
        ["sh", "-c", "modprobe nbd || true"],
      ],
    ],
  },
  {
    title: "dataplane: its own",
    rows: [
      ["dataplane.loadModule", false, DATAPLANE, `${POD}.initContainers`, undefined],
      ["dataplane.loadModule", false, DATAPLANE, `${POD}.volumes[name=modules]`, undefined],
      ["dataplane.requireProtections", false, DATAPLANE, flag("hawser", "--require-protections"), undefined],
      ["dataplane.capabilities", ["SYS_ADMIN"], DATAPLANE, `${HAWSER}.command{--bounding-set}`, "-all,+sys_admin"],
      ["dataplane.nbd.ioTimeoutMs", 3000, DATAPLANE, flag("hawser", "--nbd-io-timeout"), "3000"],
      ["dataplane.nbd.deadTimeoutMs", 172_800_000, DATAPLANE, flag("hawser", "--nbd-dead-timeout"), "172800000"],
      ["dataplane.readinessProbe.port", 9999, DATAPLANE, `${HAWSER}.readinessProbe.httpGet.port`, 9999],
      ["dataplane.readinessProbe.port", 9999, DATAPLANE, flag("hawser", "--health"), "127.0.0.1:9999"],
      ["dataplane.readinessProbe.periodSeconds", 31, DATAPLANE, `${HAWSER}.readinessProbe.periodSeconds`, 31],
      ["dataplane.readinessProbe.timeoutSeconds", 32, DATAPLANE, `${HAWSER}.readinessProbe.timeoutSeconds`, 32],
      ["dataplane.readinessProbe.failureThreshold", 33, DATAPLANE, `${HAWSER}.readinessProbe.failureThreshold`, 33],
      ["dataplane.updateStrategy.type", "RollingUpdate", DATAPLANE, "spec.updateStrategy.type", "RollingUpdate"],
      [
        "dataplane.updateStrategy.maxUnavailable",
        "5%",
        DATAPLANE,
        "spec.updateStrategy.rollingUpdate.maxUnavailable",
        "5%",
      ],
    ],
  },
  {
    title: "dataplane.requireProtections with fuse",
    given: { "dataplane.device": "fuse" },
    rows: [["dataplane.requireProtections", true, DATAPLANE, flag("hawser", "--require-protections"), true]],
  },
  {
    title: "dataplane.readinessProbe.enabled",
    rows: [
      ["dataplane.readinessProbe.enabled", false, DATAPLANE, `${HAWSER}.readinessProbe`, undefined],
      ["dataplane.readinessProbe.enabled", false, DATAPLANE, flag("hawser", "--health"), undefined],
    ],
  },
];

export const VALUE_GROUPS: readonly ValueGroup[] = [
  ...names,
  ...images,
  ...general,
  ...controller,
  ...nodes,
  ...dataplane,
  ...STORAGE_GROUPS,
];
