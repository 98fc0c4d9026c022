import { execFile, execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { parseAllDocuments } from "yaml";
import { hasFile, hasProgram } from "./needs.js";

const run = promisify(execFile);
const root = join(__dirname, "..", "..");

export const CHART = join(root, "charts", "hawser");
/** Building helm takes minutes where Go has never built it. */
export const HELM_TIMEOUT_MS = 900_000;

export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };
export type JsonMap = Readonly<Record<string, Json>>;

/** How a chart is rendered. Unless told, as release `hawser` in namespace `hawser` for Kubernetes 1.37. */
export interface RenderOptions {
  readonly values?: JsonMap;
  readonly release?: string;
  readonly namespace?: string;
  readonly kubeVersion?: string;
  readonly apiVersions?: readonly string[];
}

/** `describe` where there is a helm or Go to build one, else a skipped block that says so. */
export function describeWithHelm(title: string, body: () => void): void {
  const canHave = hasProgram("helm") || hasProgram("go") || hasFile("/usr/local/go/bin/go");
  if (canHave || hasFile(join(root, ".cache", "bin", "helm"))) describe(title, body);
  else describe.skip(`${title} [skipped: this machine has no helm, and no go to build it]`, body);
}

let program: string | undefined;

/** The path of a helm program; builds one when there is none. */
export function helmProgram(): string {
  program ??= execFileSync(join(root, "scripts", "lib", "helm.sh"), {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  }).trim();
  return program;
}

/** Runs helm; rejects with what it printed on standard error. */
export async function helm(args: readonly string[]): Promise<string> {
  try {
    return (await run(helmProgram(), [...args], { maxBuffer: 64 << 20 })).stdout;
  } catch (error) {
    // An error of our own: one made outside the test's context is no instance of its Error.
    throw new Error((error as { readonly stderr?: string }).stderr ?? String(error), { cause: error });
  }
}

function flagsOf(options: RenderOptions): string[] {
  return [
    ...["--namespace", options.namespace ?? "hawser", "--kube-version", options.kubeVersion ?? "1.37.0"],
    ...(options.apiVersions ?? []).flatMap((version) => ["--api-versions", version]),
    ...setFlags(options.values ?? {}),
  ];
}

function setFlags(values: JsonMap): string[] {
  return Object.entries(values).flatMap(([name, value]) => ["--set-json", `${name}=${JSON.stringify(value)}`]);
}

/** The objects of the chart. */
export async function render(options: RenderOptions = {}): Promise<Rendered> {
  return new Rendered(await helm(["template", options.release ?? "hawser", CHART, ...flagsOf(options)]));
}

/** Why helm refuses to render the chart; fails when it does not refuse. */
export async function refusal(options: RenderOptions): Promise<string> {
  const failure: unknown = await render(options).then(
    () => undefined,
    (error: unknown) => error,
  );
  if (failure instanceof Error) return failure.message;
  throw new Error(`helm accepted ${JSON.stringify(options)}`);
}

/**
 * What NOTES.txt says. helm prints it to those who have a cluster alone; so a copy of the chart renders it as a field of
 * an object.
 */
export async function notes(values: JsonMap = {}): Promise<string> {
  const copy = mkdtempSync(join(tmpdir(), "hawser-chart-"));
  try {
    cpSync(CHART, copy, { recursive: true });
    cpSync(join(copy, "templates", "NOTES.txt"), join(copy, "notes"));
    writeFileSync(
      join(copy, "templates", "notes.yaml"),
      'kind: Notes\ntext: {{ tpl (.Files.Get "notes") . | toJson }}\n',
    );
    const [object] = new Rendered(await helm(["template", "hawser", copy, ...flagsOf({ values })])).ofKind("Notes");
    return textOf(object?.["text"]);
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

/** Objects by `Kind/name`, or `Kind/namespace/name` where two have one name. */
export class Rendered {
  readonly text: string;
  readonly objects: readonly JsonMap[];

  constructor(text: string) {
    this.text = text;
    this.objects = parseAllDocuments(text).flatMap((document) => {
      const [error] = "errors" in document ? document.errors : [];
      if (error !== undefined) throw new Error(`not YAML: ${error.message}`);
      const object = document.toJS() as JsonMap | null;
      return object === null ? [] : [object];
    });
  }

  ofKind(kind: string): readonly JsonMap[] {
    return this.objects.filter((object) => object["kind"] === kind);
  }

  /** The object, or undefined. */
  find(address: string): JsonMap | undefined {
    const [kind = "", ...rest] = address.split("/");
    const name = rest.at(-1);
    const found = this.ofKind(kind).filter(
      (object) =>
        at(object, "metadata.name") === name && (rest.length < 2 || at(object, "metadata.namespace") === rest[0]),
    );
    if (found.length > 1) throw new Error(`${address} is there ${found.length} times`);
    return found[0];
  }

  /** What is at a place of an object, undefined when either is not there. See `at`. */
  at(address: string, place: string): Json | undefined {
    return at(this.find(address), place);
  }
}

const STEP = /\.?([A-Za-z0-9_-]+)|\["([^"]+)"\]|\[([^=\]]+)=([^\]]+)\]|\{([^}]+)\}/gy;

/**
 * What is at a place: `spec.replicas`; `containers[name=hawser]` takes the item of a list by a field, `["a.b/c"]` a name
 * with dots, `{--flag}` the value of a flag in a list of arguments (true for a flag without one).
 */
export function at(value: Json | undefined, place: string): Json | undefined {
  let here = value;
  let length = 0;
  for (const [text, name, quoted, field, wanted, flag] of place.matchAll(STEP)) {
    length += text.length;
    if (here === undefined || here === null || typeof here !== "object") return undefined;
    if (flag !== undefined) here = flagIn(here, flag);
    else if (field !== undefined) here = asList(here).find((item) => at(item, field) === wanted);
    else here = (here as JsonMap)[quoted ?? name ?? ""];
  }
  if (length !== place.length) throw new Error(`"${place}" is no place`);
  return here;
}

/** A value as text: a text as it is, everything else as JSON. */
export function textOf(value: Json | undefined): string {
  return typeof value === "string" ? value : JSON.stringify(value ?? null);
}

/** A value as a list: empty when it is none. */
export function asList(value: Json | undefined): readonly Json[] {
  return Array.isArray(value) ? (value as readonly Json[]) : [];
}

function flagIn(value: Json, flag: string): Json | undefined {
  const found = asList(value).filter((item) => item === flag || textOf(item).startsWith(`${flag}=`));
  if (found.length > 1) return found.map((item) => textOf(item).slice(flag.length + 1));
  const [only] = found;
  if (only === undefined) return undefined;
  return only === flag ? true : textOf(only).slice(flag.length + 1);
}

/** A pod template with the address of what it is of. */
export interface PodTemplate {
  readonly owner: string;
  readonly spec: JsonMap;
}

/** Every pod that the objects make, hooks included. */
export function podsOf(rendered: Rendered): readonly PodTemplate[] {
  return rendered.objects.flatMap((object) => {
    const owner = `${textOf(object["kind"])}/${textOf(at(object, "metadata.name"))}`;
    const spec = object["kind"] === "Pod" ? object["spec"] : at(object, "spec.template.spec");
    return spec === undefined ? [] : [{ owner, spec: spec as JsonMap }];
  });
}

/** Every container of a pod, init containers included. */
export function containersOf(pod: PodTemplate): readonly JsonMap[] {
  return [...asList(pod.spec["initContainers"]), ...asList(pod.spec["containers"])] as readonly JsonMap[];
}
