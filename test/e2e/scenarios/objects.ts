import type { KubeObject } from "./cluster.js";

/** StorageClasses that the runner has the chart make. */
export const CLASSES = { ext4: "hawser-ext4", xfs: "hawser-xfs", immediate: "hawser-immediate" } as const;

export interface ClaimOptions {
  readonly namespace: string;
  readonly name: string;
  readonly size: string;
  readonly className?: string;
  readonly isBlock?: boolean;
  readonly accessMode?: "ReadWriteOnce" | "ReadWriteOncePod" | "ReadOnlyMany" | "ReadWriteMany";
  /** Binds to this PersistentVolume instead of asking for a new one. */
  readonly volumeName?: string;
}

export function claim(options: ClaimOptions): KubeObject {
  const { namespace, name, size, accessMode = "ReadWriteOnce" } = options;
  return {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: { name, namespace },
    spec: {
      accessModes: [accessMode],
      volumeMode: options.isBlock === true ? "Block" : "Filesystem",
      resources: { requests: { storage: size } },
      storageClassName: options.volumeName === undefined ? (options.className ?? CLASSES.ext4) : "",
      ...(options.volumeName === undefined ? {} : { volumeName: options.volumeName }),
    },
  };
}

export interface PodOptions {
  readonly namespace: string;
  readonly name: string;
  readonly image: string;
  readonly claimName: string;
  /** The claim is a raw block device, at `/dev/volume`. */
  readonly isBlock?: boolean;
  readonly securityContext?: object;
  /** Mounts of the volume `data`; by default all of it at /data. */
  readonly mounts?: readonly object[];
  readonly isReadOnlyClaim?: boolean;
}

/** A pod that waits to be told by `kubectl exec` what to do, and ends at once when it is deleted. */
export function workPod(options: PodOptions): KubeObject {
  const { namespace, name } = options;
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace, labels: { scenario: name } },
    spec: workPodSpec(options),
  };
}

/** The same, as the template of a StatefulSet has it; the claim is then the set's. */
export function workPodSpec(options: Omit<PodOptions, "namespace" | "name" | "claimName"> & { claimName?: string }): {
  readonly [field: string]: unknown;
} {
  const claimName = options.claimName;
  return {
    terminationGracePeriodSeconds: 2,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    ...(options.securityContext === undefined ? {} : { securityContext: options.securityContext }),
    containers: [
      {
        name: "work",
        image: options.image,
        imagePullPolicy: "IfNotPresent",
        command: ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"],
        ...(options.isBlock === true
          ? { volumeDevices: [{ name: "data", devicePath: "/dev/volume" }] }
          : { volumeMounts: options.mounts ?? [{ name: "data", mountPath: "/data" }] }),
      },
    ],
    ...(claimName === undefined
      ? {}
      : {
          volumes: [
            {
              name: "data",
              persistentVolumeClaim: {
                claimName,
                ...(options.isReadOnlyClaim === true ? { readOnly: true } : {}),
              },
            },
          ],
        }),
  };
}
