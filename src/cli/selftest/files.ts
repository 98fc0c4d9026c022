import { createHash } from "node:crypto";
import { mkdir, open, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Random } from "../../base/random.js";

/** Checksums by file name. */
export type Checksums = ReadonlyMap<string, string>;

/** Writes `count` files of `fileBytes` random bytes each, synced to the device, and returns their checksums. */
export async function writeFiles(
  directory: string,
  options: { readonly count: number; readonly fileBytes: number },
  random: Random,
): Promise<Checksums> {
  await mkdir(directory, { recursive: true });
  const checksums = new Map<string, string>();
  for (let index = 0; index < options.count; index += 1) {
    const name = `file-${index}`;
    const content = random.bytes(options.fileBytes);
    const file = await open(join(directory, name), "w");
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    checksums.set(name, createHash("sha256").update(content).digest("hex"));
  }
  return checksums;
}

/** The names of files that are missing, new or different. */
export async function differingFiles(directory: string, expected: Checksums): Promise<readonly string[]> {
  const names = new Set([...expected.keys(), ...(await readdir(directory))]);
  const differing: string[] = [];
  for (const name of names) {
    const wanted = expected.get(name);
    const found = await readFile(join(directory, name)).then(
      (content) => createHash("sha256").update(content).digest("hex"),
      () => undefined,
    );
    if (wanted === undefined || wanted !== found) differing.push(name);
  }
  return differing.sort();
}
