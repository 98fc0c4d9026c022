import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { CONTAINER_NEEDS } from "./container.js";

/** For `describeNeeding`: what builds the image and runs it. */
export const IMAGE_NEEDS = [...CONTAINER_NEEDS, "buildah", "mmdebstrap", "npm", "git", "tar"] as const;

/** How long the first test that wants the image may wait for it. */
export const IMAGE_BUILD_TIMEOUT_MS = 900_000;

export interface BuiltImage {
  /** The unpacked root file system. */
  readonly rootfs: string;
  /** The image's configuration, as the OCI image specification has it. */
  readonly config: {
    readonly config: {
      readonly Entrypoint: readonly string[];
      readonly Cmd: readonly string[];
      readonly User: string;
      readonly Labels: Readonly<Record<string, string>>;
    };
  };
}

/** Everything the image is made from. */
const inputs = [
  ...["Dockerfile", ".dockerignore", "LICENSE", "package.json", "package-lock.json", "tsconfig.json"],
  ...["tsconfig.build.json", "src", "proto", "scripts/image", "scripts/lib"],
];

function* filesOf(path: string): Generator<string> {
  if (!statSync(path).isDirectory()) yield path;
  else for (const name of readdirSync(path).sort()) yield* filesOf(join(path, name));
}

function inputsKey(root: string): string {
  const hash = createHash("sha256");
  for (const input of inputs) {
    for (const path of filesOf(join(root, input)))
      hash.update(relative(root, path)).update(readFileSync(path)).update("\0");
  }
  return hash.digest("hex").slice(0, 16);
}

/** The image of the sources as they are, built when none of these sources is kept in .cache/image. Takes a minute then. */
export function builtImage(root = process.cwd()): BuiltImage {
  const cache = join(root, ".cache", "image");
  const name = `test-${inputsKey(root)}`;
  const folder = join(cache, name);
  if (!existsSync(folder)) {
    const archive = join(cache, `${name}.oci.tar`);
    execFileSync(join(root, "scripts", "image"), ["--output", archive], { stdio: ["ignore", "ignore", "inherit"] });
    const unpacking = `${folder}.new`;
    rmSync(unpacking, { recursive: true, force: true });
    const unpack = [join(root, "scripts", "lib", "image-archive.mjs"), "unpack", archive, unpacking];
    execFileSync(process.execPath, unpack, { stdio: "inherit" });
    for (const old of readdirSync(cache).filter((entry) => entry.startsWith("test-") && !entry.startsWith(name))) {
      rmSync(join(cache, old), { recursive: true, force: true });
    }
    renameSync(unpacking, folder);
  }
  const config = JSON.parse(readFileSync(join(folder, "config.json"), "utf8")) as BuiltImage["config"];
  return { rootfs: join(folder, "rootfs"), config };
}
