import { join } from "node:path";
import { hasProgram } from "../../support/needs.js";
import { ApiServer } from "./api-server.js";
import type { ApiClient } from "./api-client.js";
import { Kubectl } from "./kubectl.js";
import { parseManifest, toList, type KubernetesObject } from "./objects.js";
import { checkPermissions, PERMISSION_KINDS, type PermissionReport } from "./permissions.js";
import { NAMESPACE, renderAll, type Rendering } from "./renderings.js";
import { FAULTY } from "./self-check.js";

/** Programs and manifests that judging one server takes. */
export interface Tools {
  readonly helm: string;
  readonly kubectl: string;
  readonly kubeApiserver: string;
  /** Resource definitions that manifests need beyond Kubernetes' own. */
  readonly definitions: string;
}

/** What one server says about one manifest. */
export interface Verdict {
  readonly release: string;
  readonly rendering: string;
  readonly objects: number;
  readonly warnings: number;
  /** Only of whole installations. */
  readonly permissions?: PermissionReport;
  /** Refusals, warnings, wrong rights; empty when all is well. */
  readonly problems: readonly string[];
}

/** Starts a server of the release in `directory`, shows it every manifest, and ends it again. */
export async function judgeServer(release: string, tools: Tools, directory: string): Promise<Verdict[]> {
  if (!hasProgram("etcd")) throw new Error("etcd is missing: install the Debian package etcd-server");
  const server = await ApiServer.start({ etcd: "etcd", kubeApiserver: tools.kubeApiserver, directory });
  try {
    const kubectl = new Kubectl({
      program: tools.kubectl,
      kubeconfig: server.kubeconfig,
      cacheDirectory: join(directory, "kubectl-cache"),
    });
    await prepare(kubectl, tools.definitions);
    const renderings = await renderAll(tools.helm, {
      version: release.slice(1),
      apiVersions: await server.client.apiVersions(),
    });
    const ask = (rendering: Rendering): Promise<Verdict> =>
      judge({ release, rendering, kubectl, client: server.client });
    for (const { rendering, complaint } of FAULTY) {
      const { problems } = await ask(rendering);
      if (!problems.some((problem) => complaint.test(problem))) {
        throw new Error(`${release} was shown ${rendering.name} and did not complain: ${problems.join("; ")}`);
      }
    }
    const verdicts: Verdict[] = [];
    for (const rendering of renderings) {
      verdicts.push(await ask(rendering));
    }
    return verdicts;
  } finally {
    await server.stop();
  }
}

/** What a cluster's controllers would have made, and the definitions of objects that come from elsewhere. */
async function prepare(kubectl: Kubectl, definitions: string): Promise<void> {
  await kubectl.run(["apply", "--server-side", "-f", "-"], definitions);
  await kubectl.run(["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]);
  const namespaces = [NAMESPACE, "default"];
  const objects = namespaces.flatMap((name) => [
    { apiVersion: "v1", kind: "Namespace", metadata: { name } },
    { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "default", namespace: name } },
  ]);
  await kubectl.run(["apply", "-f", "-"], toList(objects));
}

interface Case {
  readonly release: string;
  readonly rendering: Rendering;
  readonly kubectl: Kubectl;
  readonly client: ApiClient;
}

async function judge({ release, rendering, kubectl, client }: Case): Promise<Verdict> {
  const objects = parseManifest(rendering.name, rendering.manifest);
  const problems: string[] = [];
  const answer = await kubectl.attempt(
    ["apply", "--dry-run=server", "--validate=strict", "--namespace", NAMESPACE, "--output=name", "-f", "-"],
    // The text itself and not what this parser read: YAML has more than one meaning of 0644.
    rendering.manifest,
  );
  const accepted = answer.out.split("\n").filter((line) => line !== "").length;
  const complaints = answer.err.split("\n").filter((line) => line.trim() !== "");
  const warnings = complaints.filter((line) => line.startsWith("Warning:")).length;
  problems.push(...complaints);
  if (answer.exitCode !== 0 && complaints.length === 0)
    problems.push(`kubectl ended with exit code ${answer.exitCode}`);
  if (objects.length === 0) problems.push("there is no object in it");
  if (accepted !== objects.length) problems.push(`${accepted} of ${objects.length} objects were accepted`);
  const verdict = { release, rendering: rendering.name, objects: objects.length, warnings };
  if (!rendering.isInstallation) return { ...verdict, problems };
  const permissions = await tryPermissions(kubectl, client, objects);
  return { ...verdict, permissions, problems: [...problems, ...permissions.problems] };
}

/** Applies accounts and roles for real, asks what they allow, and removes them for the next manifest. */
async function tryPermissions(
  kubectl: Kubectl,
  client: ApiClient,
  objects: readonly KubernetesObject[],
): Promise<PermissionReport> {
  const deciding = objects.filter(({ kind }) => PERMISSION_KINDS.has(kind));
  if (deciding.length === 0) return { accounts: 0, granted: 0, refused: 0, problems: ["it has no account at all"] };
  const list = toList(deciding);
  await kubectl.run(["apply", "--namespace", NAMESPACE, "-f", "-"], list);
  try {
    return await checkPermissions(client, deciding, NAMESPACE);
  } finally {
    await kubectl.run(["delete", "--namespace", NAMESPACE, "--wait=false", "-f", "-"], list);
  }
}
