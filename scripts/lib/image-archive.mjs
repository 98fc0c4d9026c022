// Reads an OCI archive: `node image-archive.mjs report ARCHIVE` prints digest and sizes as JSON,
// `node image-archive.mjs unpack ARCHIVE DIR` writes the root file system to DIR/rootfs and the image's
// configuration to DIR/config.json. Unpacking as root keeps owners and modes.
import { execFileSync } from "node:child_process";
import { createReadStream, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createGunzip } from "node:zlib";

const [command, archive, folder] = process.argv.slice(2);
if (
  archive === undefined ||
  !["report", "unpack"].includes(command) ||
  (command === "unpack") !== (folder !== undefined)
) {
  console.error("error: wrong arguments; use `report ARCHIVE` or `unpack ARCHIVE DIR`");
  process.exit(1);
}

/** Size of a gzip stream when it is unpacked. */
async function unpackedBytes(path) {
  let bytes = 0;
  for await (const chunk of createReadStream(path).pipe(createGunzip())) bytes += chunk.length;
  return bytes;
}

const work = mkdtempSync(join(process.env.TMPDIR ?? tmpdir(), "hawser-archive-"));
try {
  execFileSync("tar", ["-xf", resolve(archive), "-C", work]);
  const blob = (digest) => join(work, "blobs", ...digest.split(":"));
  const json = (path) => JSON.parse(readFileSync(path, "utf8"));
  const { digest } = json(join(work, "index.json")).manifests[0];
  const manifest = json(blob(digest));
  if (command === "unpack") {
    const rootfs = join(resolve(folder), "rootfs");
    mkdirSync(rootfs, { recursive: true });
    for (const layer of manifest.layers) {
      execFileSync("tar", ["-xzf", blob(layer.digest), "-C", rootfs, "--numeric-owner", "--same-permissions"]);
    }
    writeFileSync(join(resolve(folder), "config.json"), readFileSync(blob(manifest.config.digest)));
  } else {
    const layers = [];
    for (const layer of manifest.layers) {
      layers.push({ digest: layer.digest, bytes: layer.size, unpackedBytes: await unpackedBytes(blob(layer.digest)) });
    }
    const sum = (key) => layers.reduce((total, layer) => total + layer[key], 0);
    const report = {
      digest,
      archiveBytes: statSync(archive).size,
      bytes: sum("bytes"),
      unpackedBytes: sum("unpackedBytes"),
      layers,
    };
    console.log(JSON.stringify(report));
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
