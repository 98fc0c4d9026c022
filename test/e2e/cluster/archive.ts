import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { cp, mkdir, mkdtemp, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { run } from "./process.js";

/** What is run in a container of the image. */
export interface ImageSettings {
  readonly entrypoint?: readonly string[];
  readonly command?: readonly string[];
  readonly env?: readonly string[];
  readonly user?: string;
  readonly workingDir?: string;
}

export interface ImagePlan extends ImageSettings {
  /** With registry and tag, as pods name it. */
  readonly reference: string;
  /** One uncompressed tar archive of the whole file system. */
  readonly layer: string;
}

const ARCHITECTURES: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" };
/** Fixed, so that the same content is the same image. */
const EPOCH = "1970-01-01T00:00:00Z";

async function digestOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

/** Writes an OCI archive with one image of one layer, which `ctr images import` reads. */
export async function writeImageArchive(plan: ImagePlan, output: string): Promise<void> {
  await mkdir(dirname(output), { recursive: true });
  const folder = await mkdtemp(join(tmpdir(), "hawser-image-"));
  try {
    const blobs = join(folder, "blobs", "sha256");
    await mkdir(blobs, { recursive: true });
    const layerDigest = await digestOf(plan.layer);
    await cp(plan.layer, join(blobs, layerDigest));
    const addBlob = async (mediaType: string, value: object): Promise<object> => {
      const text = JSON.stringify(value);
      const digest = createHash("sha256").update(text).digest("hex");
      await writeFile(join(blobs, digest), text);
      return { mediaType, digest: `sha256:${digest}`, size: Buffer.byteLength(text) };
    };
    const config = await addBlob("application/vnd.oci.image.config.v1+json", {
      created: EPOCH,
      architecture: ARCHITECTURES[process.arch] ?? process.arch,
      os: "linux",
      config: {
        ...(plan.entrypoint && { Entrypoint: plan.entrypoint }),
        ...(plan.command && { Cmd: plan.command }),
        ...(plan.user !== undefined && { User: plan.user }),
        ...(plan.workingDir !== undefined && { WorkingDir: plan.workingDir }),
        Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", ...(plan.env ?? [])],
      },
      rootfs: { type: "layers", diff_ids: [`sha256:${layerDigest}`] },
    });
    const layerSize = (await stat(plan.layer)).size;
    const manifest = await addBlob("application/vnd.oci.image.manifest.v1+json", {
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      config,
      layers: [
        { mediaType: "application/vnd.oci.image.layer.v1.tar", digest: `sha256:${layerDigest}`, size: layerSize },
      ],
    });
    const named = { ...manifest, annotations: { "io.containerd.image.name": plan.reference } };
    await writeFile(join(folder, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [named] }));
    await writeFile(join(folder, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
    await run("tar", ["-cf", `${output}.new`, "-C", folder, "oci-layout", "index.json", "blobs"]);
    await rename(`${output}.new`, output);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Packs a folder as a layer: owned by root, sorted, without times, so that the same files are the same image. */
export async function packLayer(folder: string, layer: string): Promise<void> {
  await run("tar", [
    ...["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--format=posix"],
    ...["--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"],
    ...["-cf", layer, "-C", folder, "."],
  ]);
}
