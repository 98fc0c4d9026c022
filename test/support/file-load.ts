import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { readFioReport, type FioResult } from "./fio-report.js";

const run = promisify(execFile);

export interface FioOptions {
  /** On the file system under test. */
  readonly directory: string;
  readonly sizeMib: number;
  /** `write`: random writes with a checksum in every block, synced now and then. `verify`: reads them all back. */
  readonly mode: "write" | "verify";
  /** Writes the same blocks again and again for so long, verifying at the end of each round. */
  readonly runtimeSeconds?: number;
  /** Bytes per second; without it as fast as it goes. */
  readonly rateBytes?: number;
}

/** Random writes of 4 to 64 KiB with CRC32C in each block. Rejects when fio found a wrong byte or an I/O error. */
export async function runFio(options: FioOptions): Promise<FioResult> {
  const { directory, sizeMib, mode, runtimeSeconds, rateBytes } = options;
  const { stdout } = await run(
    "fio",
    [
      ...["--name=load", `--directory=${directory}`, `--size=${sizeMib}M`, "--rw=randwrite", "--bsrange=4k-64k"],
      ...["--ioengine=libaio", "--iodepth=16", "--direct=1", "--fsync=32", "--end_fsync=1", "--randseed=7143"],
      ...["--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--output-format=json"],
      mode === "verify" ? "--verify_only=1" : "--do_verify=0",
      ...(runtimeSeconds === undefined ? [] : ["--time_based=1", `--runtime=${runtimeSeconds}`]),
      ...(rateBytes === undefined ? [] : [`--rate=${rateBytes}`]),
    ],
    // fio writes files of its own where it stands.
    { cwd: directory, maxBuffer: 16 * 1024 * 1024 },
  );
  return readFioReport(stdout);
}

/** Nested folders with files of many sizes, empty and odd ones among them, and a symbolic link; all synced. */
export function writeTree(root: string): void {
  const sizesBytes = [0, 1, 511, 4096, 4097, 65_537, 1_048_576, 3_333_333];
  for (const folder of ["a", "a/b", "a/b/c", "ä ö"]) {
    mkdirSync(join(root, folder), { recursive: true });
    for (const sizeBytes of sizesBytes) {
      const fd = openSync(join(root, folder, `file-${sizeBytes}`), "w");
      writeFileSync(fd, randomBytes(sizeBytes));
      fsyncSync(fd);
      closeSync(fd);
    }
  }
  symlinkSync("b/file-1", join(root, "a", "link"));
}

/** SHA-256 over every name and every byte below `root`, in order. */
export function treeDigest(root: string): string {
  const hash = createHash("sha256");
  const entries = readdirSync(root, { recursive: true, withFileTypes: true });
  const paths = entries.map((entry) => ({ entry, path: join(entry.parentPath, entry.name) }));
  paths.sort((left, right) => (left.path < right.path ? -1 : 1));
  for (const { entry, path } of paths) {
    hash.update(`\0${path.slice(root.length)}\0`);
    if (entry.isFile()) hash.update(readFileSync(path));
    else if (entry.isSymbolicLink()) hash.update(readlinkSync(path));
  }
  return hash.digest("hex");
}

/** A line about what was measured, shown among the test results. */
export function reportMeasured(text: string): void {
  process.stdout.write(`    measured: ${text}\n`);
}
