import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { buildGo } from "../cluster/go-build.js";
import { VERSIONS } from "../cluster/layout.js";
import { run } from "../cluster/process.js";

/** Path of one program of a Kubernetes release, built when it is not in the cache. */
export async function ensureKubernetes(release: string, program: string): Promise<string> {
  const [major = "", minor = ""] = release.slice(1).split(".");
  const folder = await buildGo({
    name: "kubernetes",
    module: "k8s.io/kubernetes",
    version: release,
    programs: { [program]: `k8s.io/kubernetes/cmd/${program}` },
    variables: {
      "k8s.io/component-base/version.gitVersion": release,
      "k8s.io/component-base/version.gitMajor": major,
      "k8s.io/component-base/version.gitMinor": minor,
    },
  });
  return join(folder, program);
}

/** Path of helm, built when it is not in the cache. */
export async function ensureHelm(): Promise<string> {
  const folder = await buildGo({
    name: "helm",
    module: "helm.sh/helm/v3",
    version: VERSIONS.helm,
    programs: { helm: "helm.sh/helm/v3/cmd/helm" },
    variables: { "helm.sh/helm/v3/internal/version.version": VERSIONS.helm },
  });
  return join(folder, "helm");
}

/** The resource definitions of snapshots, one manifest, from the snapshotter's own release. */
export async function snapshotDefinitions(): Promise<string> {
  const module = `github.com/kubernetes-csi/external-snapshotter/client/v8@${VERSIONS.snapshotter}`;
  const answer = await run("go", ["mod", "download", "-json", module], { cwd: "/", env: { GOFLAGS: "-mod=mod" } });
  const folder = join((JSON.parse(answer) as { Dir: string }).Dir, "config", "crd");
  return readdirSync(folder)
    .filter((file) => file.startsWith("snapshot.storage.k8s.io_"))
    .map((file) => readFileSync(join(folder, file), "utf8"))
    .join("\n---\n");
}
