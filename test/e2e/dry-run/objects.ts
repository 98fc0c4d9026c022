import { parseAllDocuments } from "yaml";

/** What every Kubernetes object has; the rest is looked at where it is needed. */
export interface KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name?: string;
    readonly namespace?: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly [field: string]: unknown;
}

/** The objects of a manifest; empty documents are left out. Throws with the file's name when it is not YAML. */
export function parseManifest(name: string, text: string): KubernetesObject[] {
  return parseAllDocuments(text).flatMap((document) => {
    const [error] = document.errors;
    if (error !== undefined) throw new Error(`${name} is not YAML: ${error.message}`);
    const value = document.toJS() as KubernetesObject | null | undefined;
    return value === null || value === undefined ? [] : [value];
  });
}

/** The same objects as one List, as kubectl takes it. */
export function toList(objects: readonly KubernetesObject[]): string {
  return JSON.stringify({ apiVersion: "v1", kind: "List", items: objects });
}
