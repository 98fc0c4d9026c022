import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packLayer, writeImageArchive } from "./archive.js";
import { run } from "./process.js";

interface Descriptor {
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
}

let folder = "";

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "hawser-archive-test-"));
  await mkdir(join(folder, "root", "bin"), { recursive: true });
  await writeFile(join(folder, "root", "bin", "program"), "#!/bin/sh\n", { mode: 0o755 });
});

afterEach(() => rm(folder, { recursive: true, force: true }));

async function makeArchive(name: string): Promise<string> {
  const layer = join(folder, `${name}.layer`);
  const archive = join(folder, `${name}.tar`);
  await packLayer(join(folder, "root"), layer);
  await writeImageArchive({ reference: "localhost/program:dev", layer, entrypoint: ["/bin/program"] }, archive);
  return archive;
}

/** The blob a descriptor names, after its digest and size were checked. */
async function blob(root: string, { digest, size }: Descriptor): Promise<Buffer> {
  const bytes = await readFile(join(root, "blobs", "sha256", digest.replace("sha256:", "")));
  expect(`sha256:${createHash("sha256").update(bytes).digest("hex")}`).toBe(digest);
  expect(bytes.length).toBe(size);
  return bytes;
}

it("writes an OCI image layout whose digests hold and whose layer has the files, owned by root", async () => {
  const archive = await makeArchive("image");
  const root = join(folder, "unpacked");
  await mkdir(root);
  await run("tar", ["-xf", archive, "-C", root]);
  expect(JSON.parse(await readFile(join(root, "oci-layout"), "utf8"))).toEqual({ imageLayoutVersion: "1.0.0" });
  const index = JSON.parse(await readFile(join(root, "index.json"), "utf8")) as { manifests: [Descriptor] };
  expect(index.manifests[0].annotations).toEqual({ "io.containerd.image.name": "localhost/program:dev" });
  const manifest = JSON.parse((await blob(root, index.manifests[0])).toString()) as {
    config: Descriptor;
    layers: [Descriptor];
  };
  const config = JSON.parse((await blob(root, manifest.config)).toString()) as Record<string, unknown>;
  expect(config).toMatchObject({
    os: "linux",
    config: { Entrypoint: ["/bin/program"] },
    rootfs: { type: "layers", diff_ids: [manifest.layers[0].digest] },
  });
  await writeFile(join(folder, "layer.tar"), await blob(root, manifest.layers[0]));
  const listing = await run("tar", ["-tvf", join(folder, "layer.tar"), "--numeric-owner"]);
  expect(listing).toMatch(/^-rwxr-xr-x 0\/0 .* \.\/bin\/program$/m);
});

it("makes the same image of the same files", async () => {
  const manifestOf = async (archive: string): Promise<string> => run("tar", ["-xOf", archive, "index.json"]);
  const first = await manifestOf(await makeArchive("first"));
  await run("touch", [join(folder, "root", "bin", "program")]);
  expect(await manifestOf(await makeArchive("second"))).toBe(first);
  await writeFile(join(folder, "root", "bin", "program"), "#!/bin/sh\nexit 1\n");
  expect(await manifestOf(await makeArchive("third"))).not.toBe(first);
});

it("leaves no half an archive behind when the layer is missing", async () => {
  const archive = join(folder, "none.tar");
  const plan = { reference: "localhost/none:dev", layer: join(folder, "none.layer") };
  await expect(writeImageArchive(plan, archive)).rejects.toThrow("none.layer");
  expect((await readdir(folder)).filter((name) => name.startsWith("none"))).toEqual([]);
});
