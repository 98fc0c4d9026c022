import type { JsonMap } from "../support/helm.js";
import { container, CONTROLLER, flag, NODE, type ValueGroup, type ValueRow } from "./value-rows.js";

interface Sidecar {
  readonly value: string;
  readonly object: string;
  readonly container: string;
  readonly image: string;
  /** The flag of `workers`, where there is one. */
  readonly workers?: string;
  readonly timeout: string;
  readonly hasApi: boolean;
  readonly given?: JsonMap;
  /** Where `enabled` is a value: what it is set to, and whether the container is there then. */
  readonly enabled?: boolean;
}

const STORAGE: JsonMap = { "storage.enabled": true };

const sidecars: readonly Sidecar[] = [
  {
    value: "provisioner",
    object: CONTROLLER,
    container: "provisioner",
    image: "csi-provisioner:v6.3.0",
    workers: "--worker-threads",
    timeout: "--timeout",
    hasApi: true,
    given: STORAGE,
    enabled: false,
  },
  {
    value: "attacher",
    object: CONTROLLER,
    container: "attacher",
    image: "csi-attacher:v4.12.0",
    workers: "--worker-threads",
    timeout: "--timeout",
    hasApi: true,
    enabled: false,
  },
  {
    value: "resizer",
    object: CONTROLLER,
    container: "resizer",
    image: "csi-resizer:v2.2.1",
    workers: "--workers",
    timeout: "--timeout",
    hasApi: true,
    given: STORAGE,
    enabled: false,
  },
  {
    value: "snapshotter",
    object: CONTROLLER,
    container: "snapshotter",
    image: "csi-snapshotter:v8.6.0",
    workers: "--worker-threads",
    timeout: "--timeout",
    hasApi: true,
    given: { "sidecars.snapshotter.enabled": true },
    enabled: true,
  },
  {
    value: "healthMonitor",
    object: CONTROLLER,
    container: "health-monitor",
    image: "csi-external-health-monitor-controller:v0.18.0",
    workers: "--worker-threads",
    timeout: "--timeout",
    hasApi: false,
    given: { "sidecars.healthMonitor.enabled": true },
    enabled: true,
  },
  {
    value: "registrar",
    object: NODE,
    container: "registrar",
    image: "csi-node-driver-registrar:v2.17.0",
    timeout: "--timeout",
    hasApi: false,
  },
  {
    value: "livenessProbe",
    object: NODE,
    container: "liveness-probe",
    image: "livenessprobe:v2.19.0",
    timeout: "--probe-timeout",
    hasApi: false,
    given: { "node.livenessProbe.mode": "sidecar" },
  },
];

function fieldRows(sidecar: Sidecar): readonly ValueRow[] {
  const at = (value: string): string => `sidecars.${sidecar.value}.${value}`;
  const here = container(sidecar.container);
  const see = (
    value: string,
    to: string | number | readonly string[],
    of: string,
    expected: ValueRow[4] = String(to),
  ): ValueRow => [at(value), to, sidecar.object, flag(sidecar.container, of), expected];
  const resources = { requests: { cpu: "1", memory: "1Gi" } };
  const isController = sidecar.object === CONTROLLER;
  return [
    [at("image.tag"), "v0.0.1", sidecar.object, `${here}.image`, `mirror/own/name:v0.0.1`],
    [at("image.registry"), "mirror", sidecar.object, `${here}.image`, `mirror/own/name:v0.0.1`],
    [at("image.repository"), "own/name", sidecar.object, `${here}.image`, `mirror/own/name:v0.0.1`],
    [at("image.pullPolicy"), "Always", sidecar.object, `${here}.imagePullPolicy`, "Always"],
    [at("resources"), resources, sidecar.object, `${here}.resources`, resources],
    [at("securityContext"), { runAsUser: 7 }, sidecar.object, `${here}.securityContext.runAsUser`, 7],
    see("timeout", "99s", sidecar.timeout),
    see("logLevel", 9, "--v"),
    see("extraArgs", ["--more"], "--more", true),
    ...(sidecar.workers === undefined ? [] : [see("workers", 3, sidecar.workers)]),
    ...(sidecar.hasApi ? [see("kubeApiQps", 1.5, "--kube-api-qps"), see("kubeApiBurst", 4, "--kube-api-burst")] : []),
    ...(isController ? [see("httpPort", 8081, "--http-endpoint", ":8081")] : []),
  ];
}

const DIGEST = `sha256:${"ab".repeat(32)}`;

function groupsOf(sidecar: Sidecar): readonly ValueGroup[] {
  const at = (value: string): string => `sidecars.${sidecar.value}.${value}`;
  const here = container(sidecar.container);
  const given = sidecar.given === undefined ? {} : { given: sidecar.given };
  const [repository = ""] = sidecar.image.split(":");
  const name = `registry.k8s.io/sig-storage/${repository}`;
  const enabled: readonly ValueGroup[] =
    sidecar.enabled === undefined
      ? []
      : [
          {
            title: `sidecars.${sidecar.value}.enabled`,
            ...(sidecar.enabled ? {} : given),
            rows: [
              [
                at("enabled"),
                sidecar.enabled,
                sidecar.object,
                `${here}.image`,
                sidecar.enabled ? `registry.k8s.io/sig-storage/${sidecar.image}` : undefined,
              ],
            ],
          },
        ];
  return [
    { title: `sidecars.${sidecar.value}`, ...given, rows: fieldRows(sidecar) },
    {
      title: `sidecars.${sidecar.value}: by digest`,
      ...given,
      rows: [[at("image.digest"), DIGEST, sidecar.object, `${here}.image`, `${name}@${DIGEST}`]],
    },
    ...enabled,
  ];
}

export const SIDECAR_GROUPS: readonly ValueGroup[] = [
  ...sidecars.flatMap(groupsOf),
  {
    title: "sidecars.provisioner.defaultFsType",
    given: STORAGE,
    rows: [["sidecars.provisioner.defaultFsType", "xfs", CONTROLLER, flag("provisioner", "--default-fstype"), "xfs"]],
  },
];
