import { scratchModule } from "./go-build.js";

it("repeats the replacements of a release, staging folders as the modules they are published as", () => {
  const text = scratchModule(
    { name: "kubernetes", module: "k8s.io/kubernetes", version: "v1.37.1", programs: {} },
    {
      Go: "1.26.0",
      Godebug: [{ Key: "default", Value: "go1.26" }],
      Replace: [
        { Old: { Path: "k8s.io/api" }, New: { Path: "./staging/src/k8s.io/api" } },
        { Old: { Path: "example.com/old" }, New: { Path: "example.com/new", Version: "v2.3.4" } },
      ],
    },
  );
  expect(text.split("\n")).toEqual([
    "module hawser-e2e-build",
    "go 1.26.0",
    "godebug default=go1.26",
    "require k8s.io/kubernetes v1.37.1",
    "replace k8s.io/api => k8s.io/api v0.37.1",
    "replace example.com/old => example.com/new v2.3.4",
    "",
  ]);
});

it("does without replacements where a release has none", () => {
  const build = { name: "helm", module: "helm.sh/helm/v3", version: "v3.22.0", programs: {} };
  expect(scratchModule(build, { Go: "1.25.0", Replace: null })).toBe(
    "module hawser-e2e-build\ngo 1.25.0\nrequire helm.sh/helm/v3 v3.22.0\n",
  );
});
