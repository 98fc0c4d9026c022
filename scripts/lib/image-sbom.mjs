// Writes what is in the image as CycloneDX 1.5: `node image-sbom.mjs ROOT NPM_SBOM OUTPUT`. The npm half comes from
// `npm sbom`, the Debian half from dpkg's database and the copyright files. The same system gives the same bytes.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const [root, npmPath, outputPath] = process.argv.slice(2);
if (outputPath === undefined) {
  console.error("error: arguments are missing: give ROOT, the file that npm sbom wrote, and the output file");
  process.exit(1);
}

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

const npm = JSON.parse(readFileSync(npmPath, "utf8"));
const node = {
  type: "application",
  "bom-ref": `pkg:generic/node@${process.versions.node}`,
  name: "node",
  version: process.versions.node,
  purl: `pkg:generic/node@${process.versions.node}`,
  licenses: [{ license: { id: "MIT" } }],
};
/** What npm says about where it found a package is about the build, not about the package. */
const npmComponents = npm.components.map(({ properties, ...component }) => component);
const byReference = (a, b) => (a["bom-ref"] < b["bom-ref"] ? -1 : 1);
const components = [node, ...debianComponents(), ...npmComponents].sort(byReference);
const dependencies = (npm.dependencies ?? [])
  .map(({ ref, dependsOn = [] }) => ({ ref, dependsOn: [...dependsOn].sort() }))
  .sort((a, b) => (a.ref < b.ref ? -1 : 1));
const { properties, ...application } = npm.metadata.component;
const body = {
  bomFormat: "CycloneDX",
  specVersion: "1.5",
  version: 1,
  metadata: { component: application },
  components,
  dependencies,
};
// A serial number identifies one document: made from the content, so that the same content has the same one.
const hash = createHash("sha256").update(JSON.stringify(body)).digest("hex");
const serial = [
  hash.slice(0, 8),
  hash.slice(8, 12),
  `5${hash.slice(13, 16)}`,
  `8${hash.slice(17, 20)}`,
  hash.slice(20, 32),
];
mkdirSync(dirname(outputPath), { recursive: true });
writeFileSync(outputPath, `${JSON.stringify({ serialNumber: `urn:uuid:${serial.join("-")}`, ...body }, null, 1)}\n`);
console.log(`listed ${components.length} components`);
