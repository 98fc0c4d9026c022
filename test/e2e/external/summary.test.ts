import { readReport, unregisteredReasons } from "./report.js";
import { formatSummary, isGood, summarize, type SummaryInput } from "./summary.js";

const OUTER = "External Storage [Driver: csi.hawser.dev]";

function spec(state: string, leaf: string, message?: string, outer = OUTER): object {
  return {
    ContainerHierarchyTexts: [outer, "[Testpattern: Dynamic PV (ext4)] volumes"],
    LeafNodeText: leaf,
    LeafNodeType: "It",
    State: state,
    RunTime: 12_000_000,
    ...(message === undefined ? {} : { Failure: { Message: message } }),
  };
}

const setUp = { ContainerHierarchyTexts: null, LeafNodeText: "", LeafNodeType: "BeforeSuite", RunTime: 0 };

function summaryOf(specs: readonly object[], more: Partial<SummaryInput> = {}): ReturnType<typeof summarize> {
  const json = JSON.stringify([{ SpecReports: specs }]);
  return summarize({ specs: readReport(json), unregistered: new Map(), explained: [], leftOut: [], ...more });
}

it("counts what passed, failed and was skipped, and groups the reasons", () => {
  const summary = summaryOf([
    spec("passed", "one"),
    spec("failed", "two", "expected a pod"),
    spec("skipped", "three", "no second node"),
    spec("skipped", "four", "no second node"),
    spec("passed", "of another driver", undefined, "CSI Volumes"),
    { ...setUp, State: "passed" },
  ]);
  expect(summary.passed).toBe(1);
  expect(summary.failed).toEqual([
    {
      name: "[Testpattern: Dynamic PV (ext4)] volumes two",
      state: "failed",
      durationMs: 12,
      message: "expected a pod",
    },
  ]);
  expect(summary.skipped).toEqual(new Map([["no second node", 2]]));
  expect(isGood(summary)).toBe(false);
  expect(formatSummary(summary)).toContain("1 passed, 1 failed, 0 failed for an explained reason, 2 skipped");
});

it.each(["timedout", "panicked", "interrupted", "aborted"])("takes %s for failed", (state) => {
  expect(summaryOf([spec(state, "one")]).failed).toHaveLength(1);
});

it("takes a set-up that failed for a failure", () => {
  expect(isGood(summaryOf([spec("passed", "one"), { ...setUp, State: "failed" }]))).toBe(false);
});

it("is not content with nothing", () => {
  expect(isGood(summaryOf([]))).toBe(false);
  expect(isGood(summaryOf([spec("skipped", "one", "no second node")]))).toBe(false);
  expect(isGood(summaryOf([spec("passed", "one")]))).toBe(true);
});

it("accepts a failure that is explained, and no explanation without a failure", () => {
  const explained = [{ name: "[Testpattern: Dynamic PV (ext4)] volumes two", reason: "the kernel's" }];
  const good = summaryOf([spec("passed", "one"), spec("failed", "two", "why")], { explained });
  expect(good.explainedFailures.map(({ reason }) => reason)).toEqual(["the kernel's"]);
  expect(isGood(good)).toBe(true);
  expect(isGood(summaryOf([spec("passed", "one"), spec("passed", "two")], { explained }))).toBe(false);
});

it("says why a test was not selected", () => {
  const leftOut = [{ expression: /SELinux/, reason: "no such node" }];
  const summary = summaryOf([spec("skipped", "with SELinux"), spec("skipped", "another")], { leftOut });
  expect([...summary.skipped.keys()].sort()).toEqual(["left out here: no such node", "not selected"]);
});

it("reads which groups of tests do not apply to the driver", () => {
  const line = (driver: string, reason: string): string =>
    `Skipping registration: [Testpattern: Dynamic PV (ntfs)] volumes [Driver: ${driver}] - ${reason}\n`;
  const output = line("nfs", "other") + line("csi.hawser.dev", "no ntfs") + line("csi.hawser.dev", "no ntfs");
  expect(unregisteredReasons(output, "csi.hawser.dev")).toEqual(new Map([["no ntfs", 2]]));
});
