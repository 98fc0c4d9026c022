import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import {
  CHART,
  describeWithHelm,
  HELM_TIMEOUT_MS,
  helmProgram,
  type Json,
  render,
  type Rendered,
} from "../support/helm.js";
import { SIDECAR_GROUPS } from "./sidecar-values.js";
import { VALUE_GROUPS } from "./value-groups.js";
import type { ValueGroup } from "./value-rows.js";

const groups = [...VALUE_GROUPS, ...SIDECAR_GROUPS];
/** Maps that Kubernetes defines: a row sets the whole map. */
const WHOLE_MAPS = /\.(resources|nodeSelector|rollingUpdate)$/;

/** The paths of everything that values.yaml sets: scalars, lists, empty maps. */
function leaves(value: Json, path: string): readonly string[] {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return [path];
  const entries = Object.entries(value);
  return entries.length === 0
    ? [path]
    : entries.flatMap(([name, item]) => leaves(item, path === "" ? name : `${path}.${name}`));
}

const values = parse(readFileSync(join(CHART, "values.yaml"), "utf8")) as Json;
const paths = leaves(values, "");
const rowPaths = new Set(groups.flatMap(({ rows }) => rows.map(([path]) => path)));

describe("the table of values", () => {
  it("has a row for every value", () => {
    const isCovered = (leaf: string): boolean =>
      rowPaths.has(leaf) || [...rowPaths].some((path) => WHOLE_MAPS.test(path) && leaf.startsWith(`${path}.`));
    expect(paths.length).toBeGreaterThan(150);
    expect(paths.filter((leaf) => !isCovered(leaf))).toEqual([]);
  });

  it("has no row for a value that is not there", () => {
    const isThere = (path: string): boolean => paths.some((leaf) => leaf === path || leaf.startsWith(`${path}.`));
    expect([...rowPaths].filter((path) => !isThere(path))).toEqual([]);
  });
});

describeWithHelm("values of the chart", () => {
  const rendered = new Map<string, Promise<Rendered>>();

  /** Many groups start from the same values: those are rendered once. */
  function before(group: ValueGroup): Promise<Rendered> {
    const { given = {}, apiVersions = [] } = group;
    const key = JSON.stringify([given, apiVersions]);
    const known = rendered.get(key) ?? render({ values: given, apiVersions });
    rendered.set(key, known);
    return known;
  }

  beforeAll(() => void helmProgram(), HELM_TIMEOUT_MS);

  it.each(groups.map((group) => [group.title, group] as const))("%s", async (_title, group) => {
    const set = Object.fromEntries(group.rows.map(([path, value]) => [path, value]));
    const options = { values: { ...group.given, ...set }, apiVersions: group.apiVersions ?? [] };
    const [without, with_] = await Promise.all([before(group), render(options)]);
    for (const [path, , object, place, expected] of group.rows) {
      expect({ path, place, is: with_.at(object, place) }).toEqual({ path, place, is: expected });
      // A row that would hold without the value proves nothing.
      expect({ path, place, was: without.at(object, place) }).not.toEqual({ path, place, was: expected });
    }
  });
});
