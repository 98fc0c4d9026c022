import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as limits from "../../src/base/limits.js";

const root = join(__dirname, "..", "..");

/** docs/limits.md from the constants and their comments. */
function limitsPage(): string {
  const source = readFileSync(join(root, "src/base/limits.ts"), "utf8");
  const rows = [...source.matchAll(/\/\*\*\s*((?:[^*]|\*(?!\/))*?)\s*\*\/\nexport const (\w+)/g)].map((match) => {
    const [, comment = "", name = ""] = match;
    const value = (limits as Readonly<Record<string, unknown>>)[name];
    const reason = comment.replace(/\s*\n\s*\*\s*/g, " ").replace(/\|/g, "\\|");
    return `| \`${name}\` | ${Number(value).toLocaleString("en")} | ${reason} |`;
  });
  return [
    "# Limits",
    "",
    "Everything is bounded. This page is made from `src/base/limits.ts` (`UPDATE_DOCS=1 npx jest test/unit/generated-docs`).",
    "",
    "| limit | value | what and why |",
    "|---|---|---|",
    ...rows,
    "",
  ].join("\n");
}

it("documents every limit with its reason", () => {
  const path = join(root, "docs/limits.md");
  const page = limitsPage();
  if (process.env["UPDATE_DOCS"] === "1") writeFileSync(path, page);
  expect(page.split("\n").length).toBe(Object.keys(limits).length + 7);
  expect(readFileSync(path, "utf8")).toBe(page);
});
