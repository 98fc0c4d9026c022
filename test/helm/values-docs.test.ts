import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";

const root = join(__dirname, "..", "..");
const chart = join(root, "charts", "hawser");

interface Schema {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly enum?: readonly unknown[];
  readonly properties?: Readonly<Record<string, Schema>>;
}

type Values = Readonly<Record<string, unknown>>;

const cell = (text: string): string => text.replaceAll("|", "\\|");

/** What may be written: the choices, or the type. */
function kindOf(schema: Schema): string {
  if (schema.enum !== undefined) return schema.enum.map((choice) => `\`${JSON.stringify(choice)}\``).join(", ");
  return [schema.type ?? "any"].flat().join(" or ");
}

/** A row for each value, parents left out: `path | kind | default | what`. */
function rows(schema: Schema, value: unknown, path: string): readonly string[] {
  const names = Object.entries(schema.properties ?? {}).filter(([name]) => name in ((value ?? {}) as Values));
  if (names.length > 0 && !path.endsWith(".resources")) {
    return names.flatMap(([name, below]) =>
      rows(below, (value as Values)[name], path === "" ? name : `${path}.${name}`),
    );
  }
  const given = cell(JSON.stringify(value));
  return [`| \`${path}\` | ${cell(kindOf(schema))} | \`${given}\` | ${cell(schema.description ?? "")} |`];
}

/** docs/values.md from values.yaml and values.schema.json. */
function valuesPage(): string {
  const schema = JSON.parse(readFileSync(join(chart, "values.schema.json"), "utf8")) as Schema;
  const values = parse(readFileSync(join(chart, "values.yaml"), "utf8")) as Values;
  const sections = Object.entries(schema.properties ?? {}).map(([name, below]) => ({
    name,
    below,
    isGroup: below.properties !== undefined,
  }));
  const table = (lines: readonly string[]): readonly string[] => [
    "| value | kind | default | what |",
    "|---|---|---|---|",
    ...lines,
  ];
  const plain = sections.filter(({ isGroup }) => !isGroup);
  return [
    "# Values of the chart",
    "",
    "This page is made from `values.yaml` and `values.schema.json` of `charts/hawser` (`UPDATE_DOCS=1 npx jest test/helm/values-docs`). Unknown values are refused.",
    "",
    "## General",
    "",
    ...table(plain.flatMap(({ name, below }) => rows(below, values[name], name))),
    ...sections
      .filter(({ isGroup }) => isGroup)
      .flatMap(({ name, below }) => [
        "",
        `## ${name}`,
        "",
        below.description ?? "",
        "",
        ...table(rows(below, values[name], name)),
      ]),
    "",
  ].join("\n");
}

it("documents every value with its default and meaning", () => {
  const path = join(root, "docs", "values.md");
  const page = valuesPage();
  if (process.env["UPDATE_DOCS"] === "1") writeFileSync(path, page);
  expect(page.match(/^\| `/gm)?.length).toBeGreaterThan(170);
  expect(readFileSync(path, "utf8")).toBe(page);
});
