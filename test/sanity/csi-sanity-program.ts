import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";

export type SpecLevel = "1.12" | "1.13";

/** The release of kubernetes-csi/csi-test that is built against each version of the interface. */
export const SANITY_VERSIONS: Readonly<Record<SpecLevel, string>> = { "1.12": "v5.5.0", "1.13": "v5.6.0" };

const INSTALL_TIMEOUT_MS = 600_000;

/**
 * The unmodified csi-sanity of a release, built once into .cache. Undefined with a reason when this machine has no Go,
 * or Go cannot fetch modules. Runs while tests are collected, since only then can a suite still be skipped.
 */
export function findCsiSanity(level: SpecLevel): { readonly path?: string; readonly reason: string } {
  const version = SANITY_VERSIONS[level];
  const folder = join(process.cwd(), ".cache", "csi-sanity", version);
  const path = join(folder, "csi-sanity");
  if (existsSync(path)) return { path, reason: "" };
  if (process.getuid?.() !== 0) return { reason: "not root" };
  try {
    mkdirSync(folder, { recursive: true });
    execFileSync("go", ["install", `github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity@${version}`], {
      env: { ...process.env, GOBIN: folder, GOFLAGS: "" },
      timeout: INSTALL_TIMEOUT_MS,
      stdio: ["ignore", "pipe", "pipe"],
    });
    return { path, reason: "" };
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    return { reason: text.includes("ENOENT") ? "no go on this machine" : `go install failed: ${text.slice(0, 200)}` };
  }
}

export interface SpecResult {
  readonly name: string;
  readonly status: string;
  /** Why it was skipped or how it failed. */
  readonly message: string;
}

/** Reads the report ginkgo writes; entities are decoded. */
export function parseJunit(xml: string): readonly SpecResult[] {
  const cases = xml.matchAll(/<testcase name="([^"]*)"[^>]* status="([^"]*)"[^>]*?(?:\/>|>([\s\S]*?)<\/testcase>)/g);
  return [...cases].map(([, name = "", status = "", body = ""]) => ({
    name: decode(name),
    status,
    message: decode(/<(?:skipped|failure|error) message="([^"]*)"/.exec(body)?.[1] ?? ""),
  }));
}

function decode(text: string): string {
  return text
    .replace(/&#xA;/g, "\n")
    .replace(/&quot;|&#34;/g, '"')
    .replace(/&#39;|&apos;/g, "'")
    .replace(/&lt;/g, "<")
    .replace(/&gt;/g, ">")
    .replace(/&amp;/g, "&");
}
