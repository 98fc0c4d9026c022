import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, cp, mkdir, mkdtemp, readFile, readdir, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { packLayer, writeImageArchive, type ImageSettings } from "./archive.js";
import { buildOwnGo } from "./go-build.js";
import { CACHE, CONTAINERD_SOCKET, PATHS, VERSIONS } from "./layout.js";
import { progress, run } from "./process.js";
import type { ClusterPrograms } from "./programs.js";
import type { BuiltSidecar } from "./sidecars.js";

/** An image made of files of this machine. */
export interface LocalImage extends ImageSettings {
  readonly references: readonly string[];
  /** Paths in the image, by the file they are copied from. */
  readonly files: Readonly<Record<string, string>>;
  /** Links in the image: path to what it points to. */
  readonly links?: Readonly<Record<string, string>>;
}

/** The driver's image, as scripts/image tags it, and the image of the pods that use volumes. */
export const DRIVER_REFERENCE = "localhost/hawser:dev";
export const WORKLOAD_REFERENCE = "localhost/hawser-test:dev";
export const BUSYBOX_REFERENCE = "localhost/busybox:dev";

const IMAGE_LIMIT_MS = 1_800_000;
const DRIVER_INPUTS = [
  ...["src", "proto", "package.json", "package-lock.json", "tsconfig.json", "tsconfig.build.json", "LICENSE"],
  ...["Dockerfile", ".dockerignore", ".npmrc", "scripts/image", "scripts/lib"],
];

const archiveName = (reference: string): string => `${reference.replaceAll(/[^A-Za-z0-9.-]/g, "_")}.tar`;
const archivePath = (reference: string): string => join(CACHE, "images", archiveName(reference));

/** Every image also has the folders a runtime mounts on, /tmp, and a root and a nobody to be named. */
async function baseFiles(root: string): Promise<void> {
  for (const folder of ["dev", "proc", "sys", "etc", "tmp", "run"])
    await mkdir(join(root, folder), { recursive: true });
  await chmod(join(root, "tmp"), 0o1777);
  await writeFile(
    join(root, "etc/passwd"),
    "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
  );
  await writeFile(join(root, "etc/group"), "root:x:0:\nnogroup:x:65534:\n");
}

/** Writes the archives of an image, one for each of its names, and returns their paths. */
export async function writeLocalImage(image: LocalImage): Promise<readonly string[]> {
  const root = await mkdtemp(join(tmpdir(), "hawser-layer-"));
  try {
    await chmod(root, 0o755);
    await baseFiles(root);
    for (const [source, path] of Object.entries(image.files)) {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await cp(source, join(root, path), { recursive: true, dereference: true });
    }
    for (const [path, target] of Object.entries(image.links ?? {})) {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await symlink(target, join(root, path)).catch((error: unknown) => {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      });
    }
    const layer = `${root}.tar`;
    await packLayer(root, layer);
    for (const reference of image.references) {
      await writeImageArchive({ ...image, reference, layer }, archivePath(reference));
    }
    await rm(layer);
    return image.references.map(archivePath);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

async function pauseImage(): Promise<LocalImage> {
  const program = await buildOwnGo("pause", join("test", "e2e", "images", "pause", "main.go"));
  return {
    references: [`registry.k8s.io/pause:${VERSIONS.pause}`],
    files: { [program]: "/pause" },
    entrypoint: ["/pause"],
    user: "65535:65535",
  };
}

/** Debian's static busybox with a link for each of its programs, by these names. */
export async function busyboxImage(references: readonly string[]): Promise<LocalImage> {
  const program = ["/bin/busybox", "/usr/bin/busybox"].find((path) => existsSync(path));
  if (program === undefined) throw new Error("no busybox on this machine; install busybox-static");
  const applets = (await run(program, ["--list-full"])).split("\n").filter((path) => path !== "" && path !== "linuxrc");
  const links = Object.fromEntries(
    applets
      .filter((path) => !path.endsWith("/busybox"))
      .map((path) => [`/${path.replace(/^usr\//, "")}`, "/bin/busybox"]),
  );
  return { references, files: { [program]: "/bin/busybox" }, links, command: ["sh"] };
}

/** Imports archives into the cluster's containerd. A later import of the same name replaces the earlier. */
export async function importImages(programs: ClusterPrograms, archives: readonly string[]): Promise<void> {
  const ctr = [join(programs.containerd, "ctr"), "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io"];
  for (const archive of archives) {
    await run(PATHS.enter, [...ctr, "images", "import", "--local", archive]);
  }
}

/** When a file was last changed; undefined when there is none. */
async function changedAt(path: string): Promise<number | undefined> {
  return (await stat(path).catch(() => undefined))?.mtimeMs;
}

/** The archives of an image, made when one is missing or older than what goes into it. */
async function ensureLocalImage(image: LocalImage): Promise<readonly string[]> {
  const archives = image.references.map(archivePath);
  const made = await Promise.all(archives.map(changedAt));
  const sources = await Promise.all(Object.keys(image.files).map(changedAt));
  const newest = Math.max(...sources.map((time) => time ?? 0));
  if (made.every((time) => time !== undefined && time > newest)) return archives;
  return writeLocalImage(image);
}

/** What a node needs before it can run any pod, and a shell to look around with. */
export async function importBaseImages(programs: ClusterPrograms): Promise<void> {
  const pods = [
    ...(await ensureLocalImage(await pauseImage())),
    ...(await ensureLocalImage(await busyboxImage([BUSYBOX_REFERENCE]))),
  ];
  await importImages(programs, pods);
  progress("images of pause and busybox imported");
}

/** Archives of the sidecars, each an image of one static program. */
export async function sidecarArchives(sidecars: readonly BuiltSidecar[]): Promise<readonly string[]> {
  const archives: string[] = [];
  for (const { program, reference, path } of sidecars) {
    const entrypoint = [`/${program}`];
    archives.push(
      ...(await ensureLocalImage({ references: [reference], files: { [path]: `/${program}` }, entrypoint })),
    );
  }
  return archives;
}

/** The archive of the image of pods that use volumes: a Debian with fio, made once. */
export async function workloadArchive(): Promise<string> {
  const archive = archivePath(WORKLOAD_REFERENCE);
  const script = join("test", "e2e", "images", "workload");
  const [made, changed] = await Promise.all([changedAt(archive), changedAt(script)]);
  if (made !== undefined && changed !== undefined && made > changed) return archive;
  progress("making the image of the scenarios' pods (a Debian with fio)");
  await mkdir(dirname(archive), { recursive: true });
  const layer = `${archive}.layer`;
  await run(script, [layer]);
  await writeImageArchive({ reference: WORKLOAD_REFERENCE, layer, command: ["bash"] }, archive);
  await rm(layer);
  return archive;
}

/** Hash of every file the driver's image is made from. */
async function driverInputs(): Promise<string> {
  const hash = createHash("sha256");
  const visit = async (path: string): Promise<void> => {
    const entries = await readdir(path, { withFileTypes: true }).catch(() => undefined);
    if (entries === undefined) hash.update(path).update(await readFile(path).catch(() => ""));
    else for (const { name } of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) await visit(join(path, name));
  };
  for (const path of DRIVER_INPUTS) await visit(path);
  return hash.digest("hex");
}

/** The archive of the driver's image, built by scripts/image when what it is made from has changed. */
export async function driverArchive(): Promise<string> {
  const archive = archivePath(DRIVER_REFERENCE);
  const stamp = `${archive}.inputs`;
  const inputs = await driverInputs();
  if (existsSync(archive) && (await readFile(stamp, "utf8").catch(() => "")) === inputs) return archive;
  progress("building the driver's image (scripts/image)");
  await mkdir(dirname(archive), { recursive: true });
  await run(join("scripts", "image"), ["--tag", DRIVER_REFERENCE, "--output", archive], { timeoutMs: IMAGE_LIMIT_MS });
  await writeFile(stamp, inputs);
  return archive;
}
