import type { Json, JsonMap } from "../support/helm.js";

/**
 * What setting a value changes: the value's path, what it is set to, the object and the place in it that must show it,
 * and what must be there (undefined: nothing). See `at` in test/support/helm.ts for places.
 */
export type ValueRow = readonly [path: string, value: Json, object: string, place: string, expected: Json | undefined];

/** Rows that are rendered together, because none of them hides another's effect. */
export interface ValueGroup {
  readonly title: string;
  /** Set beforehand, so that the values have something to act on. */
  readonly given?: JsonMap;
  readonly apiVersions?: readonly string[];
  readonly rows: readonly ValueRow[];
}

export const CONTROLLER = "Deployment/hawser-controller";
export const NODE = "DaemonSet/hawser-node";
export const DATAPLANE = "DaemonSet/hawser-dataplane";
export const DRIVER = "CSIDriver/csi.hawser.dev";
export const POD = "spec.template.spec";
/** A container of a workload. */
export const container = (name: string): string => `${POD}.containers[name=${name}]`;
/** The value of a flag of a container. */
export const flag = (name: string, of: string): string => `${container(name)}.args{${of}}`;

const HAWSER = container("hawser");

/** The values that every component has. */
export function componentRows(component: "controller" | "node" | "dataplane", object: string): readonly ValueRow[] {
  const at = (value: string): string => `${component}.${value}`;
  const account = `ServiceAccount/hawser-${component}`;
  const toleration = [{ key: "storage", operator: "Exists" }];
  const affinity = { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [] } } };
  const resources = { requests: { cpu: "1", memory: "2Gi" }, limits: { memory: "3Gi" } };
  return [
    [at("resources"), resources, object, `${HAWSER}.resources`, resources],
    [at("priorityClassName"), "storage-first", object, `${POD}.priorityClassName`, "storage-first"],
    [at("nodeSelector"), { disk: "fast" }, object, `${POD}.nodeSelector.disk`, "fast"],
    [at("tolerations"), toleration, object, `${POD}.tolerations`, toleration],
    [at("affinity"), affinity, object, `${POD}.affinity`, affinity],
    [at("podLabels"), { team: "storage" }, object, "spec.template.metadata.labels.team", "storage"],
    [at("podAnnotations"), { note: "seen" }, object, "spec.template.metadata.annotations.note", "seen"],
    [at("terminationGracePeriodSeconds"), 77, object, `${POD}.terminationGracePeriodSeconds`, 77],
    [at("extraArgs"), ["--more=1"], object, flag("hawser", "--more"), "1"],
    [at("extraEnv"), [{ name: "A", value: "b" }], object, `${HAWSER}.env[name=A].value`, "b"],
    [at("serviceAccount.annotations"), { a: "b" }, account, "metadata.annotations.a", "b"],
  ];
}

/** A service account that somebody else made, and one with another name. */
export function accountGroups(component: "controller" | "node" | "dataplane", object: string): readonly ValueGroup[] {
  const account = `ServiceAccount/hawser-${component}`;
  const name = `${component}.serviceAccount.name`;
  return [
    { title: `${name}: another`, rows: [[name, "own", "ServiceAccount/own", "kind", "ServiceAccount"]] },
    {
      title: `${component}.serviceAccount.create: not`,
      rows: [
        [`${component}.serviceAccount.create`, false, account, "kind", undefined],
        [name, "existing", object, `${POD}.serviceAccountName`, "existing"],
      ],
    },
  ];
}

/** The probes of a container that serves CSI. */
export function probeGroups(component: "controller" | "node", object: string): readonly ValueGroup[] {
  const at = (value: string): string => `${component}.livenessProbe.${value}`;
  const probe = `${HAWSER}.livenessProbe`;
  return [
    {
      title: `${component}.livenessProbe: by the sidecar`,
      given: { [at("mode")]: "sidecar" },
      rows: [
        [at("port"), 9999, object, flag("liveness-probe", "--http-endpoint"), ":9999"],
        [at("initialDelaySeconds"), 21, object, `${probe}.initialDelaySeconds`, 21],
        [at("periodSeconds"), 22, object, `${probe}.periodSeconds`, 22],
        [at("timeoutSeconds"), 23, object, `${probe}.timeoutSeconds`, 23],
        [at("failureThreshold"), 24, object, `${probe}.failureThreshold`, 24],
      ],
    },
    {
      title: `${component}.livenessProbe: built in`,
      given: { [at("mode")]: "sidecar" },
      rows: [
        [at("mode"), "builtin", object, flag("hawser", "--health"), "0.0.0.0:9808"],
        [at("mode"), "builtin", object, `${HAWSER}.readinessProbe.httpGet.path`, "/readyz"],
        [at("mode"), "builtin", object, container("liveness-probe"), undefined],
      ],
    },
    {
      title: `${component}.livenessProbe: none`,
      given: { [at("mode")]: "sidecar" },
      rows: [
        [at("mode"), "none", object, `${HAWSER}.livenessProbe`, undefined],
        [at("mode"), "none", object, container("liveness-probe"), undefined],
      ],
    },
    {
      title: `health.bindHost: for the ${component}`,
      given: { [at("mode")]: "builtin" },
      rows: [["health.bindHost", "[::]", object, flag("hawser", "--health"), "[::]:9808"]],
    },
  ];
}
