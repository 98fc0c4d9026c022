import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { namedTests, trapOf, TRAPS, trapsPage } from "../../support/trap-table.js";

const root = join(__dirname, "..", "..", "..");
const tests = namedTests(root);

it("has 76 traps, and a test that names each", () => {
  expect(TRAPS).toHaveLength(76);
  const named = new Set(tests.map(({ trap }) => trap));
  expect(TRAPS.flatMap((_, index) => (named.has(index + 1) ? [] : [index + 1]))).toEqual([]);
});

it("knows no test of a trap that is none", () => {
  expect(tests.filter(({ trap }) => trap < 1 || trap > TRAPS.length)).toEqual([]);
});

it("finds the names in the sources, and nothing else", () => {
  const source = readFileSync(join(root, "test/unit/traps/numbering.test.ts"), "utf8");
  const own = tests.filter(({ file }) => file.endsWith("numbering.test.ts"));
  expect(own).toHaveLength(source.match(/^test\(/gm)?.length ?? 0);
  expect(trapOf("trap 07: filled")).toEqual({ trap: 7, title: "filled" });
  expect([trapOf("trap 7: filled"), trapOf("a trap 07: filled"), trapOf("trap 07 filled")]).toEqual([
    undefined,
    undefined,
    undefined,
  ]);
});

it("writes docs/traps.md, which is up to date", () => {
  const path = join(root, "docs/traps.md");
  const page = trapsPage(tests);
  if (process.env["UPDATE_DOCS"] === "1") writeFileSync(path, page);
  expect(readFileSync(path, "utf8")).toBe(page);
});
