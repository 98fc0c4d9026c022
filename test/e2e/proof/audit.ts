import type { KubeObject } from "../scenarios/cluster.js";

/** One right of a service account, as small as RBAC can say it. */
export interface Permission {
  /** `NAMESPACE/NAME` of the service account. */
  readonly account: string;
  readonly apiGroup: string;
  /** With its subresource: `persistentvolumeclaims/status`. */
  readonly resource: string;
  readonly verb: string;
  /** Namespace of the Role; undefined for a ClusterRole that is bound for the whole cluster. */
  readonly namespace: string | undefined;
}

/** A request of a service account, as the API server's audit log has it. */
export interface AuditedRequest {
  readonly account: string;
  readonly apiGroup: string;
  readonly resource: string;
  readonly verb: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly code: number;
  /**
   * A watch that begins with the list (WatchList, on by default from Kubernetes 1.35 on). An informer asks for it in
   * place of a list, which older servers, and one that refuses the stream for a moment, still get.
   */
  readonly beginsWithList: boolean;
}

interface AuditEvent {
  readonly requestURI?: string;
  readonly verb?: string;
  readonly user?: { readonly username?: string };
  readonly objectRef?: {
    readonly apiGroup?: string;
    readonly resource?: string;
    readonly subresource?: string;
    readonly namespace?: string;
    readonly name?: string;
  };
  readonly responseStatus?: { readonly code?: number };
}

const ACCOUNT_PREFIX = "system:serviceaccount:";

/** Requests of service accounts of `namespace` in an audit log of JSON lines. A line cut short at the end is left out. */
export function auditedRequests(log: string, namespace: string): readonly AuditedRequest[] {
  const marker = `"${ACCOUNT_PREFIX}${namespace}:`;
  return log.split("\n").flatMap((line): readonly AuditedRequest[] => {
    if (!line.includes(marker) || !line.endsWith("}")) return [];
    const event = JSON.parse(line) as AuditEvent;
    const username = event.user?.username ?? "";
    const { objectRef } = event;
    if (!username.startsWith(`${ACCOUNT_PREFIX}${namespace}:`) || event.responseStatus === undefined) return [];
    const subresource = objectRef?.subresource === undefined ? "" : `/${objectRef.subresource}`;
    return [
      {
        account: username.slice(ACCOUNT_PREFIX.length).replace(":", "/"),
        apiGroup: objectRef?.apiGroup ?? "",
        resource: `${objectRef?.resource ?? "(no resource)"}${subresource}`,
        verb: event.verb ?? "",
        namespace: objectRef?.namespace,
        name: objectRef?.name,
        code: event.responseStatus.code ?? 0,
        beginsWithList: event.verb === "watch" && /[?&]sendInitialEvents=true(&|$)/.test(event.requestURI ?? ""),
      },
    ];
  });
}

interface Rule {
  readonly apiGroups?: readonly string[];
  readonly resources?: readonly string[];
  readonly verbs?: readonly string[];
}

interface RoleBinding {
  readonly kind: string;
  readonly metadata: KubeObject["metadata"];
  readonly roleRef: { readonly kind: string; readonly name: string };
  readonly subjects?: readonly { readonly kind: string; readonly name: string; readonly namespace?: string }[];
}

/** Every right that the Roles, ClusterRoles and bindings of a rendering give to service accounts. */
export function grantedPermissions(objects: readonly KubeObject[]): readonly Permission[] {
  const roles = objects.filter(({ kind }) => kind === "Role" || kind === "ClusterRole");
  const bindings = objects.filter(({ kind }) => kind === "RoleBinding" || kind === "ClusterRoleBinding");
  return (bindings as readonly unknown[] as readonly RoleBinding[]).flatMap((binding) => {
    const role = roles.find(
      ({ kind, metadata }) => kind === binding.roleRef.kind && metadata.name === binding.roleRef.name,
    );
    if (role === undefined) return [];
    const namespace = binding.kind === "RoleBinding" ? binding.metadata.namespace : undefined;
    const rules = (role["rules"] ?? []) as readonly Rule[];
    return (binding.subjects ?? []).flatMap((subject) =>
      rules.flatMap((rule) => expand(rule, `${subject.namespace ?? namespace ?? ""}/${subject.name}`, namespace)),
    );
  });
}

function expand(rule: Rule, account: string, namespace: string | undefined): readonly Permission[] {
  return (rule.apiGroups ?? []).flatMap((apiGroup) =>
    (rule.resources ?? []).flatMap((resource) =>
      (rule.verbs ?? []).map((verb) => ({ account, apiGroup, resource, verb, namespace })),
    ),
  );
}

/** A right that the run cannot use, and why it is needed all the same. */
export interface ExplainedPermission {
  readonly apiGroup: string;
  readonly resource: string;
  readonly verb: string;
  readonly reason: string;
}

/** `account: verb resource.apiGroup`, for the report. */
export function permissionText(permission: Pick<Permission, "account" | "apiGroup" | "resource" | "verb">): string {
  const group = permission.apiGroup === "" ? "" : `.${permission.apiGroup}`;
  return `${permission.account}: ${permission.verb} ${permission.resource}${group}`;
}

export interface AuditVerdict {
  readonly requests: number;
  readonly permissions: number;
  /** Requests that were refused, each once with how often. */
  readonly refused: readonly string[];
  /** Rights that no request used and nobody explained. */
  readonly unused: readonly string[];
  readonly explained: readonly string[];
  /** Explanations of rights that are not granted, or that were used: they are to be taken out. */
  readonly idleExplanations: readonly string[];
}

const FORBIDDEN = 403;

function uses(request: AuditedRequest, permission: Permission): boolean {
  return (
    request.account === permission.account &&
    (request.verb === permission.verb || (permission.verb === "list" && request.beginsWithList)) &&
    request.resource === permission.resource &&
    request.apiGroup === permission.apiGroup &&
    request.code !== FORBIDDEN &&
    (permission.namespace === undefined || permission.namespace === request.namespace)
  );
}

/** Holds what was granted against what was asked. */
export function judge(
  permissions: readonly Permission[],
  requests: readonly AuditedRequest[],
  explanations: readonly ExplainedPermission[],
): AuditVerdict {
  const distinct = [
    ...new Map(permissions.map((entry) => [`${permissionText(entry)}@${entry.namespace ?? ""}`, entry])).values(),
  ];
  const unusedPermissions = distinct.filter((permission) => !requests.some((request) => uses(request, permission)));
  const explanationOf = (permission: Permission): ExplainedPermission | undefined =>
    explanations.find(
      ({ apiGroup, resource, verb }) =>
        apiGroup === permission.apiGroup && resource === permission.resource && verb === permission.verb,
    );
  const refused = new Map<string, number>();
  for (const request of requests.filter(({ code }) => code === FORBIDDEN)) {
    const text = `${permissionText(request)}${request.namespace === undefined ? "" : ` in ${request.namespace}`}`;
    refused.set(text, (refused.get(text) ?? 0) + 1);
  }
  const explained = unusedPermissions.flatMap((permission) => {
    const explanation = explanationOf(permission);
    return explanation === undefined ? [] : [{ permission, explanation }];
  });
  return {
    requests: requests.length,
    permissions: distinct.length,
    refused: [...refused].map(([text, count]) => `${text} (${count} times)`),
    unused: unusedPermissions.filter((permission) => explanationOf(permission) === undefined).map(permissionText),
    explained: explained.map(({ permission, explanation }) => `${permissionText(permission)} — ${explanation.reason}`),
    idleExplanations: explanations
      .filter((entry) => !explained.some(({ explanation }) => explanation === entry))
      .map(({ verb, resource, apiGroup }) => `${verb} ${resource}${apiGroup === "" ? "" : `.${apiGroup}`}`),
  };
}
