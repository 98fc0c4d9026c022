import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

/** Is `program` on the PATH or in an sbin folder? */
export function hasProgram(program: string): boolean {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/sbin", "/usr/local/sbin"];
  return folders.some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Is this process root? */
export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** Does a file or device exist? */
export function hasFile(path: string): boolean {
  try {
    accessSync(path);
    return true;
  } catch {
    return false;
  }
}

/**
 * `describe` when every need is met, else a skipped block that names what is missing. A need is a program's name,
 * an absolute path, or `root`.
 */
export function describeNeeding(needs: readonly string[], title: string, body: () => void): void {
  const missing = needs.filter((need) => {
    if (need === "root") return !isRoot();
    return need.startsWith("/") ? !hasFile(need) : !hasProgram(need);
  });
  if (missing.length === 0) describe(title, body);
  else describe.skip(`${title} [skipped: this machine has no ${missing.join(", ")}]`, body);
}
