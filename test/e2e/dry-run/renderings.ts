import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../cluster/process.js";

/** Namespace every rendering is installed into, as the documentation does. */
export const NAMESPACE = "hawser";

const CHART = join("charts", "hawser");
const VALUES = join("test", "e2e", "dry-run");

/** Manifests that a user would apply, and what to call them in the table. */
export interface Rendering {
  readonly name: string;
  readonly manifest: string;
  /** A whole installation: its accounts and roles are tried as well. */
  readonly isInstallation: boolean;
}

/** What of a server decides about templates. */
export interface ServerCapabilities {
  /** `1.37.1`, without the v. */
  readonly version: string;
  readonly apiVersions: readonly string[];
}

/** Settings of the chart, by what the table calls them. */
function chartSettings(server: ServerCapabilities): readonly (readonly [name: string, args: readonly string[]])[] {
  const isNew = server.apiVersions.includes("storage.k8s.io/v1/VolumeAttributesClass");
  const everything = ["everything.yaml", ...(isNew ? ["everything-newest.yaml"] : [])];
  return [
    ["chart, defaults", []],
    ["chart, trial storage", ["--set", "storage.enabled=true"]],
    ["chart, everything on", everything.flatMap((file) => ["--values", join(VALUES, file)])],
  ];
}

/** Every manifest of the repository for this server: the chart in three settings, and all that is below deploy/. */
export async function renderAll(helm: string, server: ServerCapabilities): Promise<Rendering[]> {
  const fromChart = await Promise.all(
    chartSettings(server).map(async ([name, args]) => ({
      name,
      manifest: await run(helm, [...templateArgs(server), ...args]),
      isInstallation: true,
    })),
  );
  return [
    ...fromChart,
    ...manifestsOf(join("deploy", "kubernetes"), true),
    ...manifestsOf(join("deploy", "examples"), false),
    ...manifestsOf(join("deploy", "e2e"), false),
  ];
}

function templateArgs(server: ServerCapabilities): string[] {
  const versions = server.apiVersions.flatMap((version) => ["--api-versions", version]);
  return ["template", "hawser", CHART, "--namespace", NAMESPACE, "--kube-version", server.version, ...versions];
}

/** Files that are for other programs than the API server. */
const NO_OBJECTS = ["kustomization.yaml", "testdriver.yaml"];

/** The other files of a folder, in order. */
function manifestsOf(folder: string, isInstallation: boolean): Rendering[] {
  if (!existsSync(folder)) throw new Error(`${folder} is not there: run this from the top of the repository`);
  return readdirSync(folder)
    .filter((file) => file.endsWith(".yaml") && !NO_OBJECTS.includes(file))
    .sort()
    .map((file) => ({ name: join(folder, file), manifest: readFileSync(join(folder, file), "utf8"), isInstallation }));
}

/** `1.26` of a chart that says `kubeVersion: ">=1.26.0-0"`. Throws when the chart says it in another way. */
export function oldestSupportedMinor(): string {
  const chart = readFileSync(join(CHART, "Chart.yaml"), "utf8");
  const minor = /^kubeVersion:\s*["']?>=\s*(1\.\d+)\./m.exec(chart)?.[1];
  if (minor === undefined) throw new Error(`${CHART}/Chart.yaml has no kubeVersion of the form ">=1.N.0-0"`);
  return minor;
}
