import { readFile } from "node:fs/promises";
import { join } from "node:path";

/** The version of this package. */
export async function readVersion(packageDirectory: string): Promise<string> {
  const manifest = JSON.parse(await readFile(join(packageDirectory, "package.json"), "utf8")) as {
    readonly version: string;
  };
  return manifest.version;
}
