import { existsSync } from "node:fs";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { programFolder } from "./layout.js";
import { progress, run } from "./process.js";

const BUILD_TIMEOUT_MS = 3_600_000;

/** Programs that are built from one release of one Go module. */
export interface GoModule {
  /** Folder in the cache. */
  readonly name: string;
  readonly module: string;
  readonly version: string;
  /** Packages by the name of their program. */
  readonly programs: Readonly<Record<string, string>>;
  /** Packages whose tests make a program, by its name. */
  readonly tests?: Readonly<Record<string, string>>;
  readonly tags?: string;
  /** Values of `-X`, by variable. */
  readonly variables?: Readonly<Record<string, string>>;
}

interface GoMod {
  readonly Go: string;
  readonly Godebug?: readonly { readonly Key: string; readonly Value: string }[] | null;
  readonly Replace?:
    | readonly {
        readonly Old: { readonly Path: string };
        readonly New: { readonly Path: string; readonly Version?: string };
      }[]
    | null;
}

const GO_ENV = { CGO_ENABLED: "0", GOFLAGS: "-mod=mod -trimpath -buildvcs=false", GOWORK: "off" } as const;

/**
 * A module of its own that requires the release and repeats its `replace` lines, which Go heeds only in the main
 * module. Kubernetes replaces its staging modules by folders; those are published as v0.x with the same minor number.
 */
export function scratchModule(build: GoModule, mod: GoMod): string {
  const staging = build.version.replace(/^v1\./, "v0.");
  const replaces = (mod.Replace ?? []).map(({ Old, New }) =>
    New.Version === undefined ? `${Old.Path} => ${Old.Path} ${staging}` : `${Old.Path} => ${New.Path} ${New.Version}`,
  );
  const debug = (mod.Godebug ?? []).map(({ Key, Value }) => `godebug ${Key}=${Value}`);
  return [
    "module hawser-e2e-build",
    `go ${mod.Go}`,
    ...debug,
    `require ${build.module} ${build.version}`,
    ...replaces.map((line) => `replace ${line}`),
    "",
  ].join("\n");
}

/** The text inside a JSON string, on one line. */
function spoken(inside: string): string {
  return (JSON.parse(`"${inside}"`) as string).replaceAll(/\s+/g, " ");
}

/** What Go says about a release after fetching it. Throws with Go's reason alone, which is inside JSON. */
async function fetchModule({ module, version }: GoModule): Promise<string> {
  const options = { cwd: "/", env: { GOFLAGS: "-mod=mod" } };
  try {
    return await run("go", ["mod", "download", "-json", `${module}@${version}`], options);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    const reason = /"Error": "((?:[^"\\]|\\.)*)"/.exec(text)?.[1];
    throw new Error(`Go cannot fetch the module: ${reason === undefined ? text : spoken(reason)}`, { cause: error });
  }
}

/**
 * Builds the programs that are not in the cache yet and returns their folder. Static, so that they run in an image
 * with nothing else. Throws when the module cannot be had or does not build.
 */
export async function buildGo(build: GoModule): Promise<string> {
  const folder = programFolder(build.name, build.version);
  const all = { ...build.programs, ...build.tests };
  const missing = Object.entries(all).filter(([program]) => !existsSync(join(folder, program)));
  if (missing.length === 0) return folder;
  const names = missing.map(([program]) => program).join(", ");
  progress(`building ${names} of ${build.module} ${build.version} (the first time takes minutes)`);
  const scratch = join(folder, "..", "build");
  await mkdir(scratch, { recursive: true });
  await mkdir(folder, { recursive: true });
  const download = await fetchModule(build);
  const goMod = (JSON.parse(download) as { GoMod: string }).GoMod;
  const mod = JSON.parse(await run("go", ["mod", "edit", "-json", goMod], { cwd: "/" })) as GoMod;
  await writeFile(join(scratch, "go.mod"), scratchModule(build, mod));
  await rm(join(scratch, "go.sum"), { force: true });
  const variables = Object.entries(build.variables ?? {}).map(([name, value]) => `-X ${name}=${value}`);
  const shared = ["-ldflags", ["-s", "-w", ...variables].join(" ")];
  if (build.tags !== undefined) shared.push("-tags", build.tags);
  for (const [program, path] of missing) {
    const output = join(scratch, program);
    const verb = build.tests?.[program] === undefined ? ["build"] : ["test", "-c"];
    await run("go", [...verb, ...shared, "-o", output, path], {
      cwd: scratch,
      env: GO_ENV,
      timeoutMs: BUILD_TIMEOUT_MS,
    });
    // Renamed last: a build that was interrupted leaves no half a program in the cache.
    await rename(output, join(folder, program));
    progress(`  ${program} built`);
  }
  return folder;
}

/** Builds one static program from a file of this repository. */
export async function buildOwnGo(name: string, source: string): Promise<string> {
  const { createHash } = await import("node:crypto");
  const digest = createHash("sha256")
    .update(await readFile(source))
    .digest("hex")
    .slice(0, 12);
  const folder = programFolder(name, digest);
  const program = join(folder, name);
  if (existsSync(program)) return program;
  await mkdir(folder, { recursive: true });
  const env = { ...GO_ENV, GO111MODULE: "off", GOFLAGS: "-trimpath -buildvcs=false" };
  await run("go", ["build", "-ldflags", "-s -w", "-o", `${program}.new`, source], { env });
  await rename(`${program}.new`, program);
  return program;
}
