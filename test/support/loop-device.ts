import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A loop device over a sparse file, with a folder for mount points beside it. */
export interface LoopDevice {
  readonly path: string;
  readonly file: string;
  readonly folder: string;
  grow(sizeBytes: number): void;
  /** Detaches it and removes everything; mounts below `folder` go first. */
  remove(): void;
}

/** Needs root, losetup and /dev/loop-control. The caller removes it. */
export function createLoopDevice(sizeBytes: number): LoopDevice {
  const folder = mkdtempSync(join(tmpdir(), "hawser-loop-"));
  const file = join(folder, "disk.img");
  writeFileSync(file, "");
  truncateSync(file, sizeBytes);
  const path = execFileSync("losetup", ["-f", "--show", "--direct-io=on", file], { encoding: "utf8" }).trim();
  return {
    path,
    file,
    folder,
    grow: (newSizeBytes) => {
      truncateSync(file, newSizeBytes);
      execFileSync("losetup", ["-c", path]);
    },
    remove: () => {
      unmountBelow(folder);
      execFileSync("losetup", ["-d", path]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function unmountBelow(folder: string): void {
  const table = execFileSync("cat", ["/proc/self/mountinfo"], { encoding: "utf8" });
  const mountPoints = table
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((mountPoint) => mountPoint.startsWith(`${folder}/`));
  for (const mountPoint of mountPoints.reverse()) execFileSync("umount", [mountPoint]);
}
