import { CommandError, field, until, type KubeObject } from "./cluster.js";
import type { ScenarioContext } from "./scenario.js";

/** Time for a pod to run: volumes are made, attached and formatted before; the machine may be small. */
const POD_TIMEOUT_MS = 120_000;

export function isReady(pod: KubeObject): boolean {
  const conditions = field(pod, "status", "conditions") as readonly { type: string; status: string }[] | undefined;
  return conditions?.some(({ type, status }) => type === "Ready" && status === "True") === true;
}

/** Waits until the pod is ready. */
export async function podReady(context: ScenarioContext, name: string): Promise<KubeObject> {
  return until(
    async () => {
      const pod = await context.cluster.find("pod", name, context.namespace);
      return pod !== undefined && pod.metadata.deletionTimestamp === undefined && isReady(pod) ? pod : undefined;
    },
    { what: `pod ${context.namespace}/${name} to be ready`, timeoutMs: POD_TIMEOUT_MS },
  );
}

/** Waits until the claim is bound; returns the name of its PersistentVolume. */
export async function claimBound(context: ScenarioContext, name: string, timeoutMs = 60_000): Promise<string> {
  return until(
    async () => {
      const claim = await context.cluster.find("pvc", name, context.namespace);
      if (field(claim, "status", "phase") !== "Bound") return undefined;
      return field(claim, "spec", "volumeName") as string;
    },
    { what: `claim ${context.namespace}/${name} to be bound`, timeoutMs },
  );
}

/** Deletes a pod of the scenario and waits until it is gone. */
export async function deletePod(context: ScenarioContext, name: string): Promise<void> {
  await context.cluster.kubectl(["-n", context.namespace, "delete", "pod", name, "--wait=true"], {
    timeoutMs: 90_000,
  });
}

/** Runs a shell line in a pod; standard output without the last line end. */
export async function inPod(context: ScenarioContext, pod: string, line: string): Promise<string> {
  const text = await context.cluster.kubectl(["-n", context.namespace, "exec", pod, "--", "sh", "-c", line]);
  return text.trimEnd();
}

/** Runs a shell line that has to fail; returns what it said. Rejects when it succeeds. */
export async function inPodRefused(context: ScenarioContext, pod: string, line: string): Promise<string> {
  try {
    await inPod(context, pod, line);
  } catch (error) {
    if (error instanceof CommandError) return error.output;
    throw error;
  }
  throw new Error(`this succeeded in pod ${pod} and must not: ${line}`);
}

/** Writes random bytes to a file of a pod and syncs them; returns their SHA-256. */
export async function writeRandom(context: ScenarioContext, pod: string, path: string, mib: number): Promise<string> {
  const line = `dd if=/dev/urandom of=${path} bs=1M count=${mib} conv=fsync status=none && sha256sum < ${path}`;
  return (await inPod(context, pod, line)).split(" ")[0] ?? "";
}

/** SHA-256 of the first `mib` MiB of a file or device of a pod. */
export async function digestOf(context: ScenarioContext, pod: string, path: string, mib: number): Promise<string> {
  const text = await inPod(context, pod, `head -c ${mib * 1_048_576} ${path} | sha256sum`);
  return text.split(" ")[0] ?? "";
}

/** Seconds since `startedAt` (Date.now()), with one digit. */
export function secondsSince(startedAt: number): number {
  return Math.round((Date.now() - startedAt) / 100) / 10;
}
