import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";

const root = join(__dirname, "..", "..");

function filesBelow(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return entry.name === "node_modules" ? [] : filesBelow(path);
    return [path];
  });
}

const sources = [...filesBelow("src"), ...filesBelow("test")].filter((path) => path.endsWith(".ts"));
const pages = [
  "README.md",
  "CONTRIBUTING.md",
  "CHANGELOG.md",
  ...filesBelow("docs").filter((path) => path.endsWith(".md")),
];

const read = (path: string): string => readFileSync(join(root, path), "utf8");

it("has no file of more than 400 lines", () => {
  const long = sources.filter((path) => read(path).split("\n").length > 401);
  expect(long).toEqual([]);
});

it("leaves no marker of unfinished work", () => {
  const marker = new RegExp(["TO", "DO|FIX", "ME|XX", "X"].join(""));
  expect(sources.filter((path) => marker.test(read(path)))).toEqual([]);
});

it("names files in kebab-case", () => {
  expect(sources.filter((path) => !/^[a-z0-9.-]+$/.test(path.split("/").at(-1) ?? ""))).toEqual([]);
});

it("links only to files that exist", () => {
  const broken = pages.flatMap((page) =>
    [...read(page).matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)]
      .map((match) => match[1] ?? "")
      .filter((link) => !existsSync(join(root, dirname(page), link)))
      .map((link) => `${page}: ${link}`),
  );
  expect(broken).toEqual([]);
});

it("tests every layer", () => {
  const layers = readdirSync(join(root, "src")).filter((name) => statSync(join(root, "src", name)).isDirectory());
  const empty = new Set(["config", "multipath"]);
  const untested = layers.filter((layer) => !empty.has(layer) && !existsSync(join(root, "test", "unit", layer)));
  expect(untested).toEqual([]);
});

it("keeps scripts executable", () => {
  const scripts = ["scripts/test", "scripts/quickstart", "scripts/e2e", "scripts/render", ".ci/run"];
  expect(scripts.filter((path) => (statSync(join(root, path)).mode & 0o111) === 0)).toEqual([]);
});
