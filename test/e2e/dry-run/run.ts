/**
 * Shows every manifest of this repository to real API servers, the newest release and the oldest supported one:
 * `scripts/e2e --dry-run`. No nodes, no controllers, no root. A refusal fails, and so does a warning, because a
 * warning is how an API server announces what the next release refuses.
 */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CACHE, VERSIONS } from "../cluster/layout.js";
import { progress } from "../cluster/process.js";
import { hasProgram } from "../../support/needs.js";
import { judgeServer, type Verdict } from "./judge.js";
import { ensureHelm, ensureKubernetes, snapshotDefinitions } from "./programs.js";
import { oldestSupportedMinor } from "./renderings.js";

/** The last release of the oldest minor version the chart supports. */
const OLDEST = "v1.26.15";

async function main(): Promise<number> {
  if (!OLDEST.startsWith(`v${oldestSupportedMinor()}.`)) {
    throw new Error(
      `the chart supports Kubernetes ${oldestSupportedMinor()}, but ${OLDEST} is tried: change OLDEST in run.ts`,
    );
  }
  if (!hasProgram("etcd")) throw new Error("etcd is missing: install the Debian package etcd-server");
  const helm = await ensureHelm();
  const kubectl = await ensureKubernetes(VERSIONS.kubernetes, "kubectl");
  const definitions = await snapshotDefinitions();
  const directory = await mkdtemp(join(tmpdir(), "hawser-dry-run-"));
  const verdicts: Verdict[] = [];
  try {
    for (const release of [VERSIONS.kubernetes, OLDEST]) {
      const kubeApiserver = await ensureKubernetes(release, "kube-apiserver");
      progress(`asking an API server of ${release}`);
      const tools = { helm, kubectl, kubeApiserver, definitions };
      verdicts.push(...(await judgeServer(release, tools, join(directory, release))));
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
  console.log(`\n${table(verdicts)}\n`);
  const results = join(CACHE, "results");
  await mkdir(results, { recursive: true });
  await writeFile(join(results, "dry-run.json"), `${JSON.stringify(verdicts, undefined, 2)}\n`);
  const bad = verdicts.filter(({ problems }) => problems.length > 0);
  for (const { release, rendering, problems } of bad) {
    console.log(`${release} ${rendering}:\n${problems.map((problem) => `  ${problem}`).join("\n")}`);
  }
  const objects = verdicts.reduce((sum, verdict) => sum + verdict.objects, 0);
  const outcome = bad.length === 0 ? "all accepted without a warning" : `${bad.length} not accepted`;
  console.log(`Verdict: ${verdicts.length} manifests, ${objects} objects, ${outcome}.`);
  return bad.length === 0 ? 0 : 1;
}

function table(verdicts: readonly Verdict[]): string {
  const head = ["release", "manifest", "objects", "warnings", "rights granted/refused", "verdict"];
  const rows = verdicts.map((verdict) => [
    verdict.release,
    verdict.rendering,
    String(verdict.objects),
    String(verdict.warnings),
    verdict.permissions === undefined ? "-" : `${verdict.permissions.granted}/${verdict.permissions.refused}`,
    verdict.problems.length === 0 ? "accepted" : "NOT ACCEPTED",
  ]);
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  return [head, ...rows]
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

main().then(
  (code) => (process.exitCode = code),
  (error: unknown) => {
    console.error(`error: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  },
);
