import type { KubeObject } from "../scenarios/cluster.js";
import { auditedRequests, grantedPermissions, judge, type ExplainedPermission } from "./audit.js";

const ACCOUNT = "hawser/hawser-controller";

function line(
  verb: string,
  objectRef: object,
  code = 200,
  user = "system:serviceaccount:hawser:hawser-controller",
): string {
  return JSON.stringify({ verb, user: { username: user }, objectRef, responseStatus: { code } });
}

function roleObjects(kind: "Role" | "ClusterRole", rules: readonly object[]): readonly KubeObject[] {
  const isCluster = kind === "ClusterRole";
  const metadata = isCluster ? { name: "role" } : { name: "role", namespace: "hawser" };
  const subjects = [{ kind: "ServiceAccount", name: "hawser-controller", namespace: "hawser" }];
  return [
    { kind, metadata, rules },
    { kind: `${kind}Binding`, metadata, roleRef: { kind, name: "role" }, subjects },
  ];
}

const PATCH_STATUS = { apiGroups: [""], resources: ["persistentvolumeclaims/status"], verbs: ["patch"] };
const STATUS_REQUEST = { resource: "persistentvolumeclaims", subresource: "status", namespace: "default", name: "x" };

describe("the audit log", () => {
  it("gives the requests of the release's accounts alone, with their subresource", () => {
    const log = [
      line("patch", STATUS_REQUEST),
      line("get", { resource: "nodes" }, 200, "system:serviceaccount:other:hawser-controller"),
      line("get", { resource: "nodes" }, 200, "system:node:worker"),
    ].join("\n");
    expect(auditedRequests(log, "hawser")).toEqual([
      {
        ...{ account: ACCOUNT, apiGroup: "", resource: "persistentvolumeclaims/status", verb: "patch" },
        ...{ namespace: "default", name: "x", code: 200, beginsWithList: false },
      },
    ]);
  });

  it("leaves out a last line that is not whole yet", () => {
    const whole = line("get", { resource: "nodes" });
    expect(auditedRequests(`${whole}\n${whole.slice(0, -5)}`, "hawser")).toHaveLength(1);
  });
});

describe("the verdict", () => {
  const verdict = (
    log: readonly string[],
    objects = roleObjects("ClusterRole", [PATCH_STATUS]),
    explanations: readonly ExplainedPermission[] = [],
  ) => judge(grantedPermissions(objects), auditedRequests(log.join("\n"), "hawser"), explanations);

  it("is content when every right was used and nothing refused", () => {
    expect(verdict([line("patch", STATUS_REQUEST)])).toMatchObject({ refused: [], unused: [], permissions: 1 });
  });

  it("takes a watch that begins with the list for a list, and no other", () => {
    const rules = roleObjects("ClusterRole", [{ apiGroups: [""], resources: ["nodes"], verbs: ["list", "watch"] }]);
    const watch = (query: string): string =>
      JSON.stringify({ ...(JSON.parse(line("watch", { resource: "nodes" })) as object), requestURI: `/x?${query}` });
    expect(verdict([watch("sendInitialEvents=true&watch=true")], rules).unused).toEqual([]);
    expect(verdict([watch("watch=true")], rules).unused).toEqual([`${ACCOUNT}: list nodes`]);
  });

  it("names a right that was not used", () => {
    expect(verdict([line("get", STATUS_REQUEST)]).unused).toEqual([`${ACCOUNT}: patch persistentvolumeclaims/status`]);
  });

  it("does not take a request that was refused for a use, and names it with its count", () => {
    const refused = line("patch", STATUS_REQUEST, 403);
    expect(verdict([refused, refused])).toMatchObject({
      refused: [`${ACCOUNT}: patch persistentvolumeclaims/status in default (2 times)`],
      unused: [`${ACCOUNT}: patch persistentvolumeclaims/status`],
    });
  });

  it("does not take a request in another namespace for a use of a Role", () => {
    expect(verdict([line("patch", STATUS_REQUEST)], roleObjects("Role", [PATCH_STATUS])).unused).toHaveLength(1);
    const inside = line("patch", { ...STATUS_REQUEST, namespace: "hawser" });
    expect(verdict([inside], roleObjects("Role", [PATCH_STATUS])).unused).toEqual([]);
  });

  it("accepts an explanation, and names one that explains nothing", () => {
    const explanation = { apiGroup: "", resource: "persistentvolumeclaims/status", verb: "patch", reason: "growth" };
    const objects = roleObjects("ClusterRole", [PATCH_STATUS]);
    expect(verdict([], objects, [explanation])).toMatchObject({ unused: [], idleExplanations: [] });
    expect(verdict([line("patch", STATUS_REQUEST)], objects, [explanation]).idleExplanations).toEqual([
      "patch persistentvolumeclaims/status",
    ]);
  });
});
