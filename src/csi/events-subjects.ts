import { createHash } from "node:crypto";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { errorCode, errorMessage } from "../base/errors.js";
import { KeyedMutex } from "../base/keyed-mutex.js";
import { MAX_EVENT_SUBJECT_BYTES, MAX_PODS_PER_VOLUME } from "../base/limits.js";
import type { Logger } from "../base/logger.js";
import { makePrivateDirectory, removeFileDurably, TEMPORARY_PREFIX, writeFileDurably } from "../host/durable-file.js";
import type { EventObject } from "./events.js";

/** Names of objects as Kubernetes forms them; what is none is not reported on. */
const objectName = z.string().regex(/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/);
const namespaceName = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/);
const uid = z.string().regex(/^[A-Za-z0-9.-]{0,128}$/);

const subjectSchema = z.object({
  version: z.literal(1),
  volumeHandle: z.string().min(1),
  claim: z.object({ namespace: namespaceName, name: objectName, uid }).optional(),
  pods: z
    .array(z.object({ targetPath: z.string().min(1), namespace: namespaceName, name: objectName, uid }))
    .max(MAX_PODS_PER_VOLUME),
  /** Was it said already what staging showed? */
  isStaged: z.boolean(),
});

type Subject = Readonly<z.infer<typeof subjectSchema>>;
type TextMap = Readonly<Record<string, string>>;

/** The claim that a volume context names, as far as it is one. */
export function claimOf(context: TextMap): EventObject | undefined {
  const namespace = namespaceName.safeParse(context["csi.storage.k8s.io/pvc/namespace"]).data;
  const name = objectName.safeParse(context["csi.storage.k8s.io/pvc/name"]).data;
  if (namespace === undefined || name === undefined) return undefined;
  // The provisioner names a PersistentVolume after the uid of its claim, unless it is told otherwise.
  const match = /^pvc-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/.exec(context["csi.storage.k8s.io/pv/name"] ?? "");
  return { kind: "PersistentVolumeClaim", namespace, name, uid: match?.[1] ?? "" };
}

/** The pod that a volume context names (podInfoOnMount), as far as it is one. */
export function podOf(context: TextMap): EventObject | undefined {
  const namespace = namespaceName.safeParse(context["csi.storage.k8s.io/pod.namespace"]).data;
  const name = objectName.safeParse(context["csi.storage.k8s.io/pod.name"]).data;
  if (namespace === undefined || name === undefined) return undefined;
  return { kind: "Pod", namespace, name, uid: uid.safeParse(context["csi.storage.k8s.io/pod.uid"]).data ?? "" };
}

/**
 * Who uses each volume of this node: its claim, and the pods it is published to. One file per volume below DIR/users,
 * so that it is known after a restart. Changes count at once and are written behind: a call never waits for it, and a
 * file that cannot be written costs events, nothing else.
 */
export class EventSubjects {
  readonly #directory: string;
  readonly #logger: Logger;
  readonly #subjects = new Map<string, Subject>();
  readonly #writing = new KeyedMutex();
  readonly #writes = new Set<Promise<void>>();
  #isWarned = false;

  constructor(options: { readonly stateDirectory: string }, dependencies: { readonly logger: Logger }) {
    this.#directory = join(options.stateDirectory, "users");
    this.#logger = dependencies.logger;
  }

  /** Reads what an earlier process knew. Does not fail: what cannot be read is not known. */
  async load(): Promise<void> {
    try {
      const names = await readdir(this.#directory);
      for (const name of names.filter((entry) => !entry.startsWith(TEMPORARY_PREFIX))) {
        const subject = await readSubject(join(this.#directory, name));
        if (subject !== undefined && !this.#subjects.has(subject.volumeHandle)) {
          this.#subjects.set(subject.volumeHandle, subject);
        }
      }
    } catch (error) {
      if (errorCode(error) !== "ENOENT") this.#complain("read", error);
    }
  }

  /** Before a volume is staged: whose it is. */
  begin(volumeHandle: string, claim: EventObject | undefined): void {
    const { claim: known, ...rest } = this.#get(volumeHandle);
    const named = claim === undefined ? known : { namespace: claim.namespace, name: claim.name, uid: claim.uid };
    this.#put(named === undefined ? rest : { ...rest, claim: named });
  }

  /** Notes that the volume is staged; true the first time. */
  staged(volumeHandle: string): boolean {
    const subject = this.#get(volumeHandle);
    if (subject.isStaged) return false;
    this.#put({ ...subject, isStaged: true });
    return true;
  }

  /** Notes that the pod uses the volume; true the first time. */
  published(volumeHandle: string, targetPath: string, pod: EventObject): boolean {
    const subject = this.#get(volumeHandle);
    if (subject.pods.some((other) => other.targetPath === targetPath && other.uid === pod.uid)) return false;
    const others = subject.pods.filter((other) => other.targetPath !== targetPath);
    const { namespace, name, uid: podUid } = pod;
    const pods = [...others, { targetPath, namespace, name, uid: podUid }].slice(-MAX_PODS_PER_VOLUME);
    this.#put({ ...subject, pods });
    return true;
  }

  unpublished(volumeHandle: string, targetPath: string): void {
    const subject = this.#subjects.get(volumeHandle);
    if (subject === undefined) return;
    const pods = subject.pods.filter((pod) => pod.targetPath !== targetPath);
    if (pods.length !== subject.pods.length) this.#put({ ...subject, pods });
  }

  /** The volume has left this node. */
  forget(volumeHandle: string): void {
    if (!this.#subjects.delete(volumeHandle)) return;
    this.#write(volumeHandle);
  }

  claim(volumeHandle: string): EventObject | undefined {
    const claim = this.#subjects.get(volumeHandle)?.claim;
    return claim === undefined ? undefined : { kind: "PersistentVolumeClaim", ...claim };
  }

  pods(volumeHandle: string): readonly EventObject[] {
    const pods = this.#subjects.get(volumeHandle)?.pods ?? [];
    return pods.map(({ namespace, name, uid: podUid }) => ({ kind: "Pod", namespace, name, uid: podUid }));
  }

  /** Resolves when everything is written. */
  async idle(): Promise<void> {
    while (this.#writes.size > 0) await Promise.all(this.#writes);
  }

  #get(volumeHandle: string): Subject {
    return this.#subjects.get(volumeHandle) ?? { version: 1, volumeHandle, pods: [], isStaged: false };
  }

  #put(subject: Subject): void {
    const before = this.#subjects.get(subject.volumeHandle);
    if (before !== undefined && JSON.stringify(before) === JSON.stringify(subject)) return;
    this.#subjects.set(subject.volumeHandle, subject);
    // A volume that was never staged is never unstaged either: nobody would take its file away.
    if (before === undefined && !subject.isStaged && subject.pods.length === 0) return;
    this.#write(subject.volumeHandle);
  }

  #write(volumeHandle: string): void {
    const write = this.#writing
      .run(volumeHandle, async () => {
        // As it is when its turn comes: changes in between need no file of their own.
        const subject = this.#subjects.get(volumeHandle);
        if (subject === undefined) {
          await removeFileDurably(this.#path(volumeHandle));
          return;
        }
        await makePrivateDirectory(this.#directory);
        await writeFileDurably(this.#path(volumeHandle), `${JSON.stringify(subject)}\n`);
      })
      .catch((error: unknown) => this.#complain("written", error))
      .finally(() => this.#writes.delete(write));
    this.#writes.add(write);
  }

  #path(volumeHandle: string): string {
    return join(this.#directory, `${createHash("sha256").update(volumeHandle).digest("hex").slice(0, 40)}.json`);
  }

  #complain(verb: string, error: unknown): void {
    if (this.#isWarned) return;
    this.#isWarned = true;
    this.#logger.warn("users of volumes cannot be kept, after a restart events may miss their pods", {
      ...{ directory: this.#directory, verb, reason: errorMessage(error) },
    });
  }
}

async function readSubject(path: string): Promise<Subject | undefined> {
  try {
    if ((await stat(path)).size > MAX_EVENT_SUBJECT_BYTES) return undefined;
    return subjectSchema.safeParse(JSON.parse(await readFile(path, "utf8"))).data;
  } catch {
    return undefined;
  }
}
