import type { Rendering } from "./renderings.js";

const ACCOUNT = `
apiVersion: v1
kind: ServiceAccount
metadata: { name: self-check, namespace: hawser }
`;

const deployment = (podFields: string): string => `
apiVersion: apps/v1
kind: Deployment
metadata: { name: self-check, namespace: hawser }
spec:
  selector: { matchLabels: { app: self-check } }
  template:
    metadata: { labels: { app: self-check } }
    spec:
      containers: [{ name: main, image: "registry.k8s.io/pause:3.10" }]
      ${podFields}
`;

/** Manifests with one fault each, and what the judge must say of them: a judge that finds nothing proves nothing. */
export const FAULTY: readonly { readonly rendering: Rendering; readonly complaint: RegExp }[] = [
  {
    rendering: {
      name: "a misspelled field",
      manifest: deployment("priorityClasName: system-cluster-critical"),
      isInstallation: false,
    },
    complaint: /unknown field "spec\.template\.spec\.priorityClasName"/,
  },
  {
    rendering: {
      name: "a deprecated label",
      manifest: deployment("nodeSelector: { beta.kubernetes.io/os: linux }"),
      isInstallation: false,
    },
    complaint: /^Warning: .*beta\.kubernetes\.io\/os/,
  },
  {
    rendering: {
      name: "an account that reads every secret",
      manifest: `${ACCOUNT}---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: self-check }
rules: [{ apiGroups: [""], resources: [secrets], verbs: [list] }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: self-check }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: self-check }
subjects: [{ kind: ServiceAccount, name: self-check, namespace: hawser }]
`,
      isInstallation: true,
    },
    complaint: /self-check may list secrets/,
  },
];
