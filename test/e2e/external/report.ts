/** What the suite says about one of its tests. */
export interface Spec {
  readonly name: string;
  readonly state: "passed" | "failed" | "skipped";
  readonly durationMs: number;
  /** Why it failed or was skipped; empty when it was not selected at all. */
  readonly message: string;
}

interface GinkgoSpec {
  readonly ContainerHierarchyTexts: readonly string[] | null;
  readonly LeafNodeText: string;
  readonly LeafNodeType: string;
  readonly State: string;
  /** Nanoseconds. */
  readonly RunTime: number;
  readonly Failure?: { readonly Message: string };
}

/**
 * The tests of external storage in a JSON report of Ginkgo. What is neither passed nor skipped failed: timed out,
 * panicked, interrupted. A set-up step that failed counts as a test that failed.
 */
export function readReport(json: string): Spec[] {
  const suites = JSON.parse(json) as readonly { readonly SpecReports: readonly GinkgoSpec[] | null }[];
  return suites
    .flatMap(({ SpecReports }) => SpecReports ?? [])
    .filter((spec) => isExternal(spec) || (spec.LeafNodeType !== "It" && stateOf(spec) === "failed"))
    .map((spec) => ({
      name: nameOf(spec),
      state: stateOf(spec),
      durationMs: Math.round(spec.RunTime / 1e6),
      message: spec.Failure?.Message ?? "",
    }));
}

/** The outermost container of every test that a driver's definition brings. */
const EXTERNAL = /^External Storage\b/;

function isExternal({ LeafNodeType, ContainerHierarchyTexts }: GinkgoSpec): boolean {
  return LeafNodeType === "It" && (ContainerHierarchyTexts ?? []).some((text) => EXTERNAL.test(text));
}

function nameOf(spec: GinkgoSpec): string {
  const texts = (spec.ContainerHierarchyTexts ?? []).filter((text) => text !== "" && !EXTERNAL.test(text));
  return [...texts, spec.LeafNodeText === "" ? spec.LeafNodeType : spec.LeafNodeText].join(" ");
}

function stateOf(spec: GinkgoSpec): Spec["state"] {
  if (spec.State === "passed") return "passed";
  return spec.State === "skipped" || spec.State === "pending" ? "skipped" : "failed";
}

/**
 * Groups of tests that do not apply to the driver, which the suite leaves out before it defines them and says so only
 * in its output.
 */
export function unregisteredReasons(output: string, driver: string): Map<string, number> {
  const reasons = [...output.matchAll(/^Skipping registration: .* \[Driver: (\S+)\] - (.*)$/gm)]
    .filter(([, name]) => name === driver)
    .map(([, , reason = ""]) => reason);
  return countBy(reasons, (reason) => reason);
}

/** How many of the items there are for each key, most first. */
export function countBy<T>(items: readonly T[], key: (item: T) => string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const item of items) counts.set(key(item), (counts.get(key(item)) ?? 0) + 1);
  return new Map([...counts].sort(([, a], [, b]) => b - a));
}
