import type { ApiClient } from "./api-client.js";
import type { KubernetesObject } from "./objects.js";

/** One thing an account may or may not do. */
export interface Access {
  readonly verb: string;
  readonly group?: string;
  readonly resource?: string;
  readonly subresource?: string;
  readonly name?: string;
  /** Left out: in all namespaces, and cluster-scoped objects. */
  readonly namespace?: string;
  readonly path?: string;
}

interface Account {
  readonly name: string;
  readonly namespace: string;
}

interface Rule {
  readonly verbs: readonly string[];
  readonly apiGroups?: readonly string[];
  readonly resources?: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly nonResourceURLs?: readonly string[];
}

interface Binding extends KubernetesObject {
  readonly roleRef: { readonly kind: string; readonly name: string };
  readonly subjects?: readonly { readonly kind: string; readonly name: string; readonly namespace?: string }[];
}

export interface PermissionReport {
  readonly accounts: number;
  /** Things the roles grant, each confirmed by the server. */
  readonly granted: number;
  /** Things no account of a driver may do, each refused by the server. */
  readonly refused: number;
  readonly problems: readonly string[];
}

/** The kinds that decide what an account may do. */
export const PERMISSION_KINDS: ReadonlySet<string> = new Set([
  "ServiceAccount",
  "Role",
  "RoleBinding",
  "ClusterRole",
  "ClusterRoleBinding",
]);

const RBAC = "rbac.authorization.k8s.io";

/**
 * What leads from a driver's account to the whole cluster: a right to hand out rights, to act as another, to run
 * something anywhere, to read every secret, or to change what the API server admits.
 */
export const ESCALATIONS: readonly Access[] = [
  { verb: "*", group: "*", resource: "*" },
  ...["clusterroles", "roles"].flatMap((resource) =>
    ["escalate", "bind", "create", "update", "patch"].map((verb) => ({ verb, group: RBAC, resource })),
  ),
  ...["clusterrolebindings", "rolebindings"].flatMap((resource) =>
    ["create", "update", "patch"].map((verb) => ({ verb, group: RBAC, resource })),
  ),
  ...["users", "groups", "serviceaccounts"].map((resource) => ({ verb: "impersonate", group: "", resource })),
  { verb: "create", group: "", resource: "serviceaccounts", subresource: "token" },
  ...["create", "update", "patch", "delete"].map((verb) => ({ verb, group: "", resource: "pods" })),
  ...["exec", "attach", "ephemeralcontainers", "portforward"].map((subresource) => ({
    verb: "create",
    group: "",
    resource: "pods",
    subresource,
  })),
  ...["daemonsets", "deployments", "statefulsets"].map((resource) => ({ verb: "patch", group: "apps", resource })),
  ...["get", "list", "watch"].map((verb) => ({ verb, group: "", resource: "secrets" })),
  { verb: "get", group: "", resource: "secrets", namespace: "kube-system" },
  { verb: "get", group: "", resource: "nodes", subresource: "proxy" },
  { verb: "create", group: "", resource: "nodes", subresource: "proxy" },
  ...["update", "patch"].map((verb) => ({ verb, group: "", resource: "nodes" })),
  ...["validatingwebhookconfigurations", "mutatingwebhookconfigurations"].map((resource) => ({
    verb: "create",
    group: "admissionregistration.k8s.io",
    resource,
  })),
  { verb: "update", group: "certificates.k8s.io", resource: "certificatesigningrequests", subresource: "approval" },
  { verb: "create", group: "apiextensions.k8s.io", resource: "customresourcedefinitions" },
];

/**
 * Asks the server, for every account of the objects: is each rule of its roles in force, and is each way to the rest
 * of the cluster closed? The objects must have been applied.
 */
export async function checkPermissions(
  client: ApiClient,
  objects: readonly KubernetesObject[],
  defaultNamespace: string,
): Promise<PermissionReport> {
  const accounts = objects
    .filter(({ kind }) => kind === "ServiceAccount")
    .map(({ metadata }) => ({ name: metadata.name ?? "", namespace: metadata.namespace ?? defaultNamespace }));
  const problems: string[] = [];
  let granted = 0;
  let refused = 0;
  for (const account of accounts) {
    const expected = grantsOf(account, objects, defaultNamespace);
    for (const { access, allowed } of await reviewAll(client, account, expected)) {
      if (allowed) granted += 1;
      else problems.push(`${account.name} may not ${describeAccess(access)}, although a role bound to it says so`);
    }
    for (const { access, allowed } of await reviewAll(client, account, ESCALATIONS)) {
      if (allowed) problems.push(`${account.name} may ${describeAccess(access)}, which is a way to the whole cluster`);
      else refused += 1;
    }
  }
  return { accounts: accounts.length, granted, refused, problems };
}

function grantsOf(account: Account, objects: readonly KubernetesObject[], defaultNamespace: string): Access[] {
  const bindings = objects.filter(({ kind }) => kind === "RoleBinding" || kind === "ClusterRoleBinding") as Binding[];
  return bindings
    .filter(({ subjects = [] }) =>
      subjects.some(
        (subject) =>
          subject.kind === "ServiceAccount" && subject.name === account.name && subject.namespace === account.namespace,
      ),
    )
    .flatMap((binding) => {
      const namespace = binding.kind === "RoleBinding" ? (binding.metadata.namespace ?? defaultNamespace) : undefined;
      return rulesOf(binding, namespace, objects, defaultNamespace).flatMap((rule) => accessesOf(rule, namespace));
    });
}

function rulesOf(
  binding: Binding,
  namespace: string | undefined,
  objects: readonly KubernetesObject[],
  defaultNamespace: string,
): readonly Rule[] {
  const role = objects.find(
    ({ kind, metadata }) =>
      kind === binding.roleRef.kind &&
      metadata.name === binding.roleRef.name &&
      (kind === "ClusterRole" || (metadata.namespace ?? defaultNamespace) === namespace),
  );
  if (role === undefined) {
    throw new Error(
      `${binding.kind} ${binding.metadata.name ?? ""} names a role that is not there: ${binding.roleRef.name}`,
    );
  }
  return (role["rules"] ?? []) as Rule[];
}

function accessesOf(rule: Rule, namespace: string | undefined): Access[] {
  const place = namespace === undefined ? {} : { namespace };
  const paths = (rule.nonResourceURLs ?? []).flatMap((path) => rule.verbs.map((verb) => ({ verb, path })));
  const resources = (rule.resources ?? []).flatMap((full) => {
    const [resource = "", subresource] = full.split("/");
    const names = rule.resourceNames?.map((name) => ({ name })) ?? [{}];
    return (rule.apiGroups ?? []).flatMap((group) =>
      rule.verbs.flatMap((verb) =>
        names.map((name) => ({
          verb,
          group,
          resource,
          ...(subresource === undefined ? {} : { subresource }),
          ...name,
          ...place,
        })),
      ),
    );
  });
  return [...paths, ...resources];
}

function reviewAll(
  client: ApiClient,
  account: Account,
  accesses: readonly Access[],
): Promise<{ access: Access; allowed: boolean }[]> {
  return Promise.all(accesses.map(async (access) => ({ access, allowed: await isAllowed(client, account, access) })));
}

async function isAllowed(client: ApiClient, account: Account, access: Access): Promise<boolean> {
  const { path, ...resourceAttributes } = access;
  const what = path === undefined ? { resourceAttributes } : { nonResourceAttributes: { path, verb: access.verb } };
  const answer = (await client.json("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {
    apiVersion: "authorization.k8s.io/v1",
    kind: "SubjectAccessReview",
    spec: {
      user: `system:serviceaccount:${account.namespace}:${account.name}`,
      groups: ["system:serviceaccounts", `system:serviceaccounts:${account.namespace}`, "system:authenticated"],
      ...what,
    },
  })) as { readonly status: { readonly allowed: boolean } };
  return answer.status.allowed;
}

function describeAccess(access: Access): string {
  if (access.path !== undefined) return `${access.verb} ${access.path}`;
  const resource = [access.resource, access.subresource].filter((part) => part !== undefined).join("/");
  const group = access.group === undefined || access.group === "" ? "" : `.${access.group}`;
  const name = access.name === undefined ? "" : ` ${access.name}`;
  return `${access.verb} ${resource}${group}${name}${access.namespace === undefined ? "" : ` in ${access.namespace}`}`;
}
