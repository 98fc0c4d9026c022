import { join } from "node:path";
import { buildGo } from "../cluster/go-build.js";
import { VERSIONS } from "../cluster/layout.js";

/** The suite and what it takes to run it, as paths of programs. */
export interface SuitePrograms {
  /** Kubernetes' end-to-end tests. */
  readonly e2e: string;
  /** Runs them in parallel. */
  readonly ginkgo: string;
  /** The program of the image that most tests start. */
  readonly agnhost: string;
}

/** Builds what is not in the cache, all from one release, so that they fit together. The first time takes minutes. */
export async function ensureSuite(): Promise<SuitePrograms> {
  const [major = "", minor = ""] = VERSIONS.kubernetes.slice(1).split(".");
  const folder = await buildGo({
    name: "kubernetes-e2e",
    module: "k8s.io/kubernetes",
    version: VERSIONS.kubernetes,
    programs: {
      ginkgo: "github.com/onsi/ginkgo/v2/ginkgo",
      agnhost: "k8s.io/kubernetes/test/images/agnhost",
    },
    tests: { "e2e.test": "k8s.io/kubernetes/test/e2e" },
    variables: {
      "k8s.io/component-base/version.gitVersion": VERSIONS.kubernetes,
      "k8s.io/component-base/version.gitMajor": major,
      "k8s.io/component-base/version.gitMinor": minor,
    },
  });
  return { e2e: join(folder, "e2e.test"), ginkgo: join(folder, "ginkgo"), agnhost: join(folder, "agnhost") };
}
