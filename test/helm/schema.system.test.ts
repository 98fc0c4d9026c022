import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import {
  CHART,
  describeWithHelm,
  HELM_TIMEOUT_MS,
  helmProgram,
  type Json,
  type JsonMap,
  refusal,
} from "../support/helm.js";

interface Schema {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly enum?: readonly Json[];
  readonly pattern?: string;
  readonly minimum?: number;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: boolean | Schema;
  readonly items?: Schema;
}

const schema = JSON.parse(readFileSync(join(CHART, "values.schema.json"), "utf8")) as Schema;
const values = parse(readFileSync(join(CHART, "values.yaml"), "utf8")) as Json;

interface Place {
  readonly path: string;
  readonly schema: Schema;
}

/** Every value that the schema describes, below lists too, where it is given as the path of the first item. */
function places(here: Schema, path: string): readonly Place[] {
  const below = Object.entries(here.properties ?? {}).flatMap(([name, property]) =>
    places(property, path === "" ? name : `${path}.${name}`),
  );
  return [{ path, schema: here }, ...below, ...(here.items === undefined ? [] : places(here.items, `${path}[0]`))];
}

const all = places(schema, "");
const settable = all.filter(({ path }) => path !== "" && !path.includes("[0]"));
/** Kubernetes' own maps: their names are checked by the API server. */
const FREE_MAPS =
  /^(global|.*\.(affinity|rollingUpdate|podSecurityContext|securityContext|requests|limits|tolerations\[0\]|topologySpreadConstraints\[0\]|valueFrom))$/;

/** As helm writes a path in an error. */
const pointer = (path: string): string =>
  path === "" ? "''" : `'/${path.replace(/\[0\]/g, "/0").replaceAll(".", "/")}'`;

describe("values.schema.json", () => {
  it("describes every value of values.yaml", () => {
    const known = new Set(all.map(({ path }) => path));
    const walk = (value: Json, path: string): readonly string[] => [
      path,
      ...(value !== null && typeof value === "object" && !Array.isArray(value)
        ? Object.entries(value as JsonMap).flatMap(([name, item]) => walk(item, path === "" ? name : `${path}.${name}`))
        : []),
    ];
    const isFree = (path: string): boolean => /\.(nodeSelector|rollingUpdate)\.|\.resources\.requests\./.test(path);
    expect(walk(values, "").filter((path) => !known.has(path) && !isFree(path))).toEqual([]);
  });

  it("has a default in values.yaml for every value it describes", () => {
    const valueAt = (path: string): Json | undefined =>
      path.split(".").reduce<Json | undefined>((here, name) => (here as JsonMap | undefined)?.[name], values);
    const optional = /\.resources\.(limits|claims)$/;
    expect(settable.filter(({ path }) => valueAt(path) === undefined && !optional.test(path))).toEqual([]);
  });

  it("says of every value what it is", () => {
    const isPlainItem = (place: Place): boolean => place.path.endsWith("[0]") && place.schema.properties === undefined;
    const silent = all.filter((place) => !isPlainItem(place) && !/^.+[.]$/s.test(place.schema.description ?? ""));
    expect(silent.map(({ path }) => path)).toEqual([]);
  });

  it("is closed wherever Kubernetes does not decide the names", () => {
    const open = all.filter(
      ({ schema: { properties, type, additionalProperties }, path }) =>
        (properties !== undefined || type === "object") &&
        additionalProperties !== false &&
        typeof additionalProperties !== "object" &&
        !FREE_MAPS.test(path),
    );
    expect(open.map(({ path }) => path)).toEqual([]);
  });
});

describeWithHelm("values that helm refuses", () => {
  beforeAll(() => void helmProgram(), HELM_TIMEOUT_MS);

  it("unknown names at every level, by name", async () => {
    const levels = settable.filter(
      ({ schema: here }) => here.properties !== undefined && here.additionalProperties === false,
    );
    const message = await refusal({
      values: { strange: 1, ...Object.fromEntries(levels.map(({ path }) => [`${path}.strange`, 1])) },
    });
    expect(levels.length).toBeGreaterThan(40);
    const unnamed = ["", ...levels.map(({ path }) => path)].filter(
      (path) => !message.includes(`at ${pointer(path)}: additional properties 'strange' not allowed`),
    );
    expect(unnamed).toEqual([]);
  });

  it("unknown names in items of lists", async () => {
    const message = await refusal({
      values: {
        storageClasses: [{ name: "a", strange: 1, secrets: { strange: { name: "a", namespace: "b" } } }],
        volumeSnapshotClasses: [{ name: "a", strange: 1 }],
        volumeAttributesClasses: [{ name: "a", parameters: {}, strange: 1 }],
        imagePullSecrets: [{ name: "a", strange: 1 }],
        "node.extraEnv": [{ name: "a", strange: 1 }],
      },
    });
    for (const path of [
      "storageClasses[0]",
      "storageClasses[0].secrets",
      "volumeSnapshotClasses[0]",
      "volumeAttributesClasses[0]",
      "imagePullSecrets[0]",
      "node.extraEnv[0]",
    ]) {
      expect(message).toContain(`at ${pointer(path)}: additional properties 'strange' not allowed`);
    }
  });

  it("values of a wrong type, by name", async () => {
    const wrong = (type: string): Json => (type === "string" || type === "object" ? true : { wrong: true });
    const leaves = settable.filter(
      ({ schema: here }) => typeof here.type === "string" && here.properties === undefined,
    );
    // helm itself drops what is no map where values.yaml has one, with a warning; it never reaches the schema.
    const tested = leaves.filter(({ schema: here }) => here.type !== "object");
    const message = await refusal({
      values: Object.fromEntries(tested.map(({ path, schema: here }) => [path, wrong(String(here.type))])),
    });
    expect(tested.length).toBeGreaterThan(120);
    expect(tested.filter(({ path }) => !message.includes(`at ${pointer(path)}:`)).map(({ path }) => path)).toEqual([]);
  });

  it("words that are no choice, by name and with the choices", async () => {
    const choices = settable.filter(({ schema: here }) => here.enum !== undefined);
    const message = await refusal({ values: Object.fromEntries(choices.map(({ path }) => [path, "nonsense"])) });
    expect(choices.length).toBeGreaterThan(20);
    expect(
      choices
        .filter(({ path }) => !message.includes(`at ${pointer(path)}: value must be one of `))
        .map(({ path }) => path),
    ).toEqual([]);
  });

  it("numbers below their bound, by name", async () => {
    const bounded = settable.filter(({ schema: here }) => here.type === "integer" && here.minimum !== undefined);
    const message = await refusal({
      values: Object.fromEntries(bounded.map(({ path, schema: here }) => [path, (here.minimum ?? 0) - 1])),
    });
    expect(bounded.length).toBeGreaterThan(30);
    expect(bounded.filter(({ path }) => !message.includes(`at ${pointer(path)}: minimum: got`))).toEqual([]);
  });

  it.each<[path: string, value: Json, says: string]>([
    ["kubeletPath", "var/lib/kubelet", "does not match pattern"],
    ["kubeletPath", "/var/lib/kubelet/", "does not match pattern"],
    ["clusterId", "a b", "does not match pattern"],
    ["health.bindHost", "::", "does not match pattern"],
    ["image.digest", "sha256:1", "does not match pattern"],
    ["image.tag", "latest", "'not' failed"],
    ["sidecars.attacher.image.tag", "", "minLength"],
    ["sidecars.attacher.timeout", "60", "does not match pattern"],
    ["node.capabilities", ["CAP_SYS_ADMIN"], "'not' failed"],
    ["node.capabilities", ["ALL"], "'not' failed"],
    ["dataplane.capabilities", [], "minItems"],
    ["storage.ports", [], "minItems"],
    ["storage.ports", [80], "minimum"],
    ["storage.advertise", ["10.0.0.1"], "does not match pattern"],
    ["storage.hostPath", "srv", "does not match pattern"],
    ["storage.persistence.size", "much", "does not match pattern"],
    ["node.updateStrategy.maxUnavailable", "many", "does not match pattern"],
    ["csiDriver.nodeAllocatableUpdatePeriodSeconds", 5, "'anyOf' failed"],
    ["storageClasses", [{}], "missing property 'name'"],
    ["storageClasses", [{ name: "a", fsType: "ntfs" }], "value must be one of"],
    ["storageClasses", [{ name: "a", secrets: { nodeStage: { name: "a" } } }], "missing property 'namespace'"],
  ])("%s = %j", async (path, value, says) => {
    const message = await refusal({ values: { [path]: value } });
    expect(message).toContain(`'/${path.replaceAll(".", "/")}`);
    expect(message).toContain(says);
  });
});
