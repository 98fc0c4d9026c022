import type { Cluster } from "./cluster.js";
import { RELEASE_NAMESPACE } from "./release.js";

const LOG_LINES = 40;

/** What somebody needs who reads of a failed scenario: its objects, events, and the last lines of the driver's logs. */
export async function diagnose(cluster: Cluster, namespace: string): Promise<string> {
  const looks: readonly (readonly string[])[] = [
    ["-n", namespace, "get", "pods,pvc", "-o", "wide"],
    ["-n", namespace, "describe", "pods,pvc"],
    ["get", "pv,volumeattachments"],
    ["-n", RELEASE_NAMESPACE, "get", "pods", "-o", "wide"],
    ["-n", RELEASE_NAMESPACE, "get", "events", "--sort-by=.lastTimestamp"],
    ...["controller", "node", "dataplane"].map((component) => [
      ...["-n", RELEASE_NAMESPACE, "logs", "--prefix", "--all-containers", `--tail=${LOG_LINES}`],
      ...["-l", `app.kubernetes.io/component=${component}`],
    ]),
  ];
  const answers: string[] = [];
  for (const args of looks) {
    const text = await cluster.kubectl(args).catch((error: unknown) => (error as Error).message);
    answers.push(`--- kubectl ${args.join(" ")}\n${text.trimEnd()}`);
  }
  return answers.join("\n");
}
