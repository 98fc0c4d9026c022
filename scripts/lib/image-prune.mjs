// Deletes what never runs from an application folder: `node image-prune.mjs DIR`, DIR with dist/ and node_modules/.
// Licences stay: their text has to travel with the code.
import { chmodSync, existsSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";

const root = process.argv[2];
if (root === undefined || !existsSync(join(root, "node_modules"))) {
  console.error(`error: ${root ?? "no folder given"} has no node_modules: give the application's folder`);
  process.exit(1);
}

/** Types, source maps, documentation, sources of native modules, and modules of a runtime that is not Node.js. */
const uselessFile =
  /\.(d\.[cm]?ts|[cm]?ts|map|flow|md|markdown|bare|tsbuildinfo|c|cc|cpp|h|hh|hpp|s|asm|inc|def|cmake|gyp)$|^\.(package-lock\.json|npmignore|eslintrc.*|prettierrc.*|editorconfig|nycrc|travis\.yml)$/i;
const licence = /^(licen[cs]e|notice|copying|copyright)/i;
/** Folders at the top of a package; deeper down such a name may be code. */
const uselessFolder =
  /^(test|tests|__tests__|spec|example|examples|doc|docs|bench|benchmark|benchmarks|coverage|\.github|\.vscode|typings|man)$/i;
/** koffi's package for one platform has a build for glibc and one for musl; Debian has glibc. */
const foreignBuild = /^musl_/;

function prune(folder, inModules) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isSymbolicLink()) continue;
    if (entry.isDirectory()) {
      if (inModules && foreignBuild.test(entry.name)) rmSync(path, { recursive: true });
      else prune(path, inModules);
      if (existsSync(path) && readdirSync(path).length === 0) rmdirSync(path);
    } else if (uselessFile.test(entry.name) && !licence.test(entry.name)) rmSync(path);
  }
}

/** Folders of packages below a node_modules folder, nested ones too. */
function* packagesBelow(modules) {
  for (const entry of readdirSync(modules, { withFileTypes: true })) {
    if (!entry.isDirectory() || entry.name.startsWith(".")) continue;
    const path = join(modules, entry.name);
    const packages = entry.name.startsWith("@") ? readdirSync(path).map((name) => join(path, name)) : [path];
    for (const folder of packages) {
      yield folder;
      const nested = join(folder, "node_modules");
      if (existsSync(nested)) yield* packagesBelow(nested);
    }
  }
}

for (const folder of packagesBelow(join(root, "node_modules"))) {
  for (const name of readdirSync(folder)) {
    if (uselessFolder.test(name)) rmSync(join(folder, name), { recursive: true });
  }
}
// Commands of packages: nothing starts them.
rmSync(join(root, "node_modules", ".bin"), { recursive: true, force: true });
prune(join(root, "node_modules"), true);
prune(join(root, "dist"), false);

/** Packages of nothing but types are left with their papers. */
function hasCode(folder) {
  return readdirSync(folder, { recursive: true, encoding: "utf8" }).some(
    (path) => /\.(js|cjs|mjs|node|wasm|json)$/.test(path) && path !== "package.json",
  );
}
for (const folder of [...packagesBelow(join(root, "node_modules"))].reverse()) {
  if (!hasCode(folder)) rmSync(folder, { recursive: true });
}
prune(join(root, "node_modules"), true);

/** Modes do not depend on the umask of a checkout or of npm. */
function normaliseModes(folder) {
  chmodSync(folder, 0o755);
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) normaliseModes(path);
    else if (entry.isFile()) chmodSync(path, 0o644);
  }
}
normaliseModes(root);
for (const program of ["dist/main.js", "dist/hawserctl.js"]) chmodSync(join(root, program), 0o755);
