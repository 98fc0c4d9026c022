// Lists what is in the image, as CycloneDX 1.5. The same system gives the same bytes.
//   node image-sbom.mjs npm APPLICATION OUTPUT           the application and its npm packages, from their package.json
//   node image-sbom.mjs all ROOT NPM_PART OUTPUT         that, Node.js, and the Debian packages of ROOT, from dpkg's
//                                                        database and the copyright files
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const [command, root, ...paths] = process.argv.slice(2);
if (!(command === "npm" && paths.length === 1) && !(command === "all" && paths.length === 2)) {
  console.error("error: wrong arguments; use `npm APPLICATION OUTPUT` or `all ROOT NPM_PART OUTPUT`");
  process.exit(1);
}
const outputPath = paths.at(-1);
/** Short names of licences in a machine-readable copyright file (DEP 5); none when it is not one. */
function licencesOf(name) {
  let text;
  try {
    text = readFileSync(join(root, "usr/share/doc", name, "copyright"), "utf8");
  } catch {
    return [];
  }
  if (!/^Format(-Specification)?:/m.test(text.slice(0, 400))) return [];
  return [...new Set([...text.matchAll(/^License: *(\S.*)$/gm)].map((match) => match[1].trim()))].sort();
}

function debianComponents() {
  return readFileSync(join(root, "var/lib/dpkg/status"), "utf8")
    .split(/\n\n+/)
    .filter((stanza) => /^Status: install ok installed$/m.test(stanza))
    .map((stanza) => {
      const field = (name) => new RegExp(`^${name}: (.*)$`, "m").exec(stanza)?.[1];
      const name = field("Package");
      const version = field("Version");
      const architecture = field("Architecture");
      const source = field("Source")?.split(" ")[0] ?? name;
      const licences = licencesOf(name);
      const purl = `pkg:deb/debian/${encodeURIComponent(name)}@${encodeURIComponent(version)}?arch=${architecture}&distro=${distribution()}`;
      return {
        type: "library",
        "bom-ref": purl,
        name,
        version,
        purl,
        ...(licences.length > 0 ? { licenses: licences.map((licence) => ({ license: { name: licence } })) } : {}),
        properties: [{ name: "debian:source", value: source }],
      };
    });
}

function distribution() {
  const release = readFileSync(join(root, "etc/os-release"), "utf8");
  return `debian-${/^VERSION_ID="?([0-9.]+)"?$/m.exec(release)?.[1] ?? "unknown"}`;
}

/** Folders of packages below a node_modules folder, nested ones too. */
function* packagesBelow(modules) {
  for (const entry of readdirSync(modules, { withFileTypes: true })) {
    if (!entry.isDirectory() || entry.name.startsWith(".")) continue;
    const path = join(modules, entry.name);
    const folders = entry.name.startsWith("@") ? readdirSync(path).map((name) => join(path, name)) : [path];
    for (const folder of folders) {
      yield folder;
      if (existsSync(join(folder, "node_modules"))) yield* packagesBelow(join(folder, "node_modules"));
    }
  }
}

function npmComponent(folder, type) {
  const { name, version, license, licenses } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const purl = `pkg:npm/${name.replace("@", "%40")}@${version}`;
  // Old packages have a list, or an object with a type.
  const named = [license ?? licenses ?? []].flat().map((one) => (typeof one === "string" ? one : one.type));
  const found = named.map((one) => (/ (OR|AND|WITH) /.test(one) ? { expression: one } : { license: { id: one } }));
  return { type, "bom-ref": purl, name, version, purl, licenses: found };
}

const byReference = (a, b) => (a["bom-ref"] < b["bom-ref"] ? -1 : 1);

/** The same package may be there more than once. */
function unique(components) {
  return [...new Map(components.map((one) => [one["bom-ref"], one])).values()].sort(byReference);
}

function npmPart() {
  const components = [...packagesBelow(join(root, "node_modules"))].map((folder) => npmComponent(folder, "library"));
  return { application: npmComponent(root, "application"), components: unique(components) };
}

function wholeDocument() {
  const { application, components } = JSON.parse(readFileSync(paths[0], "utf8"));
  const version = process.versions.node;
  const purl = `pkg:generic/node@${version}`;
  const licenses = [{ license: { id: "MIT" } }];
  const node = { type: "application", "bom-ref": purl, name: "node", version, purl, licenses };
  const body = {
    ...{ bomFormat: "CycloneDX", specVersion: "1.5", version: 1 },
    metadata: { component: application },
    components: unique([node, ...debianComponents(), ...components]),
  };
  // A serial number identifies one document: made from the content, so that the same content has the same one.
  const hash = createHash("sha256").update(JSON.stringify(body)).digest("hex");
  const serial = [
    ...[hash.slice(0, 8), hash.slice(8, 12), `5${hash.slice(13, 16)}`, `8${hash.slice(17, 20)}`, hash.slice(20, 32)],
  ];
  console.log(`listed ${body.components.length} components`);
  return { serialNumber: `urn:uuid:${serial.join("-")}`, ...body };
}

const document = command === "npm" ? npmPart() : wholeDocument();
mkdirSync(dirname(outputPath), { recursive: true });
writeFileSync(outputPath, `${JSON.stringify(document, null, 1)}\n`);
